//! Errors of the core as Postgres reports them, and what becomes of panics.

use std::io::Write;

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use supabase_pat_core::error::Error;

/// The result of a function that SQL calls.
pub type SqlResult<T> = Result<T, ErrorReport>;

/// Runs the body of such a function.
pub fn reported<T>(body: impl FnOnce() -> Result<T, Error>) -> SqlResult<T> {
    body().map_err(|error| {
        let code = PgSqlErrorCode::from(encode(error.sqlstate()));
        let report = ErrorReport::new(code, error.to_string(), "supabase_pat");
        match error.hint() {
            Some(hint) => report.set_hint(hint),
            None => report,
        }
    })
}

/// The five characters of a SQLSTATE, six bits each (`MAKE_SQLSTATE`).
pub(crate) fn encode(sqlstate: &str) -> i32 {
    let digit = |byte: u8| i32::from(byte.wrapping_sub(b'0') & 0x3f);
    sqlstate
        .bytes()
        .rev()
        .fold(0, |code, byte| (code << 6) | digit(byte))
}

/// Takes the place of pgrx's panic hook, which captures a backtrace where the server's environment has
/// `RUST_BACKTRACE`. pgrx puts it into the DETAIL of the error, so that clients read it, behind a REST server
/// too, and since pgrx turns each error of Postgres's that passes through us into a panic, it would tell how
/// far a call has come: whether a password was right that was cut short by a timeout.
///
/// What is lost is the place of a real panic, which is a mistake of ours and has a text for its payload. It
/// goes to the standard error of the server, one line without a frame, as Rust's own hook would write it.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let is_text = info.payload().is::<&str>() || info.payload().is::<String>();
        if is_text && let Some(place) = info.location() {
            // Nothing is to be done if there is no standard error any more.
            _ = writeln!(std::io::stderr(), "supabase_pat: panic at {place}");
        }
    }));
}
