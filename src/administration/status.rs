//! What only the server process can tell, for `pat.status()`, which is in sql/administration.sql.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::error::Error;
use supabase_pat_core::weakness::Weakness;

use crate::gate::raise;
use crate::gate::usage;
use crate::pg::clock::Instant;
use crate::pg::composite::{self, Field};
use crate::pg::error::{SqlResult, reported};
use crate::pg::rights;
use crate::pg::settings;
use crate::signing_keys::ring;
use crate::signing_keys::secret;

#[pg_extern(stable, requires = ["schema"])]
fn server_state(
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "pat.server_state"), ErrorReport> {
    reported(|| {
        rights::require_trusted("see the state of the installation")?;
        let state = usage::state();
        let state = state.as_ref();
        let time = |at: Option<Instant>| at.map(Instant::to_timestamp).transpose();
        let (key, problem) = match ring::signing_key() {
            Ok(key) => match key.weakness() {
                Some(weakness) => (None, Some(weak(weakness))),
                None => {
                    let name = key
                        .id()
                        .map_or("the configured secret".into(), |kid| format!("key {kid}"));
                    (Some(format!("{name}, {}", key.algorithm())), None)
                }
            },
            Err(error) => (None, Some(with_hint(&error))),
        };
        let next = settings::next_pre_request();
        let next = next.as_deref().map(raise::find_next).transpose();
        let count = |count: Option<u64>| count.and_then(|count| i64::try_from(count).ok());
        let fields = [
            Field::new(c"is_preloaded", settings::is_preloaded()),
            Field::new(c"worker", state.and_then(|state| state.worker)),
            Field::new(
                c"flushed_at",
                time(state.and_then(|state| state.flushed_at))?,
            ),
            Field::new(c"requests", count(state.and_then(|state| state.requests))),
            Field::new(
                c"last_request_at",
                time(state.and_then(|state| state.last_request_at))?,
            ),
            Field::new(c"lost", count(state.map(|state| state.lost))),
            Field::new(c"signing_key", key),
            Field::new(c"signing_problem", problem),
            Field::new(c"next_pre_request", next.as_ref().ok().copied().flatten()),
            Field::new(c"next_problem", next.as_ref().err().map(Error::to_string)),
            Field::new(c"has_debug_code", settings::debug_reset_code().is_some()),
            Field::new(c"version", env!("CARGO_PKG_VERSION")),
        ];
        composite::result_row(call, fields)
    })
}

/// What is wrong with the configured secret, whether it signs or only verifies.
#[pg_extern(stable, requires = ["schema"])]
fn secret_problem() -> SqlResult<Option<String>> {
    reported(|| {
        rights::require_trusted("see the state of the installation")?;
        if settings::is_jwt_secret_exposed() {
            return Ok(Some(
                "supabase_pat.jwt_secret can be read by every role as long as the library is not preloaded, and does \
                 not count: preload it, or move the secret to the Vault or a file"
                    .to_owned(),
            ));
        }
        Ok(match secret::configured_key() {
            Ok(key) => key.and_then(|key| key.weakness()).map(weak),
            Err(error) => Some(with_hint(&error)),
        })
    })
}

fn with_hint(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}. {hint}"),
        None => error.to_string(),
    }
}

fn weak(weakness: Weakness) -> String {
    format!(
        "the key {weakness}: whoever finds it makes any token. supabase_pat.allow_weak_keys is for development"
    )
}
