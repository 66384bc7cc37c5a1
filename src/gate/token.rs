//! The token of a request: which it is, whether it is live, and how the request becomes its user's.

use std::rc::Rc;

use supabase_pat_core::claims::{Credential, SessionClaim};
use supabase_pat_core::error::Error;
use supabase_pat_core::opaque_token::{self, Prefix};
use supabase_pat_core::payload::{Lifetime, PersonalAccessToken, TokenPayload};
use supabase_pat_core::presented::{Otherwise, Presented};
use supabase_pat_core::refusal::Refusal;
use supabase_pat_core::scope::Scopes;

use super::Stop;
use super::guard::When;
use super::usage::Bearer;
use crate::pg::clock::Instant;
use crate::pg::rights;
use crate::pg::settings;
use crate::request::http::HttpRequest;
use crate::request::identity;
use crate::request::liveness::{self, Horizon, Verdict};
use crate::request::run;
use crate::tokens::lookup::{self, StoredToken};
use crate::users;
use crate::users::state::UserState;

/// The token of a request, which is live.
pub struct Token {
    /// As its row and that of its user say.
    pub stored: StoredToken,
    /// Those of the row, and for a JWT only those of them that its claims have too.
    pub scopes: Scopes,
    /// What could be seen when the token was looked up.
    seen: Option<Horizon>,
    is_opaque: bool,
}

impl Token {
    /// The opaque token in the headers of the request. `None` if none of them holds one. If several do, it must be the
    /// same one, and what is wrong with any of them refuses the request: whoever puts a good token beside a dead one,
    /// or two good ones, does not get to choose which of them counts. `bearer` becomes the token, as soon as it is
    /// known.
    ///
    /// # Errors
    /// [`Refusal::MalformedToken`], [`Refusal::UnknownToken`], [`Refusal::TwoTokens`], and those of [`check_life`].
    pub fn of_headers(
        request: &HttpRequest,
        bearer: &mut Option<Bearer>,
    ) -> Result<Option<Self>, Stop> {
        let prefix = settings::token_prefix();
        let prefix = Prefix::of_setting(&prefix);
        let mut found: Option<Self> = None;
        for header in settings::token_headers().iter() {
            let Some(value) = request.token_header(header) else {
                continue;
            };
            let incomplete = || Refusal::MalformedToken(header.name().to_owned());
            let (digest, otherwise) = match header.judge(&value, prefix) {
                Presented::Nothing => continue,
                Presented::Incomplete => return Err(incomplete().into()),
                Presented::Unknown => return Err(Refusal::UnknownToken.into()),
                Presented::Token(digest) => (digest, Otherwise::Unknown),
                Presented::Perhaps(digest, otherwise) => (digest, otherwise),
            };
            let token = match (Self::opaque(&digest, bearer)?, otherwise) {
                (Some(token), _) => token,
                (None, Otherwise::Nothing) => continue,
                (None, Otherwise::Incomplete) => return Err(incomplete().into()),
                (None, Otherwise::Unknown) => return Err(Refusal::UnknownToken.into()),
            };
            if found
                .as_ref()
                .is_some_and(|other| other.stored.id != token.stored.id)
            {
                return Err(Refusal::TwoTokens.into());
            }
            found = Some(token);
        }
        Ok(found)
    }

    /// The opaque token of that digest, `None` if there is none.
    ///
    /// # Errors
    /// Those of [`check_life`].
    fn opaque(
        digest: &opaque_token::Digest,
        bearer: &mut Option<Bearer>,
    ) -> Result<Option<Self>, Stop> {
        let seen = liveness::horizon();
        let Some(stored) = lookup::by_digest(digest) else {
            return Ok(None);
        };
        *bearer = Some(Bearer {
            token: stored.id,
            user: stored.user,
        });
        check_life(&stored)?;
        Ok(Some(Self {
            scopes: stored.scopes(),
            stored,
            seen,
            is_opaque: true,
        }))
    }

    /// The token that the claims of the request name. `None` for what is no personal access token: a login, `anon`,
    /// `service_role`. `bearer` becomes the token, as soon as it is known.
    ///
    /// # Errors
    /// [`Refusal::MalformedClaims`], [`Refusal::SessionEnded`], [`Refusal::UnknownToken`], and those of
    /// [`check_life`].
    pub fn of_claims(bearer: &mut Option<Bearer>) -> Result<Option<Self>, Stop> {
        let claimed = run::with_request(|request| {
            let identity = Rc::clone(&request.identity);
            match (&identity.credential, identity.session) {
                (Credential::Malformed, _) | (Credential::Login, SessionClaim::Malformed) => {
                    Err(Refusal::MalformedClaims)
                }
                (Credential::Login, _) if !request.is_active() => Err(Refusal::SessionEnded),
                (Credential::Login, _) => Ok(None),
                (Credential::Token(token), _) => {
                    let has_ended = token.have_ended(Instant::now().unix_seconds());
                    Ok(Some((
                        token.id,
                        token.user,
                        token.scopes.clone(),
                        has_ended,
                    )))
                }
            }
        })?;
        let Some((id, user, scopes, has_ended)) = claimed else {
            return Ok(None);
        };
        let seen = liveness::horizon();
        let stored = lookup::by_id(id).filter(|token| token.user == user);
        let stored = stored.ok_or(Refusal::UnknownToken)?;
        *bearer = Some(Bearer { token: id, user });
        check_life(&stored)?;
        if has_ended {
            return Err(Refusal::Expired.into());
        }
        Ok(Some(Self {
            scopes: stored.narrow(&scopes),
            stored,
            seen,
            is_opaque: false,
        }))
    }

    /// Makes the request that of the token's user, where it is not yet, and keeps the verdict, so that policies do not
    /// look the token up again. What a function of the database makes of the request is left as it is.
    ///
    /// # Errors
    /// [`Refusal::RoleNotAllowed`], for a user whose role is not for tokens; [`Refusal::TooLate`].
    pub fn assume(&self, when: When) -> Result<(), Stop> {
        let live = match when != When::Within && settings::live_claims() {
            true => users::state::live_user(self.stored.user),
            false => None,
        };
        if self.is_opaque || live.is_some() {
            let named = live.as_ref().and_then(|user| user.role.as_deref());
            let role = users::role_of_user(named)
                .map_err(|_| Refusal::RoleNotAllowed(named.unwrap_or_default().to_owned()))?;
            let claims = match self.is_opaque && !self.is_assumed() {
                true => self.claims(&role)?,
                false => run::with_request(|request| request.claims().map(str::to_owned))
                    .unwrap_or_default(),
            };
            let claims = live
                .and_then(|user| user.into_claims(&claims, &role))
                .unwrap_or(claims);
            if when == When::Late && !rights::outer_role_is(&role) {
                return Err(Refusal::TooLate.into());
            }
            identity::assume(&role, &claims)?;
        }
        if let Some(seen) = self.seen {
            let verdict = Verdict {
                is_live: true,
                needs_gate: self.stored.needs_gate(),
                holds_until: self.stored.expires_at,
            };
            run::with_request(|request| request.remember(seen, verdict));
        }
        Ok(())
    }

    /// Whether the claims are the token's already: a pre-request function may have added to them since.
    fn is_assumed(&self) -> bool {
        run::with_request(|request| match &request.identity.credential {
            Credential::Token(token) => {
                token.id == self.stored.id && token.user == self.stored.user
            }
            _ => false,
        })
    }

    /// The claims that a JWT with the same id, scopes and times would have.
    fn claims(&self, role: &str) -> Result<String, Error> {
        let issuer = settings::issuer();
        TokenPayload::new(&PersonalAccessToken {
            id: self.stored.id,
            user: self.stored.user,
            role,
            issuer: &issuer,
            scopes: &self.scopes,
            lifetime: Lifetime {
                issued_at: self.stored.created_at.unix_seconds(),
                expires_at: self.stored.expires_at.unix_seconds(),
            },
        })
        .to_json()
    }
}

/// Whether a token is neither revoked, expired nor disabled, and its user is there and not banned.
pub(super) fn check_life(token: &StoredToken) -> Result<(), Refusal> {
    match token.user_state {
        _ if token.is_revoked => Err(Refusal::Revoked),
        _ if token.expires_at <= Instant::now() => Err(Refusal::Expired),
        _ if token.is_disabled => Err(Refusal::Disabled),
        UserState::Active => Ok(()),
        UserState::Banned { .. } => Err(Refusal::UserBanned),
        UserState::Gone => Err(Refusal::UserGone),
    }
}
