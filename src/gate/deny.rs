//! Denied tokens: tokens that are valid by themselves, such as a leaked key of the service role, and are refused all
//! the same.
//!
//! `pat.deny_token` puts one on the list, and the gate checks each request by the list. How the list is kept is in
//! [`crate::jwt::denied`], how a token is recognised in [`supabase_pat_core::denied`].

use pgrx::prelude::*;
use supabase_pat_core::denied::{digest_of_claims, digest_of_message, digests_of_payload};
use supabase_pat_core::error::Error;
use supabase_pat_core::json::Members;
use supabase_pat_core::jwt::{Unverified, bearer_token, payload_of_any};
use supabase_pat_core::opaque_token::{self, Prefix};
use supabase_pat_core::refusal::Refusal;
use supabase_pat_core::rejection::Rejection;
use uuid::Uuid;

use super::Stop;
use crate::events::{self, About};
use crate::jwt;
use crate::jwt::denied::{self, DeniedToken};
use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::rights;
use crate::pg::settings;
use crate::pg::uuid::pg_uuid;
use crate::request::http::HttpRequest;
use crate::request::run;
use crate::tokens::lookup::{self, StoredToken};
use crate::tokens::revocation;

#[pg_extern(requires = ["schema"])]
fn deny_token(token: Option<&str>, reason: default!(Option<&str>, "NULL")) -> SqlResult<()> {
    reported(|| {
        rights::require_trusted("deny tokens")?;
        rights::require_writable("denying a token")?;
        let token = token.ok_or(Error::NullArgument("token"))?.trim();
        let token = bearer_token(token).unwrap_or(token);
        let prefix = settings::token_prefix();
        let is_ours = opaque_token::is_like_one(token, Prefix::of_setting(&prefix));
        match lookup::by_text(token) {
            Some(stored) => revoke_opaque(&stored, reason),
            None if is_ours => Err(Error::NoSuchToken),
            None => deny_jwt(token, "token_denied", reason),
        }
    })
}

/// An opaque token is known by its row alone, so that to revoke it is enough.
fn revoke_opaque(token: &StoredToken, reason: Option<&str>) -> Result<(), Error> {
    revocation::revoke_family(token.id, Instant::now())?;
    let about = About {
        user: Some(token.user),
        token: Some(token.id),
    };
    events::record("token_denied", about, reason)
}

/// Denies a JWT, and revokes the token if it is a personal access token. `event` is what it leaves behind.
pub(super) fn deny_jwt(
    token: &str,
    event: &'static str,
    reason: Option<&str>,
) -> Result<(), Error> {
    let now = Instant::now();
    // It is parsed strictly to tell what is wrong with it. A server that reads it in another way may still accept it.
    let parsed = Unverified::parse(token);
    let claims = match (payload_of_any(token), &parsed) {
        (Some(claims), _) => claims,
        (None, Err(rejection)) => return Err((*rejection).into()),
        (None, Ok(token)) => token.claims()?,
    };
    let members = Members::parse_lenient(&claims).map_err(|_| Error::ClaimsNotAnObject)?;
    let message = digest_of_message(token).ok_or(Error::ClaimsNotAnObject)?;
    let text = |name| members.text(name).ok().flatten();
    let id = |name| text(name).and_then(|text| Uuid::parse_str(&text).ok());
    if jwt::status(token).is_err_and(|rejection| !is_ours(&rejection)) {
        warning!("the token is not signed with a key of this database; is it complete?");
    }
    let role = text("role");
    let expires_at = parsed.and_then(|token| token.expires_at()).ok().flatten();
    let expires_at = expires_at.map(Instant::from_unix_seconds);
    let digests = digests_of_payload(&claims, &settings::anon_role(), rights::is_role);
    let user = id("sub");
    let to_deny = DeniedToken {
        message,
        claims: &digests,
        role: role.as_deref(),
        user: user.map(pg_uuid),
        reason,
        expires_at: expires_at.map(Instant::to_timestamp).transpose()?,
    };
    denied::add(&to_deny, now)?;
    let personal = match id("jti") {
        Some(token) if revocation::last_known_owner(token)? == user => Some(token),
        _ => None,
    };
    if let Some(token) = personal {
        // So that it ends at once, and also where no gate stands.
        revocation::revoke_family(token, now)?;
    }
    let about = About {
        user,
        token: personal,
    };
    events::record(event, about, reason)
}

/// Whether a token that is not valid is signed with one of our keys, as far as that was looked at.
fn is_ours(rejection: &Rejection) -> bool {
    use Rejection::{BadSignature, Malformed, UnknownKey};
    !matches!(rejection, BadSignature | UnknownKey | Malformed(_))
}

/// Whether a request carries a token that is denied. This is checked also where an opaque token decides whose the
/// request is: a denied API key that goes with it must not get the request past the API gateway in front of the REST
/// server, Kong on Supabase, which knows of no denied tokens.
///
/// # Errors
/// [`Refusal::Denied`], [`Refusal::MalformedClaims`].
pub(super) fn check(request: &HttpRequest) -> Result<(), Stop> {
    let tokens = denied::tokens();
    if tokens.is_empty() {
        return Ok(());
    }
    let authorization = request.authorization();
    let bearer = authorization.as_deref().and_then(bearer_token);
    if tokens.has(bearer.and_then(digest_of_message)) {
        return Err(Refusal::Denied.into());
    }
    let Some(claims) = run::with_request(|request| request.claims().map(str::to_owned)) else {
        return Ok(());
    };
    match digest_of_claims(&claims, &settings::anon_role()) {
        // Claims that cannot be compared with those of denied tokens could be those of one.
        None => Err(Refusal::MalformedClaims.into()),
        claims if tokens.has(claims) => Err(Refusal::Denied.into()),
        _ => Ok(()),
    }
}
