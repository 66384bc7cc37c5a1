//! Who calls a function that changes something of a user's, and what that lets them do.
//!
//! A caller is judged twice: when the function begins, so that nobody without a right waits for locks or makes
//! others wait, and again after all locks, by what has committed by then. In between somebody may have revoked
//! the token, ended the session or banned the user, and has been told that it is done. What grants, renews or
//! changes takes a [`Judged`], which only the second judgement gives: to forget it does not compile.

use std::ops::Deref;
use std::rc::Rc;

use pgrx::pg_sys::BuiltinOid::UUIDOID;
use supabase_pat_core::claims::{Credential, Identity, SessionClaim, TokenClaims};
use supabase_pat_core::error::Error;
use uuid::Uuid;

use crate::pg::statement::Statement;
use crate::pg::uuid::pg_uuid;
use crate::pg::{lock, rights, settings};
use crate::request::{Request, run, session, tables};
use crate::users::state::{self, UserState, state_of_user};

thread_local! {
    // Whoever revokes, replaces or deletes the token waits until this transaction has ended, and this one for
    // them. Readers are not concerned.
    static HOLD_KEY: Statement = const { Statement::new(
        "select from pat.api_keys where id operator(pg_catalog.=) $1 for share",
        &[UUIDOID],
    ) };
}

pub struct Caller {
    is_trusted: bool,
    identity: Rc<Identity>,
}

/// Locks, behind which the caller was judged again. They are held to the end of the transaction.
pub struct Judged<L>(L);

impl<L> Deref for Judged<L> {
    type Target = L;

    fn deref(&self) -> &L {
        &self.0
    }
}

impl Caller {
    /// # Errors
    /// [`Error::DeadToken`]: whoever holds a revoked token may do nothing with it, not even revoke;
    /// [`Error::SessionEnded`], and those of a login without a session whose user may not log in;
    /// [`Error::NoUser`] for the anonymous role.
    pub fn now() -> Result<Self, Error> {
        let caller = Self {
            is_trusted: rights::is_trusted(),
            identity: run::with_request(|request| Rc::clone(&request.identity)),
        };
        caller.judge()?;
        Ok(caller)
    }

    /// Judges the caller again, by what has committed by now. All other locks that the transaction is to take
    /// must have been taken: they are `locks`.
    ///
    /// # Errors
    /// Those of [`Self::now`].
    pub fn judged_after<L>(&self, locks: L) -> Result<Judged<L>, Error> {
        if !self.is_trusted {
            // One after the other holds the row. Else many at once could hold it in turn without a gap, and whoever
            // revokes would wait for ever.
            if let Some(user) = self.identity.user {
                lock_user(user);
            }
            match (&self.identity.credential, self.identity.session) {
                (Credential::Token(token), _) => {
                    let key = [pg_uuid(token.key_id).into()];
                    HOLD_KEY.with(|statement| statement.run_on_latest(&key))?;
                }
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
        if rights::role_is(&settings::anon_role()) {
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

    pub fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn user(&self) -> Option<Uuid> {
        self.identity.user
    }

    /// The personal access token of the request, if it was made with one and the role in force is not trusted
    /// by itself.
    pub fn token(&self) -> Option<&TokenClaims> {
        match &self.identity.credential {
            Credential::Token(token) if !self.is_trusted => Some(token),
            _ => None,
        }
    }

    /// The id of that token.
    pub fn token_id(&self) -> Option<Uuid> {
        self.token().map(|token| token.key_id)
    }

    /// Whose tokens a call is about: the user who is named, else the caller. The answer for another
    /// user's id is the same whether there is such a user or not.
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

    /// The owner that a key must have to be touched by this caller: `None` is any.
    pub fn owner_filter(&self) -> Result<Option<Uuid>, Error> {
        match self.is_trusted {
            true => Ok(None),
            false => self.user().ok_or(Error::NoUser).map(Some),
        }
    }

    /// What a token may do that has a list of scopes, the list says.
    pub fn require_scope(&self, verb: &'static str, scope: &'static str) -> Result<(), Error> {
        match self.token() {
            Some(token) if !token.scopes.grants(&scope.parse()?) => {
                Err(Error::ScopeMissing(verb, scope))
            }
            _ => Ok(()),
        }
    }
}

/// Makes transactions that give `user` a token, revoke tokens of theirs or end their sessions wait for each other: none
/// counts, or ends, without what the others do. Held to the end of the transaction; taken before any lock on a row, so
/// that nobody waits in a circle. Readers are not concerned.
pub fn lock_user(user: Uuid) {
    if let Some(tokens) = tables::tokens() {
        lock::bucket(tokens.table, &user);
    }
}

/// # Errors
/// [`Error::BannedUser`], [`Error::UnknownUser`].
pub fn require_active(user: Uuid, state: UserState) -> Result<(), Error> {
    match state {
        UserState::Active => Ok(()),
        UserState::Banned { .. } => Err(Error::BannedUser(user)),
        UserState::Gone => Err(Error::UnknownUser(user)),
    }
}
