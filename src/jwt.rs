//! Signing and verifying JWTs in SQL.

use pgrx::datum::Interval;
use pgrx::prelude::*;
use supabase_pat_core::error::Error;
use supabase_pat_core::jwt::{self, Claims};

use crate::pg::clock::{self, Instant};
use crate::pg::error::{SqlResult, reported};
use crate::pg::jsonb::JsonbText;
use crate::pg::{caller, secret};

#[pg_extern(requires = ["schema"])]
fn sign_jwt(
    claims: Option<JsonbText>,
    expires_in: default!(Option<Interval>, "NULL"),
) -> SqlResult<String> {
    reported(|| {
        caller::require_trusted("sign tokens")?;
        let JsonbText(claims) = claims.ok_or(Error::NullArgument("claims"))?;
        let now = Instant::now();
        let expires_at = match expires_in {
            Some(interval) if clock::is_infinite(&interval) => {
                return Err(Error::LifetimeInfinite);
            }
            Some(interval) => Some(now.plus(interval).unix_seconds()),
            None => None,
        };
        let claims = Claims::with_times(&claims, now.unix_seconds(), expires_at)?;
        jwt::sign(&claims, &secret::signing_secret()?)
    })
}

#[pg_extern(stable, requires = ["schema"])]
fn verify_jwt(
    token: Option<&str>,
    audience: default!(Option<&str>, "NULL"),
) -> SqlResult<JsonbText> {
    reported(|| {
        caller::require_trusted("verify tokens")?;
        let token = token.ok_or(Error::NullArgument("token"))?;
        let claims = jwt::verify(token, audience, &secret::signing_secret()?)?;
        Ok(JsonbText(claims.into()))
    })
}
