//! JSON Web Tokens in SQL: sign one, verify one, decode one.

pub mod api_keys;
pub mod denied;
pub mod pgjwt;

use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::claims::{ClaimSettings, Credential, Identity};
use supabase_pat_core::error::Error;
use supabase_pat_core::jwt::{self, Unverified};
use supabase_pat_core::opaque_token::{self, OpaqueToken, Prefix};
use supabase_pat_core::payload;
use supabase_pat_core::rejection::Rejection;
use supabase_pat_core::verification::{Checks, Verified};

use crate::events;
use crate::pg::clock::{self, Instant};
use crate::pg::composite::{self, Field};
use crate::pg::error::{SqlResult, reported};
use crate::pg::json::JsonbText;
use crate::pg::rights;
use crate::pg::settings;
use crate::request::liveness;
use crate::signing_keys::ring::{self, KeysInUse};
use crate::tokens::lookup;

extension_sql_file!(
    "../../sql/jwt.sql",
    name = "jwt",
    requires = [
        "request",
        sign_jwt,
        verify_jwt,
        jwt_status,
        decode_jwt,
        jwt_expires_in,
        bearer_token,
        api_keys::mint_api_key,
        api_keys::inspect_api_key,
        pgjwt::sign,
        pgjwt::verify,
        pgjwt::algorithm_sign,
        pgjwt::url_encode,
        pgjwt::url_decode
    ]
);

#[pg_extern(requires = ["schema"])]
fn sign_jwt(
    claims: Option<JsonbText>,
    expires_in: default!(Option<Interval>, "NULL"),
) -> SqlResult<String> {
    reported(|| {
        rights::require_trusted("sign tokens")?;
        let JsonbText(claims) = claims.ok_or(Error::NullArgument("claims"))?;
        let now = Instant::now();
        let expires_at = match expires_in {
            Some(interval) if clock::is_infinite(&interval) => {
                return Err(Error::LifetimeInfinite);
            }
            Some(interval) => Some(now.plus(interval).unix_seconds()),
            None => None,
        };
        let complete = payload::with_times(&claims, now.unix_seconds(), expires_at)?;
        let key = ring::signing_key()?;
        let token = jwt::sign_text(&complete, &key)?;
        events::record_signing("jwt_signed", &claims)?;
        Ok(token)
    })
}

#[pg_extern(stable, parallel_restricted, requires = ["schema"])]
fn verify_jwt(
    token: Option<&str>,
    audience: default!(Option<&str>, "NULL"),
    require_exp: default!(Option<bool>, true),
) -> SqlResult<JsonbText> {
    reported(|| {
        rights::require_trusted("verify tokens")?;
        let token = token.ok_or(Error::NullArgument("token"))?;
        let require_exp = require_exp.ok_or(Error::NullArgument("require_exp"))?;
        let checks = |issuer| Checks {
            audience,
            requires_expiry: require_exp,
            now: Instant::now().unix_seconds(),
            issuer,
            clock_skew: settings::clock_skew(),
        };
        let token = Unverified::parse(token)?;
        let keys = KeysInUse::for_token(&token)?;
        if keys.is_empty() {
            return Err(Error::NoSecret);
        }
        let verified = verify(&token, &keys, checks(&settings::issuer()))?;
        Ok(JsonbText(verified.into_payload()))
    })
}

#[pg_extern(stable, parallel_restricted, requires = ["schema"])]
fn jwt_status(token: Option<&str>) -> &'static str {
    if let Some(text) = token
        && let Some(status) = opaque_status(text)
    {
        return status;
    }
    match token.map_or(Err(Rejection::Malformed("it is null")), status) {
        Ok(()) => "valid",
        Err(rejection) => rejection.status(),
    }
}

/// The status of an opaque personal access token, in the same words. `None` for what is none.
fn opaque_status(text: &str) -> Option<&'static str> {
    let prefix = settings::token_prefix();
    let is_like_one = opaque_token::is_like_one(text, Prefix::of_setting(&prefix));
    // An imported token may have any form, that of a JWT too.
    Some(match lookup::by_text(text) {
        Some(token) if liveness::token_verdict(token.id, token.user).is_live => "valid",
        Some(token) if !token.is_revoked && token.expires_at <= Instant::now() => "expired",
        Some(_) => "revoked",
        None if OpaqueToken::parse(text).is_some() => "unknown_key",
        None if is_like_one => "malformed",
        None => return None,
    })
}

/// Whether a JWT is valid.
///
/// # Errors
/// The reason why it is not.
pub fn status(token: &str) -> Result<(), Rejection> {
    let token = Unverified::parse(token)?;
    // A secret that cannot be used is taken for none.
    let keys = KeysInUse::for_token(&token).map_err(|_| Rejection::UnknownKey)?;
    verify(&token, &keys, checks_now(&settings::issuer())).map(|_| ())
}

/// A JWT that is valid by itself, and not denied. Whether the token or the session that it names is live is another
/// question.
///
/// # Errors
/// The reason why it is not.
pub fn valid_by_itself(token: &str) -> Result<Verified, Rejection> {
    let token = Unverified::parse(token)?;
    let keys = KeysInUse::for_token(&token).map_err(|_| Rejection::UnknownKey)?;
    let verified = Verified::check(&token, &keys.borrow(), &checks_now(&settings::issuer()))?;
    require_not_denied(&token)?;
    Ok(verified)
}

/// The checks of a JWT for which nobody asks for more.
fn checks_now(issuer: &str) -> Checks<'_> {
    Checks {
        audience: None,
        requires_expiry: true,
        now: Instant::now().unix_seconds(),
        issuer,
        clock_skew: settings::clock_skew(),
    }
}

fn require_not_denied(token: &Unverified) -> Result<(), Rejection> {
    match denied::tokens().has(Some(token.digest())) {
        true => Err(Rejection::Denied),
        false => Ok(()),
    }
}

/// What a JWT says that is signed with a key of this database and has not expired. It may be denied, or that of a dead
/// token.
///
/// # Errors
/// The reason why it is not.
pub fn signed(token: &str) -> Result<Verified, Rejection> {
    let token = Unverified::parse(token)?;
    let keys = KeysInUse::for_token(&token).map_err(|_| Rejection::UnknownKey)?;
    let checks = Checks {
        audience: None,
        requires_expiry: false,
        now: Instant::now().unix_seconds(),
        issuer: &settings::issuer(),
        clock_skew: settings::clock_skew(),
    };
    Verified::check(&token, &keys.borrow(), &checks)
}

/// Checks everything: the JWT, that it is not denied, and, if it is a personal access token, that the token is live.
fn verify(token: &Unverified, keys: &KeysInUse, checks: Checks) -> Result<Verified, Rejection> {
    let verified = Verified::check(token, &keys.borrow(), &checks)?;
    if verified.is_personal_access_token() && !is_live(verified.payload()) {
        return Err(Rejection::DeadToken);
    }
    require_not_denied(token)?;
    Ok(verified)
}

/// False for claims of a personal access token that is dead or malformed; true for all others.
pub fn is_live(claims: &str) -> bool {
    let settings = ClaimSettings {
        claims: Some(claims),
        ..ClaimSettings::default()
    };
    match Identity::from_settings(&settings).credential {
        Credential::Login => true,
        Credential::Token(token) => {
            !token.have_ended(Instant::now().unix_seconds())
                && liveness::token_verdict(token.id, token.user).is_live
        }
        Credential::Malformed => false,
    }
}

#[pg_extern(immutable, parallel_safe, requires = ["schema"])]
fn decode_jwt(
    token: &str,
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "pat.decoded_jwt"), ErrorReport> {
    reported(|| {
        let token = Unverified::parse(token)?;
        let fields = [
            Field::new(c"header", JsonbText(token.header().to_owned())),
            Field::new(c"payload", JsonbText(token.claims()?)),
        ];
        composite::result_row(call, fields)
    })
}

#[pg_extern(stable, parallel_safe, requires = ["schema"])]
fn jwt_expires_in(token: &str) -> SqlResult<Option<Interval>> {
    reported(|| {
        let expiry = Unverified::parse(token)?.expires_at()?;
        Ok(expiry.and_then(|expiry| clock::interval(expiry - Instant::now().unix_seconds())))
    })
}

#[pg_extern(immutable, parallel_safe, requires = ["schema"])]
fn bearer_token(authorization: &str) -> Option<&str> {
    jwt::bearer_token(authorization)
}
