//! The trigger on `pat.api_keys` that runs when a token is deleted, by whomever and however.
//!
//! It is a version-1 function, declared in sql/tokens.sql, since a trigger function of pgrx raises an internal error
//! where it is called as something else.
#![allow(unsafe_code)]

use pgrx::datum::Uuid as PgUuid;
use pgrx::pg_sys::BuiltinOid::{TEXTOID, UUIDOID};
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::{PgTrigger, pg_guard, pg_sys};
use supabase_pat_core::error::Error;
use uuid::Uuid;

use crate::events::Actor;
use crate::notices;
use crate::pg::clock::Instant;
use crate::pg::durability;
use crate::pg::error::reported;
use crate::pg::function::version_1;
use crate::pg::statement::Statement;
use crate::pg::uuid::pg_uuid;

thread_local! {
    // The row of the token's last use is left to the background worker: a transaction that deletes a token must not
    // wait for the worker, nor fail because the worker has written meanwhile.
    static RECORD: Statement = const { Statement::new(
        "insert into pat.events (event, user_id, key_id, role, by_key, address) \
         values ('token_deleted', $2, $1, $3, $4, $5::pg_catalog.inet)",
        &[UUIDOID, UUIDOID, TEXTOID, UUIDOID, TEXTOID],
    ) };
}

version_1!(pg_finfo_key_deleted_wrapper);

/// # Safety
/// Called by Postgres.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn key_deleted_wrapper(
    call: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    reported(|| {
        // SAFETY: the call is Postgres's. A call that is none of a trigger is an error.
        let trigger = unsafe { PgTrigger::from_fcinfo(&*call) }.map_err(|_| Error::NotATrigger)?;
        let Some(old) = trigger.old() else {
            return Ok(());
        };
        let id = |column| {
            let id: Option<PgUuid> = old.get_by_name(column).ok().flatten();
            id.map(|id| Uuid::from_bytes(*id.as_bytes()))
        };
        if let (Some(token), Some(user)) = (id("id"), id("user_id")) {
            let now = Instant::now();
            record(token, user)?;
            notices::deleted(&old, now)?;
        }
        Ok(())
    })
    .unwrap_or_report();
    // Postgres does not look at what a trigger returns that runs after the change.
    pg_sys::Datum::from(0)
}

/// Records that a token has been deleted.
fn record(id: Uuid, user: Uuid) -> Result<(), Error> {
    let actor = Actor::now();
    let [role, by_token, address] = actor.arguments();
    let arguments = [
        pg_uuid(id).into(),
        pg_uuid(user).into(),
        role,
        by_token,
        address,
    ];
    RECORD.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    durability::of_revocation()
}
