//! Personal access tokens: mint, rotate, revoke, and what a policy asks about them.
//! `is_valid_api_token()` and `pat.uid()` are in [`crate::pg::policy`].

use pgrx::datum::{Interval, Uuid as PgUuid};
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::claims::{Credential, TokenClaims};
use supabase_pat_core::error::Error;
use supabase_pat_core::jwt::{self, TokenPayload};
use supabase_pat_core::key::{self, Kind};
use supabase_pat_core::opaque_token::OpaqueToken;
use supabase_pat_core::rate::Limit;
use supabase_pat_core::scope::{Scope, Scopes, TOKENS_WRITE};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::pg::clock::{self, Instant};
use crate::pg::error::{SqlResult, reported};
use crate::pg::lookup::{self, UserState};
use crate::pg::net::Networks;
use crate::pg::store::{self, Limits, NewKey};
use crate::pg::{caller, composite, ring, run, settings};
use crate::random;

const TOKENS_DELETE: &str = "tokens:delete";

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
        caller::require_writable("minting a token")?;
        let caller = Caller::now()?;
        let user = caller.owner_for("mint", user_id.map(to_uuid))?;
        let scopes = requested_scopes(scopes.as_deref())?;
        caller.check_may_grant("mint tokens", &scopes)?;

        let name = name.ok_or(Error::NullArgument("name"))?;
        key::check_name(name, settings::max_name_length())?;
        let kind = kind.ok_or(Error::NullArgument("kind"))?.parse()?;
        let limits = Limits::Of {
            allowed_ips: allowed_ips.map(Networks::check).transpose()?,
            rate: requested_rate(rate_limit, rate_window)?,
        };
        let now = Instant::now();
        let expires_at = expiry(now, expires_in)?;
        let id = key::new_id(now.unix_millis(), &random::bytes()?);
        issue(
            call,
            user,
            id,
            (name, kind),
            &scopes,
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
        caller::require_writable("rotating a token")?;
        let caller = Caller::now()?;
        let old_id = to_uuid(id.ok_or(Error::NullArgument("id"))?);
        let owner = caller.owner_filter()?;
        caller.check_may_grant("rotate tokens", &Scopes::Only(Vec::new()))?;

        let now = Instant::now();
        let grace_ends = grace_end(now, grace.ok_or(Error::NullArgument("grace"))?)?;
        let new_id = key::new_id(now.unix_millis(), &random::bytes()?);
        let user = owner
            .or_else(|| lookup::owner_of(old_id))
            .ok_or(Error::NoLiveKey(old_id))?;
        ring::lock_to_sign();
        store::lock_keys_of(user);
        let old = store::replace(old_id, user, new_id, now, grace_ends)?
            .ok_or(Error::NoLiveKey(old_id))?;
        caller.check_may_grant("rotate tokens", &old.scopes)?;
        let lifetime = old.lifetime.clamp(1, settings::max_lifetime());
        let expires_at = now.floor_to_second().plus_seconds(lifetime);
        let limits = Limits::LikeThoseOf(old_id);
        issue(
            call,
            user,
            new_id,
            (&old.name, old.kind),
            &old.scopes,
            limits,
            (now, expires_at),
        )
    })
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn revoke_pat(id: Option<PgUuid>) -> SqlResult<bool> {
    reported(|| {
        caller::require_writable("revoking a token")?;
        let caller = Caller::now()?;
        let id = to_uuid(id.ok_or(Error::NullArgument("id"))?);
        let owner = caller.owner_filter()?;
        caller.check_may_revoke(Some(id))?;
        store::revoke(id, owner, Instant::now())
    })
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn revoke_all_pats(user_id: default!(Option<PgUuid>, "NULL")) -> SqlResult<i32> {
    reported(|| {
        caller::require_writable("revoking tokens")?;
        let caller = Caller::now()?;
        let user = caller.owner_for("revoke", user_id.map(to_uuid))?;
        caller.check_may_revoke(None)?;
        store::lock_keys_of(user);
        Ok(store::revoke_all(user, Instant::now())? as i32)
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
        Credential::Token(token) => Some(store::pg_uuid(token.key_id)),
        _ => None,
    })
}

/// The trigger of `pat.api_keys` for a key that is deleted, by whomever and however.
#[pg_trigger]
fn key_deleted<'a>(
    trigger: &'a pgrx::PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, impl WhoAllocated>>, ErrorReport> {
    reported(|| {
        let Some(old) = trigger.old() else {
            return Ok(None);
        };
        let id = |column| {
            let id: Option<PgUuid> = old.get_by_name(column).ok().flatten();
            id.map(to_uuid)
        };
        if let (Some(key), Some(user)) = (id("id"), id("user_id")) {
            store::key_was_deleted(key, user)?;
        }
        Ok(Some(old))
    })
}

/// Who calls a function that changes something of a user's, and what that lets them do.
pub struct Caller {
    is_trusted: bool,
    pub user: Option<Uuid>,
    /// The valid personal access token of the request, if it was made with one.
    token: Option<TokenClaims>,
}

impl Caller {
    /// # Errors
    /// [`Error::DeadToken`]: whoever holds a revoked token may do nothing with it, not even revoke.
    pub fn now() -> Result<Self, Error> {
        let is_trusted = caller::is_trusted();
        run::with_request(|request| {
            if !is_trusted && !request.is_valid() {
                return Err(Error::DeadToken);
            }
            let token = match &request.identity.credential {
                Credential::Token(token) if !is_trusted => Some(TokenClaims {
                    key_id: token.key_id,
                    user: token.user,
                    scopes: token.scopes.clone(),
                }),
                _ => None,
            };
            Ok(Self {
                is_trusted,
                user: request.identity.user,
                token,
            })
        })
    }

    /// Whose tokens a call is about: the user who is named, else the caller. The answer for another
    /// user's id is the same whether there is such a user or not.
    fn owner_for(&self, verb: &'static str, named: Option<Uuid>) -> Result<Uuid, Error> {
        match named {
            Some(user) if self.is_trusted => Ok(user),
            None => self.user.ok_or(Error::NoUser),
            Some(user) => match self.user.ok_or(Error::NoUser)? {
                own if own == user => Ok(own),
                _ => Err(Error::NotYours(verb)),
            },
        }
    }

    /// The owner that a key must have to be touched by this caller: `None` is any.
    fn owner_filter(&self) -> Result<Option<Uuid>, Error> {
        match self.is_trusted {
            true => Ok(None),
            false => self.user.ok_or(Error::NoUser).map(Some),
        }
    }

    /// What a token may do that has a list of scopes, the list says.
    pub fn require_scope(&self, verb: &'static str, scope: &'static str) -> Result<(), Error> {
        match &self.token {
            Some(token) if !token.scopes.grants(&scope.parse()?) => {
                Err(Error::ScopeMissing(verb, scope))
            }
            _ => Ok(()),
        }
    }

    /// A token must not be able to renew itself or to make another, unless it was made for that,
    /// and then it hands out no more than it has.
    fn check_may_grant(&self, verb: &'static str, scopes: &Scopes) -> Result<(), Error> {
        self.require_scope(verb, TOKENS_WRITE)?;
        let Some(token) = &self.token else {
            return Ok(());
        };
        if !token.scopes.include(scopes) {
            return Err(Error::ScopeWidened);
        }
        // The next token would have an allowance of its own, and the one after that.
        match lookup::key(token.key_id) {
            Some(key) if key.limit.is_some() || key.allowed_networks().is_some() => {
                Err(Error::NotWithLimitedToken(verb))
            }
            _ => Ok(()),
        }
    }

    /// A token may always revoke itself.
    fn check_may_revoke(&self, key: Option<Uuid>) -> Result<(), Error> {
        match &self.token {
            Some(token) if key == Some(token.key_id) => Ok(()),
            _ => self.require_scope("revoke other tokens", TOKENS_DELETE),
        }
    }
}

/// Registers a key and signs its token.
fn issue(
    call: pg_sys::FunctionCallInfo,
    user: Uuid,
    id: Uuid,
    (name, kind): (&str, Kind),
    scopes: &Scopes,
    limits: Limits,
    (now, expires_at): (Instant, Instant),
) -> Result<PgHeapTuple<'static, AllocatedByRust>, Error> {
    if kind == Kind::Jwt {
        ring::lock_to_sign();
    }
    store::lock_keys_of(user);
    let (state, live_keys) = lookup::standing_of(user)?;
    match state {
        UserState::Active => (),
        UserState::Banned { .. } => return Err(Error::BannedUser(user)),
        UserState::Gone => return Err(Error::UnknownUser(user)),
    }
    let max = settings::max_keys_per_user();
    if live_keys >= max {
        return Err(Error::TooManyKeys { user, max });
    }
    let mut new = NewKey {
        id,
        user,
        name,
        scopes,
        hint: "",
        created_at: now,
        expires_at,
        signing_key: None,
        token_digest: None,
        limits,
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
            );
            let token = Zeroizing::new(jwt::sign(&payload, &signing_key)?);
            new.hint = key::hint(&token);
            new.signing_key = signing_key.id();
            store::insert(&new)?;
            token
        }
        Kind::Opaque => {
            let token = OpaqueToken::new(&random::bytes()?)
                .ok_or_else(|| Error::Internal("the random bytes are none".into()))?;
            new.hint = key::hint(token.expose());
            new.token_digest = Some(token.digest());
            store::insert(&new)?;
            Zeroizing::new(token.expose().to_owned())
        }
    };
    let fields = [
        token.as_str().into_datum(),
        store::pg_uuid(id).into_datum(),
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

fn to_uuid(uuid: PgUuid) -> Uuid {
    Uuid::from_bytes(*uuid.as_bytes())
}
