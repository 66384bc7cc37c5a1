//! How tokens are revoked: one, one with all that were made with it, or all of a user.

use pgrx::datum::Uuid as PgUuid;
use pgrx::pg_sys::BuiltinOid::{TEXTOID, TIMESTAMPTZOID, UUIDARRAYOID, UUIDOID};
use supabase_pat_core::error::Error;
use uuid::Uuid;

use super::lookup;
use super::store::{ToRevoke, has_origins, lock_family};
use crate::events::Actor;
use crate::notices;
use crate::pg::clock::Instant;
use crate::pg::durability;
use crate::pg::statement::Statement;
use crate::pg::uuid::pg_uuid;

thread_local! {
    static REVOKE: Statement = const { Statement::new(
        "with dead as (update pat.api_keys set revoked_at = $2 \
             where id operator(pg_catalog.=) $1 and revoked_at is null \
             and expires_at operator(pg_catalog.>) $2 \
             and user_id operator(pg_catalog.=) any ($3) returning id, user_id) \
         insert into pat.events (event, happened_at, user_id, key_id, role, by_key, address, detail) \
         select 'token_revoked', $2, user_id, id, $4, $5, $6::pg_catalog.inet, $7 from dead returning 1",
        &[UUIDOID, TIMESTAMPTZOID, UUIDARRAYOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID],
    ) };

    static REVOKE_ALL: Statement = const { Statement::new(
        "with dead as (update pat.api_keys set revoked_at = $2 \
             where user_id operator(pg_catalog.=) $1 and revoked_at is null \
             and expires_at operator(pg_catalog.>) $2 returning id, user_id) \
         insert into pat.events (event, happened_at, user_id, key_id, role, by_key, address, detail) \
         select 'token_revoked', $2, user_id, id, $3, $4, $5::pg_catalog.inet, $6 from dead returning 1",
        &[UUIDOID, TIMESTAMPTZOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID],
    ) };

    // The tokens that a token has made, those that they have made, and so on, also if those in between are dead or
    // deleted. Each step uses the index: before the table is analyzed, a join would read all of it for each link of a
    // chain.
    static REVOKE_FAMILY: Statement = const { Statement::new(
        "with recursive family as (\
             select $1 as id union \
             select child.key_id from family cross join lateral (\
                 select key_id from pat.api_key_origins \
                 where made_by operator(pg_catalog.=) family.id offset 0) as child), \
         dead as (update pat.api_keys set revoked_at = $2 \
             where id operator(pg_catalog.=) any (array(select id from family)) and revoked_at is null \
             and expires_at operator(pg_catalog.>) $2 \
             and user_id operator(pg_catalog.=) any ($3) returning id, user_id) \
         insert into pat.events (event, happened_at, user_id, key_id, role, by_key, address, detail) \
         select 'token_revoked', $2, user_id, id, $4, $5, $6::pg_catalog.inet, \
             case when id operator(pg_catalog.<>) $1 then pg_catalog.concat('made with ', $1) else $7 end \
         from dead returning 1",
        &[UUIDOID, TIMESTAMPTZOID, UUIDARRAYOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID],
    ) };

    static MADE_FOR: Statement = const { Statement::new(
        "select user_id from pat.api_key_origins where made_by operator(pg_catalog.=) $1 limit 1",
        &[UUIDOID],
    ) };
}

/// Revokes a token, and the `others` that were made with it if they are to go too, also those of other users: then the
/// lock is that of [`store::lock_family`]. Returns whether any of them was live.
///
/// [`store::lock_family`]: super::store::lock_family
pub fn revoke(to_revoke: &ToRevoke, id: Uuid, others: Others, now: Instant) -> Result<bool, Error> {
    let actor = Actor::now();
    let [role, by_token, address] = actor.arguments();
    let users: Vec<PgUuid> = to_revoke.users().into_iter().map(pg_uuid).collect();
    let arguments = [
        pg_uuid(id).into(),
        now.to_timestamp()?.into(),
        users.into(),
        role,
        by_token,
        address,
        actor.other_than(to_revoke.user()).into(),
    ];
    durability::of_revocation()?;
    let statement = match others {
        Others::GoToo if has_origins() => &REVOKE_FAMILY,
        Others::GoToo | Others::Stay => &REVOKE,
    };
    let count =
        notices::attributed(|| statement.with(|statement| statement.run_on_latest(&arguments)))?;
    Ok(count > 0)
}

/// What becomes of the tokens that were made with one that is revoked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Others {
    Stay,
    GoToo,
}

/// The user of a token, dead or alive. Of a token that has been deleted the user is known as long as there is a token
/// that was made with it. The user of a token never changes.
///
/// # Errors
/// Those of [`Statement::run`].
pub fn last_known_owner(id: Uuid) -> Result<Option<Uuid>, Error> {
    if let Some(user) = lookup::owner_of(id) {
        return Ok(Some(user));
    }
    if !has_origins() {
        return Ok(None);
    }
    if let Some(user) = lookup::owner_by_origin(id) {
        return Ok(Some(user));
    }
    // A token that has made one for another user has been found already.
    let user = MADE_FOR.with(|statement| {
        statement.run(&[pg_uuid(id).into()], |rows| match rows.is_empty() {
            true => Ok(None),
            false => rows.first().get_one::<PgUuid>(),
        })
    })?;
    Ok(user.map(|user| Uuid::from_bytes(*user.as_bytes())))
}

/// Revokes a token of whatever user, and all tokens that were made with it. Returns whether any of them was live.
pub fn revoke_family(id: Uuid, now: Instant) -> Result<bool, Error> {
    match last_known_owner(id)? {
        Some(user) => revoke(&lock_family(None, user, id), id, Others::GoToo, now),
        None => Ok(false),
    }
}

/// Revokes all live tokens of the user, and tells how many there were.
pub fn revoke_all(to_revoke: &ToRevoke, now: Instant) -> Result<usize, Error> {
    let actor = Actor::now();
    let [role, by_token, address] = actor.arguments();
    let arguments = [
        pg_uuid(to_revoke.user()).into(),
        now.to_timestamp()?.into(),
        role,
        by_token,
        address,
        actor.other_than(to_revoke.user()).into(),
    ];
    durability::of_revocation()?;
    notices::attributed(|| REVOKE_ALL.with(|statement| statement.run_on_latest(&arguments)))
}
