//! What a caller may hand out, and take away.

use supabase_pat_core::claims::{Credential, SessionClaim};
use supabase_pat_core::error::Error;
use supabase_pat_core::restrictions::Restrictions;
use supabase_pat_core::scope::{Scopes, TOKENS_DELETE, TOKENS_WRITE};
use uuid::Uuid;

use super::lookup;
use crate::pg::rights;
use crate::pg::settings;
use crate::request::caller::Caller;
use crate::request::{identity, run, session};
use crate::users;

impl Caller {
    /// A token must not be able to renew itself or to make another, unless it was made for that,
    /// and then it hands out no more than it has. No more does a login that is restricted.
    pub fn check_may_grant(&self, verb: &'static str, scopes: &Scopes) -> Result<(), Error> {
        self.require_scope(verb, TOKENS_WRITE)?;
        let Some(token) = self.token() else {
            return Ok(());
        };
        if !token.scopes.include(scopes) {
            return Err(Error::ScopeWidened);
        }
        // The next token would have an allowance of its own, and the one after that.
        match lookup::by_id(token.key_id) {
            Some(key) if key.limit.is_some() || key.allowed_networks().is_some() => {
                Err(Error::NotWithLimitedToken(verb))
            }
            _ => Ok(()),
        }
    }

    /// What restricts a login restricts the token that it makes too, which lives longer. So a restricted login makes
    /// none, unless a setting says so; and then this is what the token must say of it.
    ///
    /// # Errors
    /// [`Error::RoleOfLogin`], [`Error::RestrictedLogin`], [`Error::AalTooLow`], [`Error::LoginScopeWidened`],
    /// [`Error::UnclearClaims`], [`Error::ClaimsTooLarge`], [`Error::NoUsersTable`].
    pub fn restrictions(
        &self,
        verb: &'static str,
        user: Uuid,
        scopes: &Scopes,
    ) -> Result<Restrictions, Error> {
        let is_anonymous = users::is_anonymous(user)?;
        if self.is_trusted() {
            return Ok(Restrictions::of_user(is_anonymous));
        }
        let authenticated = settings::authenticated_role();
        let claims = run::with_request(|request| request.claims().map(str::to_owned));
        let found =
            Restrictions::of_claims(claims.as_deref(), is_anonymous, identity::legacy_claim)?;
        if !rights::role_is(&authenticated) || !found.has_role(&authenticated) {
            return Err(Error::RoleOfLogin(verb, authenticated));
        }
        if let (Credential::Login, SessionClaim::Id(session)) =
            (&self.identity().credential, self.identity().session)
            && !found.names_client()
            && session::is_of_a_client(session)?
        {
            // Which one its claims do not say, so that its token could not either.
            return Err(Error::RestrictedLogin(verb, "of an application"));
        }
        if let Some(kind) = found.kind()
            && !settings::mint_for_restricted_logins()
        {
            return Err(Error::RestrictedLogin(verb, kind));
        }
        if let Credential::Login = self.identity().credential {
            let required = settings::mint_requires_aal();
            if !found.has_aal(&required) {
                return Err(Error::AalTooLow(verb, required));
            }
            if !found.scope_includes(scopes) {
                return Err(Error::LoginScopeWidened);
            }
        }
        Ok(found)
    }

    /// A token may always revoke itself.
    pub fn check_may_revoke(&self, key: Option<Uuid>) -> Result<(), Error> {
        match self.token() {
            Some(token) if key == Some(token.key_id) => Ok(()),
            _ => self.require_scope("revoke other tokens", TOKENS_DELETE),
        }
    }
}
