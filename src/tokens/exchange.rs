//! A JWT for a while in the place of a token: for servers that take nothing but JWTs, or should be handed less.
//!
//! It has the same id, so that whatever ends the token ends it too, and there is nothing to store: it works on a
//! standby and in a GET. So the caller is judged once: a revocation that comes in between is found at each use. What
//! the row does not say of it, its earlier end and its fewer scopes, is in its claims, which every check looks at.

use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::claims::TokenClaims;
use supabase_pat_core::error::Error;
use supabase_pat_core::jwt;
use supabase_pat_core::payload::{Lifetime, PersonalAccessToken, TokenPayload};
use supabase_pat_core::restrictions::Restrictions;
use supabase_pat_core::scope::Scopes;
use zeroize::Zeroizing;

use super::lookup;
use super::mint::requested_scopes;
use crate::pg::clock::{self, Instant};
use crate::pg::composite::{self, Field};
use crate::pg::error::reported;
use crate::pg::{rights, settings};
use crate::request::caller::Caller;
use crate::request::{identity, run};
use crate::signing_keys::ring;
use crate::users::state;

const EXCHANGE: &str = "exchange tokens";

/// As long as an access token of Supabase Auth lives.
const MAX_LIFETIME: i64 = 3_600;

#[pg_extern(schema = "public", stable, parallel_restricted, requires = ["schema"])]
fn exchange_token(
    lifetime: default!(Option<Interval>, "'5 minutes'"),
    scopes: default!(Option<Vec<Option<String>>>, "NULL"),
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "public.exchanged_token"), ErrorReport> {
    reported(|| {
        let caller = Caller::now()?;
        let token = caller.token().ok_or(Error::NothingToExchange)?;
        let wanted = seconds(lifetime.ok_or(Error::NullArgument("lifetime"))?)?;
        let stored = lookup::by_id(token.id).ok_or(Error::DeadToken)?;
        let scopes = lesser_scopes(&stored.narrow(&token.scopes), scopes.as_deref())?;
        let restrictions = restrictions(token)?;
        if stored.is_limited() {
            return Err(Error::NotWithLimitedToken("be exchanged"));
        }
        ring::lock_to_sign();
        let key = ring::signing_key()?;
        let now = Instant::now().unix_seconds();
        let end = claimed_end(token)?.min(stored.expires_at.unix_seconds());
        let expires_at = end.min(now.saturating_add(wanted));
        if expires_at <= now {
            return Err(Error::DeadToken);
        }
        let (role, issuer) = (settings::authenticated_role(), settings::issuer());
        let payload = TokenPayload::new(&PersonalAccessToken {
            id: token.id,
            user: token.user,
            role: &role,
            issuer: &issuer,
            scopes: &scopes,
            lifetime: Lifetime {
                issued_at: now,
                expires_at,
            },
        })
        .restricted_as(&restrictions);
        let text = Zeroizing::new(jwt::sign(&payload, &key)?);
        let fields = [
            Field::new(c"access_token", text.as_str()),
            Field::new(c"token_type", "Bearer"),
            Field::new(c"expires_in", (expires_at - now) as i32),
            Field::new(c"scope", scopes.to_claim()),
        ];
        composite::result_row(call, fields)
    })
}

/// # Errors
/// [`Error::ExchangeLifetime`].
fn seconds(lifetime: Interval) -> Result<i64, Error> {
    let seconds = lifetime.as_micros().div_euclid(1_000_000);
    match i64::try_from(seconds) {
        Ok(seconds @ 1..=MAX_LIFETIME) if !clock::is_infinite(&lifetime) => Ok(seconds),
        _ => Err(Error::ExchangeLifetime {
            max_seconds: MAX_LIFETIME,
        }),
    }
}

/// What is asked for, within what the token has. Nothing that is exchanged has a scope over tokens: it would make some
/// that outlive it, or take the place of the one that it was made of.
///
/// # Errors
/// [`Error::ScopeWidened`], [`Error::ScopeNotExchanged`], and those of [`requested_scopes`].
fn lesser_scopes(own: &Scopes, wanted: Option<&[Option<String>]>) -> Result<Scopes, Error> {
    let Some(wanted) = wanted else {
        let scopes = own.clone().without_those_over_tokens();
        return match &scopes {
            Scopes::Only(list) if list.is_empty() => Err(Error::ScopeNotExchanged),
            _ => Ok(scopes),
        };
    };
    let wanted = requested_scopes(Some(wanted))?;
    if !own.include(&wanted) {
        return Err(Error::ScopeWidened);
    }
    match wanted.to_claim() == wanted.clone().without_those_over_tokens().to_claim() {
        true => Ok(wanted),
        false => Err(Error::ScopeNotExchanged),
    }
}

/// What the token says of the login that made it. As with minting, only the role that tokens have may do this, so that
/// nobody comes to have another one, and a restricted one only where those are allowed.
///
/// # Errors
/// [`Error::RoleOfLogin`], [`Error::RestrictedLogin`], [`Error::UnclearClaims`], [`Error::ClaimsTooLarge`].
fn restrictions(token: &TokenClaims) -> Result<Restrictions, Error> {
    let claims = run::with_request(|request| request.claims().map(str::to_owned));
    let is_anonymous = state::is_anonymous(token.user);
    let found = Restrictions::of_claims(claims.as_deref(), is_anonymous, identity::legacy_claim)?;
    let authenticated = settings::authenticated_role();
    if !rights::current_role_is(&authenticated) || !found.has_role(&authenticated) {
        return Err(Error::RoleOfLogin(EXCHANGE, authenticated));
    }
    match found.kind() {
        Some(kind) if !settings::mint_for_restricted_logins() => {
            Err(Error::RestrictedLogin(EXCHANGE, kind))
        }
        _ => Ok(found),
    }
}

/// When the claims end, in whichever form a server has set them. Without that it would not be known how long a token
/// may still be used that was exchanged already.
///
/// # Errors
/// [`Error::DeadToken`] if they do not say: those of all tokens do.
fn claimed_end(token: &TokenClaims) -> Result<i64, Error> {
    let of_setting = || identity::legacy_claim("exp")?.parse().ok();
    token.expires_at.or_else(of_setting).ok_or(Error::DeadToken)
}
