//! The gate: one function for PostgREST's `db-pre-request`, which turns away each request that should not
//! run, before any query.

pub mod deny;
pub mod raise;
pub mod returned;
pub mod usage;
pub mod worker;

use std::net::IpAddr;
use std::rc::Rc;

use pgrx::prelude::*;
use supabase_pat_core::claims::{Credential, SessionClaim};
use supabase_pat_core::denied;
use supabase_pat_core::error::Error;
use supabase_pat_core::jwt::{self, TokenPayload};
use supabase_pat_core::opaque_token::{self, OpaqueToken};
use supabase_pat_core::refusal::Refusal;
use supabase_pat_core::route::Needed;
use supabase_pat_core::scope::{Scope, Scopes};
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::settings;
use crate::request::admitted;
use crate::request::http::Request;
use crate::request::identity;
use crate::request::liveness::{self, Horizon, Verdict};
use crate::request::run;
use crate::tokens::lookup::{self, StoredToken};
use crate::users;
use crate::users::state::UserState;
use raise::{Raised, Sentence};

extension_sql_file!(
    "../../sql/gate.sql",
    name = "gate",
    requires = ["request", deny::deny_token]
);

raise::gate!(pg_finfo_supabase_pat_gate, supabase_pat_gate, decide);

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
    let request = Request::present();
    // What has no method was called by hand, and shows nothing of the REST server.
    if !request.method.is_empty() {
        usage::count_request();
    }
    let mut bearer = None;
    match admit(&request, &mut bearer) {
        Ok(()) => {
            let next = match settings::next_pre_request() {
                Some(name) => raise::find_next(&name)?,
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
        return Ok(admitted::no_token()?);
    };
    check_address(&token.key, request.address)?;
    let to_be_shown = check_scope(&token.scopes, request)?;
    count(&token.key, request.address)?;
    let needs_gate = token.key.needs_gate();
    match needs_gate || to_be_shown.is_some() {
        true => admitted::admitted(token.key.id, to_be_shown.as_ref())?,
        false => admitted::no_token()?,
    }
    token.assume()
}

/// The token of a request, whose key is live.
struct Token {
    key: StoredToken,
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
        let seen = liveness::horizon();
        let key = lookup::by_digest(&digest).ok_or(Refusal::UnknownToken)?;
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
        let seen = liveness::horizon();
        let key = lookup::by_id(id).filter(|key| key.user == user);
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
            true => users::state::live_user(self.key.user),
            false => None,
        };
        if self.is_opaque || live.is_some() {
            let named = live.as_ref().and_then(|user| user.role.as_deref());
            let role = users::role_of_user(named)
                .map_err(|_| Refusal::RoleNotAllowed(named.unwrap_or_default().to_owned()))?;
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
                needs_gate: self.key.needs_gate(),
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
    let tokens = crate::jwt::denied::tokens();
    if tokens.is_empty() {
        return Ok(());
    }
    let bearer = request.authorization.as_deref().and_then(jwt::bearer_token);
    if tokens.has(bearer.and_then(denied::digest_of_message)) {
        return Err(Refusal::Denied.into());
    }
    let Some(claims) = run::with_request(|request| request.claims().map(str::to_owned)) else {
        return Ok(());
    };
    match denied::digest_of_claims(&claims, &settings::anon_role()) {
        // What cannot be compared with those of a denied token could be its.
        None => Err(Refusal::MalformedClaims.into()),
        claims if tokens.has(claims) => Err(Refusal::Denied.into()),
        _ => Ok(()),
    }
}

fn check_life(key: &StoredToken) -> Result<(), Refusal> {
    match key.user_state {
        _ if key.is_revoked => Err(Refusal::Revoked),
        _ if key.expires_at <= Instant::now() => Err(Refusal::Expired),
        UserState::Active => Ok(()),
        UserState::Banned { .. } => Err(Refusal::UserBanned),
        UserState::Gone => Err(Refusal::UserGone),
    }
}

fn check_address(key: &StoredToken, address: Option<IpAddr>) -> Result<(), Refusal> {
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
/// the one exception. Returns the scope without which it is not shown what it writes, if it lacks that.
fn check_scope(scopes: &Scopes, request: &Request) -> Result<Option<Scope>, Stop> {
    if let Scopes::Unlimited = scopes {
        return Ok(None);
    }
    let (method, path) = (&*request.method, &*request.path);
    let schemas = request.schemas();
    let mut asks_itself = true;
    for schema in &schemas {
        match Needed::of(method, path, schema.as_deref()) {
            Needed::Nothing => (),
            needed if needed.is_granted_by(scopes) => asks_itself = false,
            Needed::Scope(scope, _) => return Err(Refusal::ScopeMissing(scope.to_string()).into()),
            Needed::Everything => return Err(Refusal::UnknownRequest.into()),
        }
    }
    if !asks_itself && scopes.are_read_only() {
        identity::forbid_writing()?;
    }
    let missing = |schema: &Option<String>| {
        let needed = Needed::to_be_shown(method, path, schema.as_deref())?;
        match (needed.is_granted_by(scopes), needed) {
            (false, Needed::Scope(scope, _)) => Some(scope),
            _ => None,
        }
    };
    Ok(schemas.iter().find_map(missing))
}

fn count(key: &StoredToken, address: Option<IpAddr>) -> Result<(), Refusal> {
    let admitted = usage::admit(key.id, key.user, key.limit, address, is_dead);
    admitted.map_err(|refusal| match (refusal, key.limit) {
        (usage::Refusal::Wait(micros), Some(limit)) => Refusal::TooManyRequests {
            requests: limit.requests,
            window: limit.seconds(),
            retry_after: micros.saturating_add(999_999) / 1_000_000,
        },
        _ => Refusal::NoRoom,
    })
}

/// Whether the token of a key makes no further request. Somebody whose ban ends has their tokens again.
///
/// What this transaction has done may be rolled back, and a token that it has revoked live on: so once it has written
/// anything, this is not known of any.
fn is_dead(key: Uuid) -> bool {
    !raise::transaction_has_written()
        && lookup::by_id(key).is_none_or(|key| {
            key.is_revoked
                || key.expires_at <= Instant::now()
                || matches!(key.user_state, UserState::Gone)
        })
}
