//! What only the server knows of itself, for `pat.status()`, which is in sql/status.sql.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::error::Error;

use crate::pg::clock::Instant;
use crate::pg::error::reported;
use crate::pg::{caller, composite, gate, ring, settings, usage};

#[pg_extern(stable, requires = ["schema"])]
fn server_state(
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "pat.server_state"), ErrorReport> {
    reported(|| {
        caller::require_trusted("see how things stand")?;
        let state = usage::state();
        let time = |at: Option<Instant>| at.map(Instant::to_timestamp).transpose();
        let (key, problem) = match ring::signing_key() {
            Ok(key) => {
                let name = key
                    .id()
                    .map_or("the configured secret".into(), |kid| format!("key {kid}"));
                (Some(format!("{name}, {}", key.algorithm())), None)
            }
            Err(error) => {
                let hint = error.hint().unwrap_or_default();
                (None, Some(format!("{error}. {hint}")))
            }
        };
        let next = settings::next_pre_request();
        let next = next.as_deref().map(gate::find_next).transpose();
        let count = |count: Option<u64>| count.and_then(|count| i64::try_from(count).ok());
        let fields = [
            settings::is_preloaded().into_datum(),
            state.as_ref().and_then(|state| state.worker).into_datum(),
            time(state.as_ref().and_then(|state| state.flushed_at))?.into_datum(),
            count(state.as_ref().map(|state| state.requests)).into_datum(),
            time(state.as_ref().and_then(|state| state.last_request_at))?.into_datum(),
            count(state.as_ref().map(|state| state.lost)).into_datum(),
            key.into_datum(),
            problem.into_datum(),
            next.as_ref().ok().copied().flatten().into_datum(),
            next.as_ref().err().map(Error::to_string).into_datum(),
            settings::debug_reset_code().is_some().into_datum(),
            env!("CARGO_PKG_VERSION").into_datum(),
        ];
        composite::result_row(call, fields)
    })
}
