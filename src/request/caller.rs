//! Who calls a function that changes something for a user, and what the caller may do.
//!
//! A caller is judged twice: when the function begins, so that a caller without the right takes no locks and makes
//! nobody wait, and again after all locks, by what has committed by then. In between another transaction may have
//! revoked the token, ended the session or banned the user, and its client has been told that this is done. Functions
//! that grant, renew or change something take a [`Judged`], which only the second judgement gives, so that code without
//! it does not compile.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::rc::Rc;

use pgrx::pg_sys::BuiltinOid::UUIDOID;
use supabase_pat_core::claims::{Credential, Identity, SessionClaim, TokenClaims};
use supabase_pat_core::error::Error;
use supabase_pat_core::scope::SERVICE_ACCOUNTS_WRITE;
use uuid::Uuid;

use crate::pg::predicate::Sees;
use crate::pg::statement::Statement;
use crate::pg::uuid::pg_uuid;
use crate::pg::{lock, rights, settings};
use crate::request::accounts::manages;
use crate::request::{Request, admitted, run, session, tables};
use crate::users::accounts;
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
    as_manager: Cell<AsManager>,
}

/// What a caller does by the word of the function of the operator's, which is asked again behind all locks.
#[derive(Clone, Copy)]
enum AsManager {
    Nothing,
    /// Changes the tokens of a service account. The verb is for the message.
    ChangesTokens(&'static str, Uuid),
    /// Deletes a service account, or sees its tokens.
    HasAccount(Uuid),
    /// Creates one.
    Creates(&'static str),
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
    /// [`Error::SessionEnded`] for a login whose session has ended; [`Error::BannedUser`], [`Error::UnknownUser`] and
    /// [`Error::ServiceAccount`] for any login of such a user; [`Error::NoUser`] for the anonymous role.
    pub fn now() -> Result<Self, Error> {
        let caller = Self {
            is_trusted: rights::is_trusted(),
            identity: run::with_request(|request| Rc::clone(&request.identity)),
            as_manager: Cell::new(AsManager::Nothing),
        };
        caller.judge()?;
        Ok(caller)
    }

    /// Judges the caller again, by what has committed by now. The transaction must have taken all its other locks
    /// before: they are `locks`. Whoever acts as the manager of a service account must manage it still.
    ///
    /// # Errors
    /// Those of [`Self::now`], and [`Error::NotYours`], [`Error::UnknownServiceAccount`] and [`Error::NotManager`].
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
            // What the function of the operator's does is seen by what comes after it.
            self.judge_manager()?;
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
                    // It acts by its tokens alone, so that what these may not do nobody does in its name.
                    if accounts::is_account(user) {
                        return Err(Error::ServiceAccount(user));
                    }
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

    fn judge_manager(&self) -> Result<(), Error> {
        match self.as_manager.get() {
            AsManager::Nothing => Ok(()),
            AsManager::ChangesTokens(verb, account) => {
                match manages(Some(account), Sees::Latest)? {
                    true => Ok(()),
                    false => Err(Error::NotYours(verb)),
                }
            }
            AsManager::HasAccount(account) => match manages(Some(account), Sees::Latest)? {
                true => Ok(()),
                false => Err(Error::UnknownServiceAccount(account)),
            },
            AsManager::Creates(action) => match manages(None, Sees::Latest)? {
                true => Ok(()),
                false => Err(Error::NotManager(action)),
            },
        }
    }

    /// Whether the caller, who is not trusted, may change the tokens of that user as the manager of a service account. If
    /// so, a token must have the scope for it, and [`Self::judged_after`] asks again.
    ///
    /// # Errors
    /// Those of [`manages`] and [`Self::require_scope`].
    fn manages_tokens(&self, verb: &'static str, account: Uuid) -> Result<bool, Error> {
        if !manages(Some(account), Sees::Latest)? {
            return Ok(false);
        }
        self.require_scope("manage service accounts", SERVICE_ACCOUNTS_WRITE)?;
        self.as_manager.set(AsManager::ChangesTokens(verb, account));
        Ok(true)
    }

    /// Whether the caller may delete that service account or see its tokens: trusted roles may, and whoever manages it.
    /// False if the user is no service account. `action` is for the messages.
    ///
    /// # Errors
    /// [`Error::NoUser`]; [`Error::NotTrusted`] while nobody else manages accounts; those of [`manages`] and
    /// [`Self::require_scope`].
    pub fn manages_account(
        &self,
        action: &'static str,
        account: Uuid,
        scope: &'static str,
    ) -> Result<bool, Error> {
        if self.is_trusted {
            return Ok(accounts::is_account(account));
        }
        self.user().ok_or(Error::NoUser)?;
        if settings::service_account_manager().is_none() {
            return Err(Error::NotTrusted(action));
        }
        if !manages(Some(account), Sees::Latest)? {
            return Ok(false);
        }
        self.require_scope(action, scope)?;
        self.as_manager.set(AsManager::HasAccount(account));
        Ok(true)
    }

    /// Goes on only if the caller may create a service account. One of these creates no others, whatever the function of
    /// the operator's says: each would have an allowance of its own. `action` is for the messages.
    ///
    /// # Errors
    /// [`Error::NoUser`], [`Error::NotTrusted`], [`Error::NotForServiceAccounts`], [`Error::NotManager`], and those of
    /// [`manages`] and [`Self::require_scope`].
    pub fn check_may_create_account(&self, action: &'static str) -> Result<(), Error> {
        if self.is_trusted {
            return Ok(());
        }
        let user = self.user().ok_or(Error::NoUser)?;
        if settings::service_account_manager().is_none() {
            return Err(Error::NotTrusted(action));
        }
        if accounts::is_account(user) {
            return Err(Error::NotForServiceAccounts(action));
        }
        if !manages(None, Sees::Latest)? {
            return Err(Error::NotManager(action));
        }
        self.require_scope(action, SERVICE_ACCOUNTS_WRITE)?;
        self.as_manager.set(AsManager::Creates(action));
        Ok(())
    }

    /// Takes the locks of a user and of the caller, in the order that all take them in who need both.
    pub fn lock_with(&self, user: Uuid) {
        match self.user() {
            Some(own) if !self.is_trusted => lock_users(&[own, user]),
            _ => lock_user(user),
        }
    }

    /// The user whose tokens a call is about: the one who is named, else the caller. `verb` is for the message. The
    /// answer for the id of another user is the same whether or not that user exists.
    ///
    /// # Errors
    /// [`Error::NotYours`] for another user than the caller, unless the caller is trusted, or that is a service account
    /// which the caller manages; [`Error::NoUser`] if the claims name none; those of [`manages`].
    pub fn owner_for(&self, verb: &'static str, named: Option<Uuid>) -> Result<Uuid, Error> {
        match named {
            Some(user) if self.is_trusted => Ok(user),
            None => self.user().ok_or(Error::NoUser),
            Some(user) => match self.user().ok_or(Error::NoUser)? {
                own if own == user => Ok(own),
                _ if self.manages_tokens(verb, user)? => Ok(user),
                _ => Err(Error::NotYours(verb)),
            },
        }
    }

    /// The user of a token, if this caller may change that user's tokens: anybody's for a trusted role, else the caller's
    /// own, and those of service accounts which the caller manages. `verb` is for the message.
    ///
    /// # Errors
    /// [`Error::NoUser`] if the claims name none, unless the caller is trusted; those of [`manages`].
    pub fn owner_among(
        &self,
        verb: &'static str,
        found: Option<Uuid>,
    ) -> Result<Option<Uuid>, Error> {
        if self.is_trusted {
            return Ok(found);
        }
        let own = self.user().ok_or(Error::NoUser)?;
        match found {
            Some(user) if user == own => Ok(found),
            Some(user) if self.manages_tokens(verb, user)? => Ok(found),
            _ => Ok(None),
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

/// Takes the locks of [`lock_user`] of several users, in the order of their numbers, so that two transactions that do so
/// never wait for each other.
pub fn lock_users(users: &[Uuid]) {
    let mut users = users.to_vec();
    users.sort_by_key(lock::number_of);
    users.into_iter().for_each(lock_user);
}

/// Takes the locks of [`lock_users`] of a set that is known only behind the locks: those of `users`, and of those whom
/// `find` then finds. A lock that comes earlier in the order than one that is held could be held by somebody who waits for that
/// one, so all are let go, and taken again in their order.
pub fn lock_all_found(
    mut users: BTreeSet<Uuid>,
    find: impl Fn() -> BTreeSet<Uuid>,
) -> BTreeSet<Uuid> {
    // Whoever adds users again and again must not keep this from coming to an end: at last it holds what it has.
    const RELEASES: usize = 20;
    users.extend(find());
    for round in 0.. {
        let locked: Vec<Uuid> = users.iter().copied().collect();
        lock_users(&locked);
        users.extend(find());
        if users.len() == locked.len() {
            break;
        }
        if round < RELEASES {
            locked.iter().for_each(unlock_user);
        }
    }
    users
}

fn unlock_user(user: &Uuid) {
    if let Some(tokens) = tables::tokens() {
        lock::release(tokens.table, user);
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
