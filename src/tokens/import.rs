//! Tokens that another system has minted, and of which it has kept the SHA-256: they go on working as opaque tokens.

use pgrx::datum::{DatumWithOid, Interval, TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid::{
    BYTEAOID, CIDRARRAYOID, INT4OID, INTERVALOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, UUIDOID,
};
use pgrx::prelude::*;
use supabase_pat_core::error::Error;
use supabase_pat_core::presented;
use supabase_pat_core::rate::Which;
use supabase_pat_core::token;

use super::lookup;
use super::mint::{requested_limit, requested_scopes};
use super::store;
use crate::events::Actor;
use crate::pg::clock::{self, Instant};
use crate::pg::error::{SqlResult, reported};
use crate::pg::net::Networks;
use crate::pg::statement::Statement;
use crate::pg::uuid::{pg_uuid, to_uuid};
use crate::pg::{random, rights, settings};
use crate::request::caller::Caller;
use crate::users::state::{UserState, state_of_user};

thread_local! {
    // The index, and not the transaction's snapshot, knows whether the token is there: so the same import can be made
    // twice, and at the same time.
    static INSERT: Statement = const { Statement::new(
        "with new as (insert into pat.api_keys (id, user_id, name, scopes, created_at, expires_at, kind, token_digest, \
                 allowed_ips, rate_limit, rate_window) \
             values ($1, $2, $3, $4, $5, $6, 'opaque', $7, $8, $9, $10) \
             on conflict (token_digest) where token_digest is not null do nothing returning id, user_id), \
         event as (insert into pat.events (event, user_id, key_id, role, by_key, address) \
             select 'token_imported', user_id, id, $11, $12, $13::pg_catalog.inet from new) \
         select from new",
        &[
            UUIDOID, UUIDOID, TEXTOID, TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BYTEAOID, CIDRARRAYOID, INT4OID,
            INTERVALOID, TEXTOID, UUIDOID, TEXTOID,
        ],
    ) };
}

// SQL names its arguments.
#[allow(clippy::too_many_arguments)]
#[pg_extern(requires = ["schema"])]
fn import_token(
    user_id: Option<PgUuid>,
    name: Option<&str>,
    digest: Option<&str>,
    scopes: default!(Option<Vec<Option<String>>>, "NULL"),
    expires_at: default!(Option<TimestampWithTimeZone>, "NULL"),
    created_at: default!(Option<TimestampWithTimeZone>, "NULL"),
    allowed_ips: default!(Option<Networks>, "NULL"),
    rate_limit: default!(Option<i32>, "NULL"),
    rate_window: default!(Option<Interval>, "'1 minute'"),
) -> SqlResult<PgUuid> {
    reported(|| {
        rights::require_trusted("import tokens")?;
        rights::require_writable("importing a token")?;
        let user = to_uuid(user_id.ok_or(Error::NullArgument("user_id"))?);
        let name = name.ok_or(Error::NullArgument("name"))?;
        let name = token::fit_name(name, settings::max_name_length());
        let digest = presented::read_digest(digest.ok_or(Error::NullArgument("digest"))?)
            .ok_or(Error::UnreadableDigest)?;
        let scopes = requested_scopes(scopes.as_deref())?;
        let networks = allowed_ips.map(Networks::check).transpose()?;
        let rate = requested_limit(Which::Rate, rate_limit, rate_window)?;

        let caller = Caller::now()?;
        let to_grant = caller.judged_after(store::lock_to_grant(&caller, user))?;
        // A ban may end, so that the user of an imported token may be banned.
        if state_of_user(user)? == UserState::Gone {
            return Err(Error::UnknownUser(user));
        }
        let now = Instant::now();
        let id = token::new_id(now.unix_millis(), &random::bytes()?);
        let epoch = Instant::from_unix_seconds(0);
        let created_at = created_at.map_or(now, Instant::from_timestamp);
        let expires_at = match expires_at.map(Instant::from_timestamp) {
            None => now
                .plus_seconds(settings::default_lifetime())
                .floor_to_second(),
            Some(Instant::END) => Instant::END,
            Some(time) => time.max(epoch).floor_to_second(),
        };
        let actor = Actor::now();
        let [role, by_token, address] = actor.arguments();
        let arguments = [
            pg_uuid(id).into(),
            pg_uuid(to_grant.user()).into(),
            name.as_str().into(),
            scopes.to_texts().into(),
            created_at.min(now).max(epoch).to_timestamp()?.into(),
            expires_at.to_timestamp()?.into(),
            digest.0.to_vec().into(),
            networks.map_or_else(
                || DatumWithOid::null_oid(pg_sys::CIDRARRAYOID),
                Networks::as_argument,
            ),
            rate.map(|rate| rate.requests as i32).into(),
            rate.and_then(|rate| clock::interval(rate.seconds())).into(),
            role,
            by_token,
            address,
        ];
        let is_new =
            INSERT.with(|statement| statement.run(&arguments, |rows| Ok(!rows.is_empty())))?;
        if is_new {
            return Ok(pg_uuid(id));
        }
        match lookup::by_digest(&digest) {
            Some(token) if token.user == user => Ok(pg_uuid(token.id)),
            _ => Err(Error::DigestTaken),
        }
    })
}
