//! What policies ask about the request.
//!
//! Policies call `pat.uid()` and `is_valid_api_token()` once for each row. So these are plain functions of version 1,
//! declared in sql/request.sql: the wrapper of `#[pg_extern]` takes about 10 ns, twice as long as they take once the
//! answer is known.
#![allow(unsafe_code)]

use pgrx::datum::Uuid as PgUuid;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;
use supabase_pat_core::claims::Credential;
use supabase_pat_core::scope::Scope;
use uuid::Uuid;

use crate::pg::error::{SqlResult, reported};
use crate::pg::function::version_1;
use crate::pg::memory;
use crate::pg::uuid::pg_uuid;
use crate::request::run;

// Files with policies come after all that policies call, wherever that stands.
extension_sql_file!(
    "../../sql/request.sql",
    name = "request",
    requires = [
        has_scope,
        api_key_attribute,
        current_api_key_id,
        is_active_session,
        is_trusted,
        auth_function_problem,
        is_service_account,
        manages_service_account,
        created_service_account
    ]
);

version_1!(pg_finfo_supabase_pat_is_valid_api_token);
version_1!(pg_finfo_supabase_pat_uid);

/// # Safety
/// Called by Postgres.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn supabase_pat_is_valid_api_token(call: FunctionCallInfo) -> Datum {
    // SAFETY: the reference ends with the `match` on a copied answer, before anything else is called.
    match unsafe { run::known_request() }.and_then(|request| request.known_validity()) {
        Some(is_valid) => is_valid.into(),
        // SAFETY: it is called as this function is: `call` is Postgres's.
        None => unsafe { check_validity(call) },
    }
}

#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn check_validity(_call: FunctionCallInfo) -> Datum {
    memory::with_room(|| run::with_request(|request| request.is_valid())).into()
}

/// # Safety
/// Called by Postgres.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn supabase_pat_uid(call: FunctionCallInfo) -> Datum {
    // SAFETY: the reference ends before `keep_user` is called. `call` and its `flinfo` are valid, and `fn_extra` is
    // null or points to an id that `keep_user` has put there, in memory that lives as long as `flinfo`.
    unsafe {
        if let Some(request) = run::known_request()
            && let Some(user) = request.identity.user
            && let kept = (*(*call).flinfo).fn_extra.cast::<Uuid>()
            && !kept.is_null()
            && *kept == user
        {
            (*call).isnull = false;
            return Datum::from(kept);
        }
        keep_user(call)
    }
}

/// Finds the user and keeps the id with the call site, whose memory outlives the result. Another user's id gets memory
/// of its own, since a row that is still being built may point to the old id.
#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn keep_user(call: FunctionCallInfo) -> Datum {
    memory::with_room(|| {
        let user = run::with_request(|request| request.identity.user);
        // SAFETY: Postgres passes a valid `call` with its `flinfo`, and `fn_extra` is used by this file alone. A Uuid is 16
        // bytes without alignment, which is what SQL's uuid is.
        unsafe {
            let Some(user) = user else {
                (*call).isnull = true;
                return Datum::from(0);
            };
            let site = (*call).flinfo;
            let mut kept = (*site).fn_extra.cast::<Uuid>();
            if kept.is_null() || *kept != user {
                kept = pg_sys::MemoryContextAlloc((*site).fn_mcxt, size_of::<Uuid>()).cast();
                kept.write(user);
                (*site).fn_extra = kept.cast();
            }
            (*call).isnull = false;
            Datum::from(kept)
        }
    })
}

#[pg_extern(schema = "public", stable, parallel_safe, cost = 4, requires = ["schema"])]
fn has_scope(scope: &str) -> SqlResult<bool> {
    reported(|| {
        let scope: Scope = scope.parse()?;
        Ok(run::with_request(|request| request.has_scope(&scope)))
    })
}

#[pg_extern(schema = "public", stable, parallel_safe, requires = ["schema"])]
fn current_api_key_id() -> Option<PgUuid> {
    run::with_request(|request| match &request.identity.credential {
        Credential::Token(token) => Some(pg_uuid(token.id)),
        _ => None,
    })
}

#[pg_extern(schema = "public", stable, parallel_safe, cost = 4, requires = ["schema"])]
fn is_active_session() -> bool {
    memory::with_room(|| run::with_request(|request| request.is_active()))
}
