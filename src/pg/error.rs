//! Errors of the core as Postgres reports them.

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
pub(super) fn encode(sqlstate: &str) -> i32 {
    let digit = |byte: u8| i32::from(byte.wrapping_sub(b'0') & 0x3f);
    sqlstate
        .bytes()
        .rev()
        .fold(0, |code, byte| (code << 6) | digit(byte))
}
