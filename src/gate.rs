//! The gate: one function for PostgREST's `db-pre-request`, which turns away each request that should not
//! run, before any query.

use std::net::IpAddr;
use std::rc::Rc;

use pgrx::prelude::*;
use supabase_pat_core::claims::{Credential, SessionClaim};
use supabase_pat_core::denied;
use supabase_pat_core::error::Error;
use supabase_pat_core::json::Members;
use supabase_pat_core::jwt::{self, Rejection, TokenPayload, Unverified};
use supabase_pat_core::opaque_token::{self, OpaqueToken};
use supabase_pat_core::refusal::Refusal;
use supabase_pat_core::route::Needed;
use supabase_pat_core::scope::Scopes;
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::denied::Denied;
use crate::pg::error::{SqlResult, reported};
use crate::pg::gate::{self, Raised, Sentence};
use crate::pg::http::Request;
use crate::pg::lookup::{self, Horizon, Key, UserState, Verdict};
use crate::pg::{caller, events, identity, run, settings, store, usage};

gate::gate!(pg_finfo_supabase_pat_gate, supabase_pat_gate, decide);

/// Why a request goes no further.
enum Stop {
    Refused(Refusal),
    Failed(Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn decide() -> Result<Sentence, Error> {
    usage::count_request();
    let request = Request::present();
    let mut bearer = None;
    match admit(&request, &mut bearer) {
        Ok(()) => {
            let next = match settings::next_pre_request() {
                Some(name) => gate::find_next(&name)?,
                None => pg_sys::InvalidOid,
            };
            Ok(Sentence::Admitted(next))
        }
        Err(Stop::Refused(refusal)) => {
            usage::count_refusal(refusal.reason(), bearer, request.address);
            Ok(Sentence::Refused(Raised::by(&refusal)))
        }
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Goes through all that a request must meet, in the order in which it is told what is wrong. `bearer` becomes the
/// token that it was made with, and its user, as soon as they are known.
fn admit(request: &Request, bearer: &mut Option<(Uuid, Uuid)>) -> Result<(), Stop> {
    check_denied(request)?;
    let token = match &request.api_key {
        // Whoever sends an opaque token is its user, whatever else the request carries.
        Some(text) if text.starts_with(opaque_token::PREFIX) => Some(Token::opaque(text, bearer)?),
        _ => Token::of_claims(bearer)?,
    };
    let Some(token) = token else {
        return Ok(());
    };
    check_address(&token.key, request.address)?;
    check_scope(&token.scopes, request)?;
    count(&token.key, request.address)?;
    token.assume()
}

/// The token of a request, whose key is live.
struct Token {
    key: Key,
    scopes: Scopes,
    /// What could be seen when the key was looked up.
    seen: Option<Horizon>,
    is_opaque: bool,
}

impl Token {
    fn opaque(text: &str, bearer: &mut Option<(Uuid, Uuid)>) -> Result<Self, Stop> {
        let digest = OpaqueToken::parse(text)
            .ok_or(Refusal::MalformedToken)?
            .digest();
        let seen = lookup::horizon();
        let key = lookup::key_of_token(&digest).ok_or(Refusal::UnknownToken)?;
        *bearer = Some((key.id, key.user));
        check_life(&key)?;
        Ok(Self {
            scopes: key.scopes(),
            key,
            seen,
            is_opaque: true,
        })
    }

    /// `None` for what is no personal access token: a login, `anon`, `service_role`.
    fn of_claims(bearer: &mut Option<(Uuid, Uuid)>) -> Result<Option<Self>, Stop> {
        let claimed = run::with_request(|request| {
            let identity = Rc::clone(&request.identity);
            match (&identity.credential, identity.session) {
                (Credential::Malformed, _) | (Credential::Login, SessionClaim::Malformed) => {
                    Err(Refusal::MalformedClaims)
                }
                (Credential::Login, _) if !request.is_active() => Err(Refusal::SessionEnded),
                (Credential::Login, _) => Ok(None),
                (Credential::Token(token), _) => {
                    Ok(Some((token.key_id, token.user, token.scopes.clone())))
                }
            }
        })?;
        let Some((id, user, scopes)) = claimed else {
            return Ok(None);
        };
        let seen = lookup::horizon();
        let key = lookup::key(id).filter(|key| key.user == user);
        let key = key.ok_or(Refusal::UnknownToken)?;
        *bearer = Some((id, user));
        check_life(&key)?;
        Ok(Some(Self {
            key,
            scopes,
            seen,
            is_opaque: false,
        }))
    }

    /// Makes the request the user's, as far as it is not yet, and spares the policies to look the key
    /// up again.
    fn assume(&self) -> Result<(), Stop> {
        let live = match settings::live_claims() {
            true => lookup::live_user(self.key.user),
            false => None,
        };
        if self.is_opaque || live.is_some() {
            let role = match live.as_ref().and_then(|user| user.role.clone()) {
                Some(role) if caller::may_become_trusted(&role) => {
                    return Err(Refusal::RoleNotAllowed(role).into());
                }
                Some(role) => role,
                None => settings::authenticated_role(),
            };
            let claims = match self.is_opaque {
                true => self.claims(&role)?,
                false => run::with_request(|request| request.claims().map(str::to_owned))
                    .unwrap_or_default(),
            };
            let claims = live
                .and_then(|user| user.into_claims(&claims, &role))
                .unwrap_or(claims);
            identity::assume(&role, &claims)?;
        }
        if let Some(seen) = self.seen {
            let verdict = Verdict {
                is_live: true,
                holds_until: self.key.expires_at,
            };
            run::with_request(|request| request.remember(seen, verdict));
        }
        Ok(())
    }

    /// The claims that a JWT of the same key would have.
    fn claims(&self, role: &str) -> Result<String, Error> {
        let issuer = settings::issuer();
        TokenPayload::new(
            self.key.user,
            self.key.id,
            &self.scopes,
            (role, &issuer),
            (
                self.key.created_at.unix_seconds(),
                self.key.expires_at.unix_seconds(),
            ),
        )
        .to_json()
    }
}

/// Also where an opaque token decides who it is: a denied key opens no gateway.
fn check_denied(request: &Request) -> Result<(), Stop> {
    let tokens = crate::pg::denied::tokens();
    if tokens.is_empty() {
        return Ok(());
    }
    let bearer = request.authorization.as_deref().and_then(jwt::bearer_token);
    let claims = run::with_request(|request| request.claims().map(str::to_owned));
    let digest = |claims: String| denied::digest_of_claims(&claims, &settings::anon_role());
    let is_denied = tokens.has(bearer.and_then(denied::digest_of_message))
        || tokens.has(claims.and_then(digest));
    match is_denied {
        true => Err(Refusal::Denied.into()),
        false => Ok(()),
    }
}

fn check_life(key: &Key) -> Result<(), Refusal> {
    match key.user_state {
        _ if key.is_revoked => Err(Refusal::Revoked),
        _ if key.expires_at <= Instant::now() => Err(Refusal::Expired),
        UserState::Active => Ok(()),
        UserState::Banned { .. } => Err(Refusal::UserBanned),
        UserState::Gone => Err(Refusal::UserGone),
    }
}

fn check_address(key: &Key, address: Option<IpAddr>) -> Result<(), Refusal> {
    let Some(networks) = key.allowed_networks() else {
        return Ok(());
    };
    let address = address.ok_or(Refusal::AddressUnknown)?;
    match networks.contain(address) {
        true => Ok(()),
        false => Err(Refusal::AddressNotAllowed(address)),
    }
}

/// A token that only reads cannot write either, by whatever a function does. That it may revoke itself is
/// the one exception.
fn check_scope(scopes: &Scopes, request: &Request) -> Result<(), Stop> {
    if let Scopes::Unlimited = scopes {
        return Ok(());
    }
    let needed = Needed::of(&request.method, &request.path);
    match (needed.is_granted_by(scopes), needed) {
        (true, Needed::Nothing) => Ok(()),
        (true, _) if scopes.are_read_only() => Ok(identity::forbid_writing()?),
        (true, _) => Ok(()),
        (false, Needed::Scope(scope, _)) => Err(Refusal::ScopeMissing(scope.to_string()).into()),
        (false, _) => Err(Refusal::UnknownRequest.into()),
    }
}

fn count(key: &Key, address: Option<IpAddr>) -> Result<(), Refusal> {
    usage::admit(key.id, key.limit, address).map_err(|refusal| match (refusal, key.limit) {
        (usage::Refusal::Wait(micros), Some(limit)) => Refusal::TooManyRequests {
            requests: limit.requests,
            window: limit.seconds(),
            retry_after: micros.saturating_add(999_999) / 1_000_000,
        },
        _ => Refusal::NoRoom,
    })
}

#[pg_extern(requires = ["schema"])]
fn deny_token(token: Option<&str>, reason: default!(Option<&str>, "NULL")) -> SqlResult<()> {
    reported(|| {
        caller::require_trusted("deny tokens")?;
        caller::require_writable("denying a token")?;
        let token = token.ok_or(Error::NullArgument("token"))?.trim();
        let token = jwt::bearer_token(token).unwrap_or(token);
        let now = Instant::now();
        if token.starts_with(opaque_token::PREFIX) {
            let token = OpaqueToken::parse(token).ok_or(Error::NoSuchToken)?;
            let key = lookup::key_of_token(&token.digest()).ok_or(Error::NoSuchToken)?;
            store::revoke(key.id, None, now)?;
            return events::record("token_denied", Some(key.user), Some(key.id), reason);
        }
        let jwt = Unverified::parse(token)?;
        let claims = jwt.claims()?;
        let members = Members::parse(&claims).ok_or(Error::ClaimsNotAnObject)?;
        let text = |name| members.text(name).ok().flatten();
        let uuid = |name| text(name).and_then(|text| Uuid::parse_str(&text).ok());
        if let Err(Rejection::BadSignature | Rejection::UnknownKey) = crate::jwt::status(token) {
            warning!("the token is not signed with a key of this database; is it complete?");
        }
        let role = text("role");
        let expires_at = jwt.expires_at()?.map(Instant::from_unix_seconds);
        let denied = Denied {
            message: jwt.digest(),
            claims: denied::digest_of_claims(&claims, &settings::anon_role())
                .ok_or(Error::ClaimsNotAnObject)?,
            role: role.as_deref(),
            user: uuid("sub").map(store::pg_uuid),
            reason,
            expires_at: expires_at.map(Instant::to_timestamp).transpose()?,
        };
        crate::pg::denied::add(&denied, now)?;
        let key = uuid("jti").filter(|&key| lookup::owner_of(key) == uuid("sub"));
        if let Some(key) = key {
            // At once, and where no gate stands too.
            store::revoke(key, None, now)?;
        }
        events::record("token_denied", uuid("sub"), key, reason)
    })
}
