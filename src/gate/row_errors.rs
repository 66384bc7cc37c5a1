//! Errors that show rows. Where a row breaks a constraint, Postgres tells the client the whole of it, as it would be
//! after the write, or a key. A token that may write to a table and not read it is not told; the log has it all the
//! same.
//!
//! Such an error is seen where it is sent, be it from the end of the transaction. By then the transaction has failed,
//! and nothing can be looked up. So it is noted before, when the statement that writes begins. What a foreign key does
//! to other tables, with the rights of their owner, is no such statement: there the table counts that the error names.
//!
//! Postgres calls the hook for what it also logs: not for errors where `log_min_messages` is above them, as in
//! Supabase's stack, which logs nothing below FATAL. So from the first statement of a token with scopes to the end of its
//! transaction, Postgres takes errors for what is logged, and the hook keeps them out of the log again.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};

use pgrx::{pg_guard, pg_sys};

use super::reach;
use crate::pg::error::encode;
use crate::pg::{Local, unguarded};
use crate::request::admitted;

const ERROR: c_int = pg_sys::PGERROR as c_int;

/// Whether this transaction writes to a table that the token may not read.
static IS_HIDING: Local<bool> = Local::new(false);
/// What `log_min_messages` says, while errors come to the hook that it keeps out of the log.
static LOGGED_FROM: Local<Option<c_int>> = Local::new(None);
static NEXT: Local<pg_sys::emit_log_hook_type> = Local::new(None);

pub fn install() {
    // SAFETY: called once, from _PG_init.
    unsafe {
        *NEXT.get() = pg_sys::emit_log_hook;
        pg_sys::emit_log_hook = Some(emit);
        pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut());
    }
}

/// Hides the rows of errors to the end of the transaction.
pub fn hide() {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { *IS_HIDING.get() = true };
}

/// Sees to it that errors come to the hook, whatever is logged, to the end of the transaction. To be called for each
/// statement: when the configuration is read anew, Postgres sets `log_min_messages` again.
pub fn listen() {
    // SAFETY: the variable is Postgres's own, and the reference is gone at the end of the line.
    unsafe {
        if !is_logged(ERROR, pg_sys::log_min_messages) {
            *LOGGED_FROM.get() = Some(pg_sys::log_min_messages);
            pg_sys::log_min_messages = ERROR;
        }
    }
}

/// Whether Postgres logs messages of a level where `log_min_messages` is `from`.
fn is_logged(level: c_int, from: c_int) -> bool {
    let [log, fatal] = [pg_sys::LOG, pg_sys::FATAL].map(|level| level as c_int);
    match level {
        _ if level == log || level == pg_sys::LOG_SERVER_ONLY as c_int => {
            from == log || from <= ERROR
        }
        _ if from == log => level >= fatal,
        _ => level >= from,
    }
}

unsafe extern "C-unwind" fn emit(error: *mut pg_sys::ErrorData) {
    // SAFETY: Postgres passes an error, which it sends after this. Nothing here raises one.
    unsafe {
        if admitted::has_scopes() && !(*error).detail.is_null() && is_hidden(error) {
            if (*error).detail_log.is_null() {
                (*error).detail_log = (*error).detail;
            }
            (*error).detail = std::ptr::null_mut();
        }
        if LOGGED_FROM
            .get()
            .is_some_and(|from| !is_logged((*error).elevel, from))
        {
            (*error).output_to_server = false;
            return;
        }
        if let Some(next) = *NEXT.get() {
            next(error);
        }
    }
}

/// Whether it is about a constraint or the check option of a view, and shows what the token may not read. What else
/// happens with the rights of somebody else is not asked for scopes.
#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn is_hidden(error: *mut pg_sys::ErrorData) -> bool {
    // The first two characters of an SQLSTATE, of six bits each.
    const CLASS: i32 = (1 << 12) - 1;
    // SAFETY: as the caller promises. A name is null, or a C string.
    unsafe {
        let error = &*error;
        let shows_row = ["23000", "44000"]
            .iter()
            .any(|class| (encode(class) ^ error.sqlerrcode) & CLASS == 0);
        if !shows_row {
            return false;
        }
        if !unguarded::InNoForceRLSOperation() {
            return *IS_HIDING.get() && reach::is_user_of_request();
        }
        let text = |name: *const c_char| {
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
        };
        text(error.schema_name)
            .zip(text(error.table_name))
            .is_none_or(|(schema, name)| !reach::may_read(schema, name))
    }
}

unsafe extern "C-unwind" fn at_transaction_end(event: pg_sys::XactEvent::Type, _: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if matches!(
        event,
        XACT_EVENT_ABORT | XACT_EVENT_COMMIT | XACT_EVENT_PREPARE
    ) {
        // SAFETY: as above.
        unsafe {
            *IS_HIDING.get() = false;
            // Whoever has set it meanwhile has set what counts.
            if let Some(from) = LOGGED_FROM.get().take()
                && pg_sys::log_min_messages == ERROR
            {
                pg_sys::log_min_messages = from;
            }
        }
    }
}
