//! Who calls a function that changes something for a user, and what the caller may do.
//!
//! A caller is judged twice: when the function begins, so that a caller without the right takes no locks and makes
//! nobody wait, and again after all locks, by what has committed by then. In between another transaction may have
//! revoked the token, ended the session or banned the user, and its client has been told that this is done. Functions
//! that grant, renew or change something take a [`Judged`], which only the second judgement gives, so that code without
//! it does not compile.

use std::ops::Deref;
use std::rc::Rc;

use pgrx::pg_sys::BuiltinOid::UUIDOID;
use supabase_pat_core::claims::{Credential, Identity, SessionClaim, TokenClaims};
use supabase_pat_core::error::Error;
use uuid::Uuid;

use crate::pg::statement::Statement;
use crate::pg::uuid::pg_uuid;
use crate::pg::{lock, rights, settings};
use crate::request::{Request, admitted, run, session, tables};
use crate::users::state::{self, UserState, state_of_user};

thread_local! {
    // A transaction that revokes, replaces or deletes the token waits until this one has ended, and this one waits for
    // it. Readers take no lock.
    static HOLD_TOKEN: Statement = const { Statement::new(
        "select from pat.api_keys where id operator(pg_catalog.=) $1 for share",
        &[UUIDOID],
    ) };
}

/// The caller of a function, by the role in force and the claims of the request.
pub struct Caller {
    is_trusted: bool,
    identity: Rc<Identity>,
}

/// The proof that the caller was judged again after all locks were taken, with what these locks are on. They are held
/// to the end of the transaction.
pub struct Judged<L>(L);

impl<L> Deref for Judged<L> {
    type Target = L;

    fn deref(&self) -> &L {
        &self.0
    }
}

impl Caller {
    /// The caller of the present call, judged for the first time.
    ///
    /// # Errors
    /// [`Error::DeadToken`] for a token that is not valid, with which a caller may do nothing, not even revoke it;
    /// [`Error::SessionEnded`] for a login whose session has ended; [`Error::BannedUser`] and [`Error::UnknownUser`]
    /// for any login of such a user; [`Error::NoUser`] for the anonymous role.
    pub fn now() -> Result<Self, Error> {
        let caller = Self {
            is_trusted: rights::is_trusted(),
            identity: run::with_request(|request| Rc::clone(&request.identity)),
        };
        caller.judge()?;
        Ok(caller)
    }

    /// Judges the caller again, by what has committed by now. The transaction must have taken all its other locks
    /// before: they are `locks`.
    ///
    /// # Errors
    /// Those of [`Self::now`].
    pub fn judged_after<L>(&self, locks: L) -> Result<Judged<L>, Error> {
        if !self.is_trusted {
            // The lock on the user comes first, so that one transaction at a time holds the token's row FOR SHARE.
            // Overlapping sharers would starve a revocation.
            if let Some(user) = self.identity.user {
                lock_user(user);
            }
            match (&self.identity.credential, self.identity.session) {
                (Credential::Token(token), _) => hold_token(token.id)?,
                (Credential::Login, SessionClaim::Id(session)) => session::hold(session)?,
                _ => (),
            }
            self.judge()?;
        }
        Ok(Judged(locks))
    }

    fn judge(&self) -> Result<(), Error> {
        if self.is_trusted {
            return Ok(());
        }
        if rights::current_role_is(&settings::anon_role()) {
            return Err(Error::NoUser);
        }
        let is_active = || Request::anew(&self.identity).is_active();
        match (&self.identity.credential, self.identity.user) {
            (Credential::Token(_) | Credential::Malformed, _) => match is_active() {
                true => Ok(()),
                false => Err(Error::DeadToken),
            },
            (Credential::Login, user) => {
                if let Some(user) = user.filter(|_| state::table().is_some()) {
                    require_active(user, state_of_user(user)?)?;
                }
                match is_active() {
                    true => Ok(()),
                    false => Err(Error::SessionEnded),
                }
            }
        }
    }

    /// Whether the role in force is trusted: see [`rights::is_trusted`].
    pub fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// What the claims of the request say.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The user whom the claims name.
    pub fn user(&self) -> Option<Uuid> {
        self.identity.user
    }

    /// The personal access token of the request. `None` if the request has none, and for a trusted role, which needs
    /// none.
    pub fn token(&self) -> Option<&TokenClaims> {
        match &self.identity.credential {
            Credential::Token(token) if !self.is_trusted => Some(token),
            _ => None,
        }
    }

    /// The id of that token.
    pub fn token_id(&self) -> Option<Uuid> {
        self.token().map(|token| token.id)
    }

    /// The user whose tokens a call is about: the one who is named, else the caller. `verb` is for the message. The
    /// answer for the id of another user is the same whether or not that user exists.
    ///
    /// # Errors
    /// [`Error::NotYours`] for another user than the caller, unless the caller is trusted; [`Error::NoUser`] if the
    /// claims name none.
    pub fn owner_for(&self, verb: &'static str, named: Option<Uuid>) -> Result<Uuid, Error> {
        match named {
            Some(user) if self.is_trusted => Ok(user),
            None => self.user().ok_or(Error::NoUser),
            Some(user) => match self.user().ok_or(Error::NoUser)? {
                own if own == user => Ok(own),
                _ => Err(Error::NotYours(verb)),
            },
        }
    }

    /// The user to whom a token must belong so that this caller may change it. `None` means any user.
    ///
    /// # Errors
    /// [`Error::NoUser`] if the claims name none, unless the caller is trusted.
    pub fn owner_filter(&self) -> Result<Option<Uuid>, Error> {
        match self.is_trusted {
            true => Ok(None),
            false => self.user().ok_or(Error::NoUser).map(Some),
        }
    }

    /// Lets a token go on only if its scopes grant `scope`; a login may go on. `verb` is for the message.
    ///
    /// # Errors
    /// [`Error::ScopeMissing`].
    pub fn require_scope(&self, verb: &'static str, scope: &'static str) -> Result<(), Error> {
        match self.token() {
            Some(token) => {
                let wanted = scope.parse()?;
                let admitted = admitted::scopes();
                let has_scope = token.scopes.grants(&wanted)
                    && admitted.is_none_or(|scopes| scopes.grants(&wanted));
                match has_scope {
                    true => Ok(()),
                    false => Err(Error::ScopeMissing(verb, scope)),
                }
            }
            None => Ok(()),
        }
    }
}

/// Takes the lock of `user`, to the end of the transaction. Transactions that mint tokens for a user, revoke tokens of
/// the user or end sessions of the user all take it, so that each counts and ends what the ones before it have left. It
/// is taken before any lock on a row, so that there is no deadlock. Readers take no lock.
pub fn lock_user(user: Uuid) {
    if let Some(tokens) = tables::tokens() {
        lock::bucket(tokens.table, &user);
    }
}

/// Waits for whoever changes the row of a token by hand, and makes them wait: what is read of it from now on stays so to
/// the end of the transaction. To be called behind the lock on its user, as [`Caller::judged_after`] says.
///
/// # Errors
/// Those of [`Statement::run`].
pub fn hold_token(token: Uuid) -> Result<(), Error> {
    let id = [pg_uuid(token).into()];
    HOLD_TOKEN.with(|statement| statement.run_on_latest(&id))?;
    Ok(())
}

/// Goes on only if the user may log in.
///
/// # Errors
/// [`Error::BannedUser`], [`Error::UnknownUser`].
pub fn require_active(user: Uuid, state: UserState) -> Result<(), Error> {
    match state {
        UserState::Active => Ok(()),
        UserState::Banned { .. } => Err(Error::BannedUser(user)),
        UserState::Gone => Err(Error::UnknownUser(user)),
    }
}
