//! Denying a token that is good by itself, a leaked key of the service role for instance.

use pgrx::prelude::*;
use supabase_pat_core::denied;
use supabase_pat_core::error::Error;
use supabase_pat_core::json::Members;
use supabase_pat_core::jwt::{self, Rejection, Unverified};
use supabase_pat_core::opaque_token::{self, OpaqueToken};
use uuid::Uuid;

use crate::events;
use crate::jwt::denied::{self as denied_tokens, Denied};
use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::rights;
use crate::pg::settings;
use crate::pg::uuid::pg_uuid;
use crate::tokens::{lookup, store};

#[pg_extern(requires = ["schema"])]
fn deny_token(token: Option<&str>, reason: default!(Option<&str>, "NULL")) -> SqlResult<()> {
    reported(|| {
        rights::require_trusted("deny tokens")?;
        rights::require_writable("denying a token")?;
        let token = token.ok_or(Error::NullArgument("token"))?.trim();
        let token = jwt::bearer_token(token).unwrap_or(token);
        let now = Instant::now();
        if token.starts_with(opaque_token::PREFIX) {
            let token = OpaqueToken::parse(token).ok_or(Error::NoSuchToken)?;
            let key = lookup::by_digest(&token.digest()).ok_or(Error::NoSuchToken)?;
            store::revoke_family(key.id, now)?;
            return events::record("token_denied", Some(key.user), Some(key.id), reason);
        }
        // Strictly, for what is wrong with it; a server that reads it otherwise may accept it all the same.
        let parsed = Unverified::parse(token);
        let claims = match (jwt::payload_of_any(token), &parsed) {
            (Some(claims), _) => claims,
            (None, Err(rejection)) => return Err((*rejection).into()),
            (None, Ok(token)) => token.claims()?,
        };
        let members = Members::parse_lenient(&claims).map_err(|_| Error::ClaimsNotAnObject)?;
        let message = denied::digest_of_message(token).ok_or(Error::ClaimsNotAnObject)?;
        let text = |name| members.text(name).ok().flatten();
        let uuid = |name| text(name).and_then(|text| Uuid::parse_str(&text).ok());
        if crate::jwt::status(token).is_err_and(|rejection| !is_ours(&rejection)) {
            warning!("the token is not signed with a key of this database; is it complete?");
        }
        let role = text("role");
        let expires_at = parsed.and_then(|token| token.expires_at()).ok().flatten();
        let expires_at = expires_at.map(Instant::from_unix_seconds);
        let digests =
            denied::digests_of_payload(&claims, &settings::anon_role(), denied_tokens::is_role);
        let denied = Denied {
            message,
            claims: &digests,
            role: role.as_deref(),
            user: uuid("sub").map(pg_uuid),
            reason,
            expires_at: expires_at.map(Instant::to_timestamp).transpose()?,
        };
        denied_tokens::add(&denied, now)?;
        let key = uuid("jti").filter(|&key| store::owner_of(key) == uuid("sub"));
        if let Some(key) = key {
            // At once, and where no gate stands too.
            store::revoke_family(key, now)?;
        }
        events::record("token_denied", uuid("sub"), key, reason)
    })
}

/// Whether a token that is not valid is signed with one of our keys, as far as that was looked at.
fn is_ours(rejection: &Rejection) -> bool {
    use Rejection::{BadSignature, Malformed, UnknownKey};
    !matches!(rejection, BadSignature | UnknownKey | Malformed(_))
}
