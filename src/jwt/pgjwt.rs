//! pgjwt's functions, by their names and with their results.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::pgjwt;

use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::json::JsonText;

/// STABLE, where pgjwt's is IMMUTABLE: the planner must not make a constant of the token, which a log of plans
/// would show.
#[pg_extern(stable, parallel_safe, requires = ["schema"])]
fn sign(
    payload: JsonText,
    secret: &str,
    algorithm: default!(&str, "'HS256'"),
) -> SqlResult<String> {
    reported(|| pgjwt::sign(&payload.0, secret, algorithm))
}

/// As [`sign`].
#[pg_extern(stable, parallel_safe, requires = ["schema"])]
fn algorithm_sign(signables: &str, secret: &str, algorithm: &str) -> SqlResult<String> {
    reported(|| pgjwt::algorithm_sign(signables, secret, algorithm))
}

/// One row, also where an argument is null: pgjwt's is no strict function.
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
        let verdict = pgjwt::verify(token, secret, algorithm.unwrap_or_default(), now)?;
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
