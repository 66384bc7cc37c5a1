//! Personal access tokens: mint, rotate, revoke, and what a policy asks about them.
//! `is_valid_api_token()` and `pat.uid()` are in [`crate::request::policy`].

mod deletion;
pub mod lookup;
pub mod store;

use pgrx::datum::{Interval, Uuid as PgUuid};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::claims::Credential;
use supabase_pat_core::error::Error;
use supabase_pat_core::jwt::{self, TokenPayload};
use supabase_pat_core::opaque_token::OpaqueToken;
use supabase_pat_core::rate::Limit;
use supabase_pat_core::restrictions::Restrictions;
use supabase_pat_core::scope::{Scope, Scopes};
use supabase_pat_core::token::{self, Kind};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::pg::clock::{self, Instant};
use crate::pg::composite;
use crate::pg::error::{SqlResult, reported};
use crate::pg::net::Networks;
use crate::pg::random;
use crate::pg::rights;
use crate::pg::settings;
use crate::pg::uuid::{pg_uuid, to_uuid};
use crate::request::caller::{self, Caller, Judged};
use crate::request::run;
use crate::signing_keys::ring;
use store::{Limits, NewKey, Origin, Others, ToGrant};

const MINT: &str = "mint tokens";
const ROTATE: &str = "rotate tokens";

// SQL names its arguments.
#[allow(clippy::too_many_arguments)]
#[pg_extern(schema = "public", requires = ["schema"])]
fn mint_pat(
    user_id: default!(Option<PgUuid>, "NULL"),
    name: default!(Option<&str>, "NULL"),
    expires_in: default!(Option<Interval>, "NULL"),
    scopes: default!(Option<Vec<Option<String>>>, "NULL"),
    kind: default!(Option<&str>, "'jwt'"),
    allowed_ips: default!(Option<Networks>, "NULL"),
    rate_limit: default!(Option<i32>, "NULL"),
    rate_window: default!(Option<Interval>, "'1 minute'"),
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "public.minted_pat"), ErrorReport> {
    reported(|| {
        rights::require_writable("minting a token")?;
        let caller = Caller::now()?;
        let user = caller.owner_for("mint", user_id.map(to_uuid))?;
        let scopes = requested_scopes(scopes.as_deref())?;
        caller.check_may_grant(MINT, &scopes)?;

        let name = name.ok_or(Error::NullArgument("name"))?;
        token::check_name(name, settings::max_name_length())?;
        let kind = kind.ok_or(Error::NullArgument("kind"))?.parse()?;
        let limits = Limits::Of {
            allowed_ips: allowed_ips.map(Networks::check).transpose()?,
            rate: requested_rate(rate_limit, rate_window)?,
        };
        expiry(Instant::now(), expires_in)?;

        let to_grant = caller.judged_after(store::lock_to_grant(user))?;
        caller.check_may_grant(MINT, &scopes)?;
        let restrictions = caller.restrictions(MINT, user, &scopes)?;
        let now = Instant::now();
        let expires_at = expiry(now, expires_in)?;
        let id = token::new_id(now.unix_millis(), &random::bytes()?);
        issue(
            call,
            (&caller, &to_grant),
            id,
            (name, kind),
            (&scopes, &restrictions),
            limits,
            (now, expires_at),
        )
    })
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn rotate_pat(
    id: Option<PgUuid>,
    grace: default!(Option<Interval>, "'0'"),
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "public.minted_pat"), ErrorReport> {
    reported(|| {
        rights::require_writable("rotating a token")?;
        let caller = Caller::now()?;
        let old_id = to_uuid(id.ok_or(Error::NullArgument("id"))?);
        let owner = caller.owner_filter()?;
        caller.check_may_grant(ROTATE, &Scopes::Only(Vec::new()))?;

        let grace = grace.ok_or(Error::NullArgument("grace"))?;
        grace_end(Instant::now(), grace)?;
        let user = owner
            .or_else(|| lookup::owner_of(old_id))
            .ok_or(Error::NoLiveKey(old_id))?;

        let to_grant = caller.judged_after(store::lock_to_grant(user))?;
        let now = Instant::now();
        let grace_ends = grace_end(now, grace)?;
        let new_id = token::new_id(now.unix_millis(), &random::bytes()?);
        let old = store::replace(&to_grant, old_id, new_id, now, grace_ends)?
            .ok_or(Error::NoLiveKey(old_id))?;
        caller.check_may_grant(ROTATE, &old.scopes)?;
        let restrictions = caller.restrictions(ROTATE, user, &old.scopes)?;
        let restrictions = match &old.claims {
            Some(claims) => restrictions.with_those_of(claims)?,
            None => restrictions,
        };
        let lifetime = old.lifetime.clamp(1, settings::max_lifetime());
        let expires_at = now.floor_to_second().plus_seconds(lifetime);
        let limits = Limits::LikeThoseOf(old_id);
        issue(
            call,
            (&caller, &to_grant),
            new_id,
            (&old.name, old.kind),
            (&old.scopes, &restrictions),
            limits,
            (now, expires_at),
        )
    })
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn revoke_pat(id: Option<PgUuid>) -> SqlResult<bool> {
    reported(|| revoke(id, Others::Stay))
}

// A function of its own, and no default of the first: that one keeps the privileges that operators gave it or took.
#[pg_extern(schema = "public", name = "revoke_pat", requires = ["schema"])]
fn revoke_pat_and_its_own(id: Option<PgUuid>, cascade: Option<bool>) -> SqlResult<bool> {
    reported(|| match cascade.ok_or(Error::NullArgument("cascade"))? {
        true => revoke(id, Others::GoToo),
        false => revoke(id, Others::Stay),
    })
}

fn revoke(id: Option<PgUuid>, others: Others) -> Result<bool, Error> {
    rights::require_writable("revoking a token")?;
    let caller = Caller::now()?;
    let id = to_uuid(id.ok_or(Error::NullArgument("id"))?);
    let owner = caller.owner_filter()?;
    caller.check_may_revoke(match others {
        Others::Stay => Some(id),
        Others::GoToo => None,
    })?;
    let user = match store::owner_of(id) {
        Some(user) if owner.is_none_or(|owner| owner == user) => user,
        _ => return Ok(false),
    };
    let to_revoke = caller.judged_after(store::lock_to_revoke(user))?;
    store::revoke(&to_revoke, id, others, Instant::now())
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn revoke_all_pats(user_id: default!(Option<PgUuid>, "NULL")) -> SqlResult<i32> {
    reported(|| {
        rights::require_writable("revoking tokens")?;
        let caller = Caller::now()?;
        let user = caller.owner_for("revoke", user_id.map(to_uuid))?;
        caller.check_may_revoke(None)?;
        let to_revoke = caller.judged_after(store::lock_to_revoke(user))?;
        Ok(store::revoke_all(&to_revoke, Instant::now())? as i32)
    })
}

#[pg_extern(schema = "public", stable, parallel_safe, cost = 4, requires = ["schema"])]
fn has_scope(scope: &str) -> SqlResult<bool> {
    reported(|| {
        let scope: Scope = scope.parse()?;
        Ok(run::with_request(|request| request.has_scope(&scope)))
    })
}

#[pg_extern(schema = "public", stable, parallel_safe, requires = ["schema"])]
fn current_api_key_id() -> Option<PgUuid> {
    run::with_request(|request| match &request.identity.credential {
        Credential::Token(token) => Some(pg_uuid(token.key_id)),
        _ => None,
    })
}

/// Registers a key and signs its token.
fn issue(
    call: pg_sys::FunctionCallInfo,
    (caller, to_grant): (&Caller, &Judged<ToGrant>),
    id: Uuid,
    (name, kind): (&str, Kind),
    (scopes, restrictions): (&Scopes, &Restrictions),
    limits: Limits,
    (now, expires_at): (Instant, Instant),
) -> Result<PgHeapTuple<'static, AllocatedByRust>, Error> {
    let user = to_grant.user();
    let (state, live_keys) = lookup::standing_of(user)?;
    caller::require_active(user, state)?;
    let max = settings::max_keys_per_user();
    if live_keys >= max {
        return Err(Error::TooManyKeys { user, max });
    }
    let mut new = NewKey {
        id,
        name,
        scopes,
        hint: "",
        created_at: now,
        expires_at,
        signing_key: None,
        token_digest: None,
        limits,
        origin: Origin {
            made_by: caller.token_id(),
            claims: restrictions.carried().to_json()?,
        },
    };
    let token = match kind {
        Kind::Jwt => {
            let signing_key = ring::signing_key()?;
            let (role, issuer) = (settings::authenticated_role(), settings::issuer());
            let payload = TokenPayload::new(
                user,
                id,
                scopes,
                (&role, &issuer),
                (now.unix_seconds(), expires_at.unix_seconds()),
            )
            .restricted_as(restrictions);
            let token = Zeroizing::new(jwt::sign(&payload, &signing_key)?);
            new.hint = token::hint(&token);
            new.signing_key = signing_key.id();
            store::insert(to_grant, &new)?;
            token
        }
        // Its claims are those that the gate gives it.
        Kind::Opaque if restrictions.kind().is_some() => return Err(Error::RestrictedOpaque),
        Kind::Opaque => {
            let token = OpaqueToken::new(&random::bytes()?)
                .ok_or_else(|| Error::Internal("the random bytes are none".into()))?;
            new.hint = token::hint(token.expose());
            new.token_digest = Some(token.digest());
            store::insert(to_grant, &new)?;
            Zeroizing::new(token.expose().to_owned())
        }
    };
    let fields = [
        token.as_str().into_datum(),
        pg_uuid(id).into_datum(),
        name.into_datum(),
        expires_at.to_timestamp()?.into_datum(),
    ];
    composite::result_row(call, fields)
}

fn requested_scopes(scopes: Option<&[Option<String>]>) -> Result<Scopes, Error> {
    let Some(scopes) = scopes else {
        return Ok(Scopes::Unlimited);
    };
    let texts: Option<Vec<&str>> = scopes.iter().map(Option::as_deref).collect();
    Scopes::requested(texts.ok_or(Error::NullArgument("a scope"))?)
}

fn requested_rate(limit: Option<i32>, window: Option<Interval>) -> Result<Option<Limit>, Error> {
    let Some(limit) = limit else {
        return Ok(None);
    };
    let window = window.ok_or(Error::NullArgument("rate_window"))?;
    let micros = match clock::is_infinite(&window) {
        true => i64::MAX,
        false => i64::try_from(window.as_micros()).unwrap_or(i64::MAX),
    };
    Limit::requested(limit, micros).map(Some)
}

/// When a token that is minted now expires, on a full second.
fn expiry(now: Instant, expires_in: Option<Interval>) -> Result<Instant, Error> {
    let max = settings::max_lifetime();
    let Some(expires_in) = expires_in else {
        let lifetime = settings::default_lifetime().min(max);
        return Ok(now.floor_to_second().plus_seconds(lifetime));
    };
    const DAY: i64 = 86_400;
    let too_long = Error::LifetimeTooLong { max_seconds: max };
    if clock::is_infinite(&expires_in) {
        return Err(Error::LifetimeInfinite);
    }
    // Far from what a calendar can add, and from what any limit allows.
    if expires_in.as_micros().unsigned_abs() > 1000 * 365 * 86_400_000_000 {
        return Err(match expires_in.as_micros() > 0 {
            true => too_long,
            false => Error::LifetimeTooShort,
        });
    }
    let expires_at = now.plus(expires_in).floor_to_second();
    if expires_at <= now {
        return Err(Error::LifetimeTooShort);
    }
    // '1 year' may be 366 days, and a limit of 365 days means a year.
    let whole_years = match max % (365 * DAY) {
        0 => now.plus(Interval::from_years((max / (365 * DAY)) as i32)),
        _ => now,
    };
    match expires_at <= now.plus_seconds(max).max(whole_years) {
        true => Ok(expires_at),
        false => Err(too_long),
    }
}

/// When the grace of a rotated key ends, `None` for at once.
fn grace_end(now: Instant, grace: Interval) -> Result<Option<Instant>, Error> {
    if clock::is_infinite(&grace) || grace.as_micros() < 0 {
        return Err(Error::GraceOutOfRange);
    }
    match grace.as_micros() {
        0 => Ok(None),
        // The key's own expiry comes first anyway.
        micros if micros > 1000 * 365 * 86_400_000_000 => {
            Ok(Some(now.plus_seconds(1000 * 365 * 86_400)))
        }
        _ => Ok(Some(now.plus(grace))),
    }
}
