//! The statements on signing keys.

use pgrx::pg_sys::BuiltinOid::{TEXTOID, TIMESTAMPTZOID, UUIDOID};
use supabase_pat_core::error::Error;
use supabase_pat_core::key_ring::Status;
use supabase_pat_core::signing_key::SigningKey;

use super::ring;
use crate::events::Actor;
use crate::pg::clock::Instant;
use crate::pg::durability;
use crate::pg::statement::Statement;

thread_local! {
    static ADD: Statement = const { Statement::new(
        "with key as (insert into pat.signing_keys (kid, algorithm) \
         values ($1, $2) on conflict (kid) do nothing returning kid) \
         insert into pat.private_keys (kid, jwk) select kid, pat.take_private_jwk() from key returning 1",
        &[TEXTOID, TEXTOID],
    ) };

    static STATUS: Statement = const { Statement::new(
        "select status from pat.signing_keys where kid operator(pg_catalog.=) $1",
        &[TEXTOID],
    ) };

    static ROTATE: Statement = const { Statement::new(
        "update pat.signing_keys set \
         status = case when kid operator(pg_catalog.=) $1 then 'current' else 'previous' end, \
         activated_at = case when kid operator(pg_catalog.=) $1 then $2 else activated_at end \
         where kid operator(pg_catalog.=) $1 or status operator(pg_catalog.=) 'current'",
        &[TEXTOID, TIMESTAMPTZOID],
    ) };

    static REVOKE: Statement = const { Statement::new(
        "update pat.signing_keys set status = 'revoked', revoked_at = $2 \
         where kid operator(pg_catalog.=) $1",
        &[TEXTOID, TIMESTAMPTZOID],
    ) };

    static REVOKE_SIGNED_WITH: Statement = const { Statement::new(
        "with dead as (update pat.api_keys set revoked_at = $2 \
             where signing_key operator(pg_catalog.=) $1 and revoked_at is null \
             and expires_at operator(pg_catalog.>) $2 returning id, user_id) \
         insert into pat.events (event, happened_at, user_id, key_id, role, by_key, address, detail) \
         select 'token_revoked', $2, user_id, id, $3, $4, $5::pg_catalog.inet, \
             pg_catalog.concat('with signing key ', $1) from dead returning 1",
        &[TEXTOID, TIMESTAMPTZOID, TEXTOID, UUIDOID, TEXTOID],
    ) };
}

/// Adds a signing key on standby. Returns false if there is already one of that id.
pub fn add(id: &str, key: &SigningKey) -> Result<bool, Error> {
    let arguments = [id.into(), key.algorithm().as_str().into()];
    ring::with_private_jwk(key, || {
        ADD.with(|statement| statement.run(&arguments, |rows| Ok(!rows.is_empty())))
    })
}

/// The status of a signing key, `None` if there is none of that id.
pub fn status_of(id: &str) -> Result<Option<Status>, Error> {
    STATUS.with(|statement| {
        statement.run(&[id.into()], |rows| {
            if rows.is_empty() {
                return Ok(None);
            }
            let status = rows.first().get_one::<String>()?;
            Ok(status.and_then(|status| status.parse().ok()))
        })
    })
}

/// Makes a signing key the current one, and the one that was current a previous one.
pub fn rotate(id: &str, now: Instant) -> Result<(), Error> {
    let arguments = [id.into(), now.to_timestamp()?.into()];
    ROTATE.with(|statement| statement.run(&arguments, |_| Ok(())))
}

/// Revokes a signing key, and the personal access tokens that were signed with it.
pub fn revoke(id: &str, now: Instant) -> Result<(), Error> {
    durability::of_revocation()?;
    let now = now.to_timestamp()?;
    REVOKE.with(|statement| statement.run(&[id.into(), now.into()], |_| Ok(())))?;
    let actor = Actor::now();
    let [role, by_token, address] = actor.arguments();
    let arguments = [id.into(), now.into(), role, by_token, address];
    REVOKE_SIGNED_WITH.with(|statement| statement.run_on_latest(&arguments))?;
    Ok(())
}
