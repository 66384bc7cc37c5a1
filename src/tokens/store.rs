//! The statements on keys and signing keys.

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::{pg_sys, spi};
use supabase_pat_core::error::Error;
use supabase_pat_core::opaque_token::Digest;
use supabase_pat_core::rate::Limit;
use supabase_pat_core::scope::Scopes;
use supabase_pat_core::token::Kind;
use uuid::Uuid;

use crate::events::Actor;
use crate::pg::clock::{self, Instant};
use crate::pg::durability;
use crate::pg::json;
use crate::pg::net::Networks;
use crate::pg::relations;
use crate::pg::statement::Statement;
use crate::pg::uuid::pg_uuid;
use crate::request::caller::{self, Judged};
use crate::signing_keys::ring;
use crate::tokens::lookup;

/// A row to be added to `pat.api_keys`.
pub struct NewToken<'a> {
    pub id: Uuid,
    pub name: &'a str,
    pub scopes: &'a Scopes,
    pub hint: &'a str,
    pub created_at: Instant,
    pub expires_at: Instant,
    pub known_by: KnownBy,
    pub limits: Limits,
    pub provenance: Provenance,
}

/// What a token is recognised by when it comes.
pub enum KnownBy {
    /// The signature of a JWT: the id of the signing key, none for the configured secret.
    SigningKey(Option<String>),
    /// The text of an opaque token.
    Digest(Digest),
}

/// Where a token comes from, as far as it is remembered.
pub struct Provenance {
    /// The token of the request that made it.
    pub made_with: Option<Uuid>,
    /// What its token carries of the claims of a restricted login, a JSON object.
    pub claims: Option<String>,
}

/// From where a key may be used and how often.
#[derive(Clone, Copy)]
pub enum Limits {
    Of {
        allowed_ips: Option<Networks>,
        rate: Option<Limit>,
    },
    LikeThoseOf(Uuid),
}

/// What a rotation takes over from the key that it replaces.
pub struct ReplacedToken {
    pub name: String,
    pub kind: Kind,
    pub scopes: Scopes,
    /// Seconds from creation to expiry.
    pub lifetime: i64,
    /// What its token carries of the claims of a restricted login, a JSON object.
    pub claims: Option<String>,
}

/// That this transaction is about to give a user a key: it waits for those that give the same user one or revoke, and
/// for one that revokes a signing key, and they for it.
pub struct ToGrant(ToRevoke);

/// That this transaction is about to revoke keys of a user, and waits for those that give the same user one.
pub struct ToRevoke {
    user: Uuid,
}

use pg_sys::BuiltinOid::{
    BYTEAOID, CIDRARRAYOID, INT4OID, INTERVALOID, JSONBOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID,
    UUIDOID,
};

thread_local! {
    // A key and its event in one statement, which saves a third of the time of two.
    static INSERT: Statement = const { Statement::new(
        "with event as (insert into pat.events (event, happened_at, user_id, key_id, role, by_key, address) \
             values ('token_minted', $6, $2, $1, $9, $10, $11::pg_catalog.inet)) \
         insert into pat.api_keys (id, user_id, name, scopes, hint, created_at, expires_at, signing_key, \
             kind, token_digest, allowed_ips, rate_limit, rate_window) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, \
             case when $12 is null then 'jwt' else 'opaque' end, $12, $13, $14, $15)",
        &[
            UUIDOID, UUIDOID, TEXTOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID,
            TEXTOID, UUIDOID, TEXTOID, BYTEAOID, CIDRARRAYOID, INT4OID, INTERVALOID,
        ],
    ) };

    static INSERT_SUCCESSOR: Statement = const { Statement::new(
        "with event as (insert into pat.events (event, happened_at, user_id, key_id, role, by_key, address, detail) \
             values ('token_rotated', $6, $2, $1, $9, $10, $11::pg_catalog.inet, pg_catalog.concat('in the place of ', $13))) \
         insert into pat.api_keys (id, user_id, name, scopes, hint, created_at, expires_at, signing_key, \
             kind, token_digest, allowed_ips, rate_limit, rate_window) \
         select $1, $2, $3, $4, $5, $6, $7, $8, \
             old.kind, $12, old.allowed_ips, old.rate_limit, old.rate_window \
         from pat.api_keys as old where old.id operator(pg_catalog.=) $13",
        &[
            UUIDOID, UUIDOID, TEXTOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID,
            TEXTOID, UUIDOID, TEXTOID, BYTEAOID, UUIDOID,
        ],
    ) };

    static REVOKE: Statement = const { Statement::new(
        "with dead as (update pat.api_keys set revoked_at = $2 \
             where id operator(pg_catalog.=) $1 and revoked_at is null \
             and expires_at operator(pg_catalog.>) $2 \
             and ($3 is null or user_id operator(pg_catalog.=) $3) returning id, user_id) \
         insert into pat.events (event, happened_at, user_id, key_id, role, by_key, address) \
         select 'token_revoked', $2, user_id, id, $4, $5, $6::pg_catalog.inet from dead returning 1",
        &[UUIDOID, TIMESTAMPTZOID, UUIDOID, TEXTOID, UUIDOID, TEXTOID],
    ) };

    static REVOKE_ALL: Statement = const { Statement::new(
        "with dead as (update pat.api_keys set revoked_at = $2 \
             where user_id operator(pg_catalog.=) $1 and revoked_at is null \
             and expires_at operator(pg_catalog.>) $2 returning id, user_id) \
         insert into pat.events (event, happened_at, user_id, key_id, role, by_key, address) \
         select 'token_revoked', $2, user_id, id, $3, $4, $5::pg_catalog.inet from dead returning 1",
        &[UUIDOID, TIMESTAMPTZOID, TEXTOID, UUIDOID, TEXTOID],
    ) };

    // What a token has made, what that has made, and so on: also if those in between are dead or deleted.
    // By the index, each step of it: before the table is analyzed, a join would read all of it for each link of a chain.
    static REVOKE_FAMILY: Statement = const { Statement::new(
        "with recursive family as (\
             select $1 as id union \
             select child.key_id from family cross join lateral (\
                 select key_id from pat.api_key_origins \
                 where made_by operator(pg_catalog.=) family.id offset 0) as child), \
         dead as (update pat.api_keys set revoked_at = $2 \
             where id operator(pg_catalog.=) any (array(select id from family)) and revoked_at is null \
             and expires_at operator(pg_catalog.>) $2 \
             and user_id operator(pg_catalog.=) $3 returning id, user_id) \
         insert into pat.events (event, happened_at, user_id, key_id, role, by_key, address, detail) \
         select 'token_revoked', $2, user_id, id, $4, $5, $6::pg_catalog.inet, \
             case when id operator(pg_catalog.<>) $1 then pg_catalog.concat('made with ', $1) end \
         from dead returning 1",
        &[UUIDOID, TIMESTAMPTZOID, UUIDOID, TEXTOID, UUIDOID, TEXTOID],
    ) };

    static ADD_ORIGIN: Statement = const { Statement::new(
        "insert into pat.api_key_origins (key_id, user_id, made_by, claims) values ($1, $2, $3, $4)",
        &[UUIDOID, UUIDOID, UUIDOID, JSONBOID],
    ) };

    static MADE_FOR: Statement = const { Statement::new(
        "select user_id from pat.api_key_origins where made_by operator(pg_catalog.=) $1 limit 1",
        &[UUIDOID],
    ) };

    static CARRIED_CLAIMS: Statement = const { Statement::new(
        "select claims from pat.api_key_origins where key_id operator(pg_catalog.=) $1 and claims is not null",
        &[UUIDOID],
    ) };

    // The row of its last use is left to the writer: whoever deletes must not wait for it, nor fail because it
    // has written meanwhile.
    static KEY_DELETED: Statement = const { Statement::new(
        "insert into pat.events (event, user_id, key_id, role, by_key, address) \
         values ('token_deleted', $2, $1, $3, $4, $5::pg_catalog.inet)",
        &[UUIDOID, UUIDOID, TEXTOID, UUIDOID, TEXTOID],
    ) };

    // With a grace, the key lives on until its end, but is not rotated again.
    static REPLACE: Statement = const { Statement::new(
        "update pat.api_keys as key set replaced_by = $4, \
         revoked_at = case when $5 is null then $2 end, \
         expires_at = case when $5 operator(pg_catalog.<) key.expires_at then $5 else key.expires_at end \
         from pat.api_keys as old \
         where key.id operator(pg_catalog.=) $1 and old.id operator(pg_catalog.=) key.id \
         and key.revoked_at is null and key.replaced_by is null \
         and key.expires_at operator(pg_catalog.>) $2 \
         and key.user_id operator(pg_catalog.=) $3 \
         returning old.name, old.scopes, old.created_at, old.expires_at, old.kind",
        &[UUIDOID, TIMESTAMPTZOID, UUIDOID, UUIDOID, TIMESTAMPTZOID],
    ) };

}

/// Gives the user a key. What grants is judged behind all locks, so there is no way here without.
pub fn insert(to_grant: &Judged<ToGrant>, new: &NewToken) -> Result<(), Error> {
    insert_row(to_grant.user(), new)?;
    let Provenance { made_with, claims } = &new.provenance;
    if made_with.is_none() && claims.is_none() {
        return Ok(());
    }
    if !has_origins() {
        // Until the extension is updated, what a token makes is known from its event alone.
        return match claims {
            Some(_) => Err(Error::OldSchema),
            None => Ok(()),
        };
    }
    let arguments = [
        uuid(new.id),
        uuid(to_grant.user()),
        made_with.map(pg_uuid).into(),
        claims.clone().map(json::JsonbText).into(),
    ];
    ADD_ORIGIN.with(|statement| statement.run(&arguments, |_| Ok(())))
}

fn has_origins() -> bool {
    relations::find_table(c"pat", c"api_key_origins").is_some()
}

fn insert_row(user: Uuid, new: &NewToken) -> Result<(), Error> {
    let actor = Actor::now();
    let [role, by_key, address] = actor.arguments();
    let (signing_key, digest) = match &new.known_by {
        KnownBy::SigningKey(id) => (id.as_deref(), None),
        KnownBy::Digest(digest) => (None, Some(digest.0.to_vec())),
    };
    let mut arguments = vec![
        uuid(new.id),
        uuid(user),
        new.name.into(),
        new.scopes.to_texts().into(),
        new.hint.into(),
        new.created_at.to_timestamp()?.into(),
        new.expires_at.to_timestamp()?.into(),
        signing_key.into(),
        role,
        by_key,
        address,
        digest.into(),
    ];
    let (allowed_ips, rate) = match new.limits {
        Limits::Of { allowed_ips, rate } => (allowed_ips, rate),
        Limits::LikeThoseOf(old) => {
            arguments.push(uuid(old));
            return INSERT_SUCCESSOR.with(|statement| statement.run(&arguments, |_| Ok(())));
        }
    };
    let window = rate.and_then(|rate| clock::interval(rate.seconds()));
    arguments.push(match allowed_ips {
        Some(networks) => networks.as_argument(),
        None => DatumWithOid::null_oid(pg_sys::CIDRARRAYOID),
    });
    arguments.push(rate.map(|rate| rate.requests as i32).into());
    arguments.push(window.into());
    INSERT.with(|statement| statement.run(&arguments, |_| Ok(())))
}

/// What is left to do when a key has been deleted.
pub fn key_was_deleted(id: Uuid, user: Uuid) -> Result<(), Error> {
    let actor = Actor::now();
    let [role, by_key, address] = actor.arguments();
    let arguments = [uuid(id), uuid(user), role, by_key, address];
    KEY_DELETED.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    durability::of_revocation()
}

/// Revokes a live key, with the `others` that were made with it if they are to go too, and tells whether any was live.
pub fn revoke(to_revoke: &ToRevoke, id: Uuid, others: Others, now: Instant) -> Result<bool, Error> {
    let actor = Actor::now();
    let [role, by_key, address] = actor.arguments();
    let arguments = [
        uuid(id),
        now.to_timestamp()?.into(),
        uuid(to_revoke.user),
        role,
        by_key,
        address,
    ];
    durability::of_revocation()?;
    let statement = match others {
        Others::GoToo if has_origins() => &REVOKE_FAMILY,
        Others::GoToo | Others::Stay => &REVOKE,
    };
    statement
        .with(|statement| statement.run_on_latest(&arguments))
        .map(|count| count > 0)
}

/// What becomes of the keys that were made with one that is revoked.
#[derive(Clone, Copy)]
pub enum Others {
    Stay,
    GoToo,
}

/// Whose key it is, dead or alive, or was before it was deleted, as long as something that was made with it tells. The
/// owner of a key never changes.
pub fn owner_of(id: Uuid) -> Option<Uuid> {
    if let Some(user) = lookup::owner_of(id) {
        return Some(user);
    }
    if !has_origins() {
        return None;
    }
    let user = MADE_FOR.with(|statement| {
        statement.run(&[uuid(id)], |rows| match rows.is_empty() {
            true => Ok(None),
            false => rows.first().get_one::<PgUuid>(),
        })
    });
    let user = user.ok().flatten()?;
    Some(Uuid::from_bytes(*user.as_bytes()))
}

/// Revokes a key of whomever, and what was made with it.
pub fn revoke_family(id: Uuid, now: Instant) -> Result<bool, Error> {
    match owner_of(id) {
        Some(user) => revoke(&lock_to_revoke(user), id, Others::GoToo, now),
        None => Ok(false),
    }
}

/// Revokes all live keys of the user, and tells how many there were.
pub fn revoke_all(to_revoke: &ToRevoke, now: Instant) -> Result<usize, Error> {
    let actor = Actor::now();
    let [role, by_key, address] = actor.arguments();
    let arguments = [
        uuid(to_revoke.user),
        now.to_timestamp()?.into(),
        role,
        by_key,
        address,
    ];
    durability::of_revocation()?;
    REVOKE_ALL.with(|statement| statement.run_on_latest(&arguments))
}

/// Ends a live key of the user in favour of `successor`: at once, or at the end of a grace. `None` if
/// there is no such key, or it has been replaced before.
pub fn replace(
    to_grant: &Judged<ToGrant>,
    id: Uuid,
    successor: Uuid,
    now: Instant,
    grace_ends: Option<Instant>,
) -> Result<Option<ReplacedToken>, Error> {
    let grace_ends = grace_ends.map(Instant::to_timestamp).transpose()?;
    let arguments = [
        uuid(id),
        now.to_timestamp()?.into(),
        uuid(to_grant.user()),
        uuid(successor),
        grace_ends.into(),
    ];
    durability::of_revocation()?;
    let claims = match has_origins() {
        true => CARRIED_CLAIMS.with(|statement| {
            statement.run(&[uuid(id)], |rows| match rows.is_empty() {
                true => Ok(None),
                false => rows.first().get_one::<json::JsonbText>(),
            })
        })?,
        false => None,
    };
    REPLACE.with(|statement| {
        statement.run(&arguments, |rows| {
            let row = rows.first();
            if row.is_empty() {
                return Ok(None);
            }
            let time = |column| -> spi::Result<Option<Instant>> {
                let time = row.get::<TimestampWithTimeZone>(column)?;
                Ok(time.map(Instant::from_timestamp))
            };
            let kind = row.get::<String>(5)?.and_then(|kind| kind.parse().ok());
            let (Some(name), Some(created), Some(expires), Some(kind)) =
                (row.get::<String>(1)?, time(3)?, time(4)?, kind)
            else {
                return Ok(None); // no column of these is null
            };
            let scopes = match row.get::<Vec<Option<String>>>(2)? {
                Some(texts) => Scopes::known(texts.iter().flatten().map(String::as_str)),
                None => Scopes::Unlimited,
            };
            Ok(Some(ReplacedToken {
                name,
                kind,
                scopes,
                lifetime: expires.seconds_since(created),
                claims: claims.map(|json::JsonbText(claims)| claims),
            }))
        })
    })
}

impl ToGrant {
    pub fn user(&self) -> Uuid {
        self.0.user
    }
}

/// Makes this transaction and those that give the same user a token wait for each other: see [`caller::lock_user`].
pub fn lock_to_revoke(user: Uuid) -> ToRevoke {
    caller::lock_user(user);
    ToRevoke { user }
}

/// As [`lock_to_revoke`], and the signing keys besides, before it.
pub fn lock_to_grant(user: Uuid) -> ToGrant {
    ring::lock_to_sign();
    ToGrant(lock_to_revoke(user))
}

fn uuid(value: Uuid) -> DatumWithOid<'static> {
    pg_uuid(value).into()
}
