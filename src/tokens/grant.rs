//! What a caller may grant to a new token, and which tokens a caller may revoke.

use supabase_pat_core::attributes::Attributes;
use supabase_pat_core::claims::{Credential, SessionClaim};
use supabase_pat_core::error::Error;
use supabase_pat_core::restrictions::Restrictions;
use supabase_pat_core::scope::{Scopes, TOKENS_DELETE, TOKENS_WRITE};
use uuid::Uuid;

use super::lookup::{self, StoredToken};
use crate::pg::rights;
use crate::pg::settings;
use crate::request::caller::Caller;
use crate::request::{identity, run, session};
use crate::users::state;

impl Caller {
    /// Whether the caller may make a token with these scopes and attributes. A token must not renew itself or make another one, unless
    /// it was made for that, and then it grants no more than it has. `verb` says what the caller is about to do, for
    /// messages.
    ///
    /// # Errors
    /// [`Error::ScopeWidened`], [`Error::AttributesWidened`], [`Error::NotWithLimitedToken`], and those of
    /// [`Caller::require_scope`].
    pub fn check_may_grant(
        &self,
        verb: &'static str,
        scopes: &Scopes,
        attributes: &Attributes,
    ) -> Result<(), Error> {
        self.require_scope(verb, TOKENS_WRITE)?;
        let Some(claimed) = self.token() else {
            return Ok(());
        };
        let token = lookup::by_id(claimed.id).ok_or(Error::DeadToken)?;
        if !token.narrow(&claimed.scopes).include(scopes) {
            return Err(Error::ScopeWidened);
        }
        if !token.attributes().include(attributes) {
            return Err(Error::AttributesWidened);
        }
        // Each new token would have an allowance of its own, so that together they would exceed the limit.
        match token.is_limited() {
            true => Err(Error::NotWithLimitedToken(verb)),
            false => Ok(()),
        }
    }

    /// Whether the caller may rotate that token, which ends it: so a token needs more for another one than for itself.
    /// What the token has that is replaced is asked later.
    ///
    /// # Errors
    /// [`Error::NotWithLimitedToken`], [`Error::DeadToken`], and those of [`Caller::require_scope`].
    pub fn check_may_rotate(&self, token: Uuid) -> Result<(), Error> {
        const ROTATE: &str = "rotate tokens";
        let nothing = Scopes::Only(Vec::new());
        match self.token() {
            None => self.check_may_grant(ROTATE, &nothing, &Attributes::default()),
            Some(own) => {
                let attributes = lookup::by_id(own.id).map(|token| token.attributes());
                self.check_may_grant(ROTATE, &nothing, &attributes.unwrap_or_default())?;
                match own.id == token {
                    true => Ok(()),
                    false => self.require_scope("rotate other tokens", TOKENS_DELETE),
                }
            }
        }
    }

    /// Whether the caller may edit that token. A token may narrow itself; to edit another one is to end what that could
    /// do. `loosens` says whether something else is asked than to narrow it.
    ///
    /// # Errors
    /// Those of [`Caller::require_scope`].
    pub fn check_may_edit(&self, token: Uuid, loosens: bool) -> Result<(), Error> {
        const EDIT: &str = "edit tokens";
        let Some(own) = self.token() else {
            return Ok(());
        };
        if own.id != token {
            self.require_scope(EDIT, TOKENS_DELETE)?;
        }
        match own.id != token || loosens {
            true => self.require_scope(EDIT, TOKENS_WRITE),
            false => Ok(()),
        }
    }

    /// Whether the caller may enable that token again. It brings back what the token may do, so it is as good as minting
    /// one; but the token would not say what restricts the login, so a restricted one enables none, whatever it may mint.
    ///
    /// # Errors
    /// Those of [`Caller::check_may_grant`] and [`Caller::restrictions`].
    pub fn check_may_enable(&self, token: &StoredToken) -> Result<(), Error> {
        const ENABLE: &str = "enable tokens";
        let scopes = token.scopes();
        self.check_may_grant(ENABLE, &scopes, &token.attributes())?;
        let found = self.restrictions(ENABLE, token.user, &scopes)?;
        match (found.carried().to_json()?, found.kind()) {
            (Some(_), Some(kind)) => Err(Error::RestrictedLogin(ENABLE, kind)),
            _ => Ok(()),
        }
    }

    /// What a new token must say of the login that makes it. A token outlives the login, so what restricts the login
    /// must restrict the token too. A restricted login makes no token, unless a setting allows it.
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
        if self.is_trusted() {
            return Ok(Restrictions::of_user(state::is_anonymous(user)));
        }
        // The token of a service account is as restricted as the login that makes it.
        let is_anonymous = state::is_anonymous(self.user().unwrap_or(user));
        let authenticated = settings::authenticated_role();
        let claims = run::with_request(|request| request.claims().map(str::to_owned));
        let found =
            Restrictions::of_claims(claims.as_deref(), is_anonymous, identity::legacy_claim)?;
        if !rights::current_role_is(&authenticated) || !found.has_role(&authenticated) {
            return Err(Error::RoleOfLogin(verb, authenticated));
        }
        if let (Credential::Login, SessionClaim::Id(session)) =
            (&self.identity().credential, self.identity().session)
            && !found.names_client()
            && session::is_of_a_client(session)?
        {
            // The claims of the login do not name the application, so its token could not name it either.
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

    /// Whether the caller may revoke that token, or, with `None`, any others. A token may always revoke itself.
    ///
    /// # Errors
    /// Those of [`Caller::require_scope`].
    pub fn check_may_revoke(&self, token: Option<Uuid>) -> Result<(), Error> {
        match self.token() {
            Some(own) if token == Some(own.id) => Ok(()),
            _ => self.require_scope("revoke other tokens", TOKENS_DELETE),
        }
    }
}
