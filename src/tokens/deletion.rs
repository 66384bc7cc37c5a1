//! The trigger of `pat.api_keys` for a key that is deleted, by whomever and however.
//!
//! A version-1 function, declared in sql/tokens.sql: that of pgrx raises an internal error where it is called otherwise.
#![allow(unsafe_code)]

use pgrx::datum::Uuid as PgUuid;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::{PgTrigger, pg_guard, pg_sys};
use supabase_pat_core::error::Error;
use uuid::Uuid;

use crate::pg::error::reported;
use crate::pg::function::version_1;
use crate::tokens::store;

version_1!(pg_finfo_key_deleted_wrapper);

/// # Safety
/// Called by Postgres.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn key_deleted_wrapper(
    call: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    reported(|| {
        // SAFETY: the call is Postgres's. What is no call of a trigger is an error.
        let trigger = unsafe { PgTrigger::from_fcinfo(&*call) }.map_err(|_| Error::NotATrigger)?;
        let Some(old) = trigger.old() else {
            return Ok(());
        };
        let id = |column| {
            let id: Option<PgUuid> = old.get_by_name(column).ok().flatten();
            id.map(|id| Uuid::from_bytes(*id.as_bytes()))
        };
        if let (Some(key), Some(user)) = (id("id"), id("user_id")) {
            store::key_was_deleted(key, user)?;
        }
        Ok(())
    })
    .unwrap_or_report();
    // What a trigger returns that runs after the change is not looked at.
    pg_sys::Datum::from(0)
}
