//! The functions of the extension pgjwt, with the same names and results.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::pgjwt::{self, HmacKey};

use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::json::JsonText;

/// This is STABLE, where pgjwt's is IMMUTABLE, so that the planner does not make a constant of the token, which a log
/// of plans would show.
#[pg_extern(stable, parallel_safe, requires = ["schema"])]
fn sign(
    payload: JsonText,
    secret: &str,
    algorithm: default!(&str, "'HS256'"),
) -> SqlResult<String> {
    reported(|| pgjwt::sign(&payload.0, HmacKey { secret, algorithm }))
}

/// As [`sign`].
#[pg_extern(stable, parallel_safe, requires = ["schema"])]
fn algorithm_sign(signables: &str, secret: &str, algorithm: &str) -> SqlResult<String> {
    reported(|| pgjwt::algorithm_sign(signables, HmacKey { secret, algorithm }))
}

/// Returns one row, also where an argument is null, since pgjwt's function is not strict.
#[pg_extern(stable, parallel_safe, requires = ["schema"])]
#[allow(clippy::type_complexity)]
fn verify(
    token: Option<&str>,
    secret: Option<&str>,
    algorithm: default!(Option<&str>, "'HS256'"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(header, Option<JsonText>),
            name!(payload, Option<JsonText>),
            name!(valid, Option<bool>),
        ),
    >,
    ErrorReport,
> {
    reported(|| {
        let Some(token) = token else {
            return Ok(TableIterator::once((None, None, None)));
        };
        let now = Instant::now().unix_micros() as f64 / 1e6;
        let algorithm = algorithm.unwrap_or_default();
        let key = secret.map(|secret| HmacKey { secret, algorithm });
        let verdict = pgjwt::verify(token, key, now)?;
        let row = (
            Some(JsonText(verdict.header)),
            verdict.payload.map(JsonText),
            verdict.is_valid,
        );
        Ok(TableIterator::once(row))
    })
}

#[pg_extern(immutable, parallel_safe, requires = ["schema"])]
fn url_encode(data: &[u8]) -> String {
    pgjwt::url_encode(data)
}

#[pg_extern(immutable, parallel_safe, requires = ["schema"])]
fn url_decode(data: &str) -> SqlResult<Vec<u8>> {
    reported(|| pgjwt::url_decode(data))
}
