//! Who manages service accounts, and what policies ask about them.
//!
//! A function of the operator's says who manages which account. It is asked with the rights of whoever calls and never
//! with raised ones, and only about what is an account: an organisation's table of members names ordinary users too, and
//! whoever manages members must not get their tokens.

use std::cell::Cell;

use pgrx::datum::Uuid as PgUuid;
use pgrx::prelude::*;
use supabase_pat_core::error::Error;
use uuid::Uuid;

use crate::pg::error::{SqlResult, reported};
use crate::pg::predicate::{Predicate, Sees};
use crate::pg::uuid::to_uuid;
use crate::pg::{memory, rights, settings};
use crate::request::{Request, run};
use crate::users::accounts;

/// Whether the function of the operator's says that the caller manages an account, or, for `None`, may create one. False
/// while none is set, and for a user who is no service account.
///
/// # Errors
/// [`Error::ServiceAccountManager`] if the function cannot be called. Its own errors pass through.
pub fn manages(account: Option<Uuid>, sees: Sees) -> Result<bool, Error> {
    let Some(name) = settings::service_account_manager() else {
        return Ok(false);
    };
    // Before it is known whether there is such an account, so that no answer tells.
    let manager = match Predicate::find(&name, rights::in_force()) {
        Ok(manager) => manager,
        Err(reason) => return Err(Error::ServiceAccountManager { name, reason }),
    };
    let Some(_asking) = Asking::begin() else {
        let reason = "it asks in turn who manages service accounts";
        return Err(Error::ServiceAccountManager { name, reason });
    };
    if account.is_some_and(|account| !accounts::is_account(account)) {
        return Ok(false);
    }
    Ok(manager.says(account, sees))
}

/// Shows that the function of the operator's is being asked.
struct Asking;

thread_local! {
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
}

impl Asking {
    /// `None` if it is being asked already: it would go on until the stack is used up.
    fn begin() -> Option<Self> {
        (!IS_ASKING.replace(true)).then_some(Self)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        IS_ASKING.set(false);
    }
}

impl Request {
    /// The answer of `is_service_account()`.
    fn is_service_account(&mut self) -> bool {
        if let Some(known) = self.is_service_account {
            return known;
        }
        let found = self.identity.user.is_some_and(accounts::is_account);
        *self.is_service_account.insert(found)
    }
}

#[pg_extern(schema = "public", stable, parallel_safe, cost = 4, requires = ["schema"])]
fn is_service_account() -> bool {
    memory::with_room(|| run::with_request(Request::is_service_account))
}

#[pg_extern(stable, parallel_restricted, cost = 1000, requires = ["schema"])]
fn manages_service_account(
    account: Option<PgUuid>,
    call: pg_sys::FunctionCallInfo,
) -> SqlResult<bool> {
    reported(|| match account.map(to_uuid) {
        None => Ok(false),
        Some(account) if rights::is_trusted() => Ok(accounts::is_account(account)),
        // Only claims are known to the function, and these a revoked token still has.
        Some(_) if !run::with_request(Request::is_active) => Ok(false),
        Some(account) => manages(Some(account), Sees::Statement(call)),
    })
}

/// For `supabase_pat.service_account_manager` where there are no organisations.
#[pg_extern(stable, parallel_safe, requires = ["schema"])]
fn created_service_account(account: Option<PgUuid>) -> bool {
    memory::with_room(|| {
        let Some(user) = run::with_request(|request| request.identity.user) else {
            return false;
        };
        match account.map(to_uuid) {
            None => true,
            Some(account) => accounts::creator_of(account) == Some(Some(user)),
        }
    })
}
