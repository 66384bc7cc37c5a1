//! What a token may know of itself.

use std::rc::Rc;

use pgrx::pg_sys::BuiltinOid::{TEXTARRAYOID, TIMESTAMPTZOID, UUIDOID};
use pgrx::prelude::*;
use supabase_pat_core::claims::Credential;
use supabase_pat_core::error::Error;
use supabase_pat_core::json::Members;
use supabase_pat_core::merge_patch::ObjectWriter;
use supabase_pat_core::rate::{Counter, Limit, Which};

use super::usage;
use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::json::JsonbText;
use crate::pg::statement::Statement;
use crate::pg::uuid::pg_uuid;
use crate::request::run;
use crate::tokens::lookup;

thread_local! {
    // Not all of these columns are in the table of 0.1.0. What its claims say less of than its row counts.
    static DESCRIBE: Statement = const { Statement::new(
        "select pg_catalog.to_jsonb(token) operator(pg_catalog.||) \
             pg_catalog.jsonb_build_object('scopes', $2, 'expires_at', least(token.expires_at, $3)) \
         from pat.api_keys as token where id operator(pg_catalog.=) $1",
        &[UUIDOID, TEXTARRAYOID, TIMESTAMPTZOID],
    ) };
}

/// What of a token's row it is told.
const TOLD: [&str; 8] = [
    "id",
    "name",
    "description",
    "kind",
    "scopes",
    "attributes",
    "created_at",
    "expires_at",
];

#[pg_extern(schema = "public", stable, requires = ["schema"])]
fn current_api_key() -> SqlResult<Option<JsonbText>> {
    reported(|| {
        let (identity, is_valid) =
            run::with_request(|request| (Rc::clone(&request.identity), request.is_valid()));
        let token = match &identity.credential {
            Credential::Token(token) if is_valid => token,
            _ => return Ok(None),
        };
        let id = token.id;
        let Some(stored) = lookup::by_id(id).filter(|stored| stored.user == token.user) else {
            return Ok(None);
        };
        let ends_sooner = |&end: &i64| end < stored.expires_at.unix_seconds();
        let end = token.expires_at.filter(ends_sooner);
        let end = end.map(|end| Instant::from_unix_micros(end.saturating_mul(1_000_000)));
        let arguments = [
            pg_uuid(id).into(),
            stored.narrow(&token.scopes).to_texts().into(),
            end.map(Instant::to_timestamp).transpose()?.into(),
        ];
        let row = DESCRIBE.with(|statement| {
            statement.read(&arguments, |rows| match rows.is_empty() {
                true => Ok(None),
                false => rows.first().get_one::<JsonbText>(),
            })
        })?;
        let Some(JsonbText(row)) = row else {
            return Ok(None);
        };
        let row =
            Members::parse_lenient(&row).map_err(|error| Error::Internal(error.to_string()))?;
        let mut told = String::new();
        let mut object = ObjectWriter::new(&mut told);
        for name in TOLD {
            let value = row.get(name).map_or("null", |value| value.get());
            object.name(name).push_str(value);
        }
        let counters = usage::counters(id);
        for which in Which::BOTH {
            object
                .name(which.argument())
                .push_str(&match stored.limits.of(which) {
                    Some(limit) => state_of(limit, counters.of(which)),
                    None => "null".to_owned(),
                });
        }
        object.end();
        Ok(Some(JsonbText(told)))
    })
}

/// How far a limit is used up, as JSON. `resets_at` is a Unix time, and rounded up, as `Retry-After` is.
fn state_of(limit: Limit, counter: &Counter) -> String {
    let (used, resets_at) = counter.used(limit, Instant::now().unix_micros());
    let resets_at = (resets_at + 999_999) / 1_000_000;
    format!(
        r#"{{"limit": {}, "window": {}, "remaining": {}, "resets_at": {resets_at}}}"#,
        limit.requests,
        limit.seconds(),
        limit.requests.saturating_sub(used),
    )
}
