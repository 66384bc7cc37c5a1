//! Errors of the core as Postgres reports them, and what becomes of panics.

use std::io::Write;
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgLogLevel, PgSqlErrorCode, PgTryBuilder};
use supabase_pat_core::error::Error;

use crate::pg::memory;

/// The result of a function that SQL calls.
pub type SqlResult<T> = Result<T, ErrorReport>;

/// Runs the body of a function that SQL calls, and gives its error the SQLSTATE, message and hint of the core's table.
pub fn reported<T>(body: impl FnOnce() -> Result<T, Error>) -> SqlResult<T> {
    without_domain(|| memory::with_room(body)).map_err(|error| {
        let code = PgSqlErrorCode::from(encode(error.sqlstate()));
        let report = ErrorReport::new(code, error.to_string(), "supabase_pat");
        match error.hint() {
            Some(hint) => report.set_hint(hint),
            None => report,
        }
    })
}

/// Takes from errors of Postgres that pass through `run` the domain that their message was translated in. pgrx copies it
/// when it raises them again and never frees the copy: 32 bytes an error, for as long as the session lasts.
fn without_domain<R>(run: impl FnOnce() -> R) -> R {
    PgTryBuilder::new(AssertUnwindSafe(run))
        .catch_others(|cause| {
            if let CaughtError::PostgresError(error) = &cause {
                let message = error.message().to_owned();
                let mut report = ErrorReport::new(error.sql_error_code(), message, "supabase_pat");
                if let Some(detail) = error.detail() {
                    report = report.set_detail(detail);
                }
                if let Some(hint) = error.hint() {
                    report = report.set_hint(hint);
                }
                report.report(PgLogLevel::ERROR);
            }
            cause.rethrow()
        })
        .execute()
}

/// The five characters of a SQLSTATE, six bits each (`MAKE_SQLSTATE`).
pub(crate) fn encode(sqlstate: &str) -> i32 {
    let digit = |byte: u8| i32::from(byte.wrapping_sub(b'0') & 0x3f);
    sqlstate
        .bytes()
        .rev()
        .fold(0, |code, byte| (code << 6) | digit(byte))
}

/// Replaces pgrx's panic hook, which captures a backtrace if the server's environment has `RUST_BACKTRACE`. pgrx puts
/// the backtrace into the DETAIL of the error, where clients read it, behind a REST server too. pgrx also turns each
/// error of Postgres that passes through this library into a panic. So the backtrace would tell how far a call has
/// come: for instance whether the password was right in a call that a timeout cut short.
///
/// Without pgrx's hook, nothing would tell the place of a real panic, which is a mistake of ours and has a text for its
/// payload. So this hook writes the place to the standard error of the server, in one line without a backtrace.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let is_text = info.payload().is::<&str>() || info.payload().is::<String>();
        if is_text && let Some(place) = info.location() {
            // If there is no standard error any more, the line is lost.
            _ = writeln!(std::io::stderr(), "supabase_pat: panic at {place}");
        }
    }));
}
