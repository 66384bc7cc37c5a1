//! The trigger on `pat.api_keys` that tells of a token that is revoked, by whomever and however.
//!
//! It is a version-1 function, declared in sql/notices.sql, for the reason that [`crate::tokens`] gives for its own.
#![allow(unsafe_code)]

use pgrx::datum::{TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::{AllocatedByPostgres, PgTrigger, pg_guard, pg_sys};
use supabase_pat_core::error::Error;
use supabase_pat_core::notices::Kind;

use super::attribution::{By, noted};
use super::{About, tell};
use crate::pg::clock::Instant;
use crate::pg::error::reported;
use crate::pg::function::version_1;
use crate::pg::settings;
use crate::pg::uuid::to_uuid;

version_1!(pg_finfo_supabase_pat_key_revoked);

/// # Safety
/// Called by Postgres.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn supabase_pat_key_revoked(
    call: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    reported(|| {
        // SAFETY: the call is Postgres's. A call that is none of a trigger is an error.
        let trigger = unsafe { PgTrigger::from_fcinfo(&*call) }.map_err(|_| Error::NotATrigger)?;
        match trigger.new() {
            Some(row) => tell_of(&row, Instant::now()),
            None => Ok(()),
        }
    })
    .unwrap_or_report();
    // Postgres does not look at what a trigger returns that runs after the change.
    pg_sys::Datum::from(0)
}

/// Tells the user of a token that its row, which is as it was before, has been deleted, if it was live at `now`.
///
/// # Errors
/// Those of [`tell`].
pub fn deleted(row: &PgHeapTuple<AllocatedByPostgres>, now: Instant) -> Result<(), Error> {
    match time(row, "revoked_at") {
        Some(_) => Ok(()),
        None => tell_of(row, now),
    }
}

fn tell_of(row: &PgHeapTuple<AllocatedByPostgres>, now: Instant) -> Result<(), Error> {
    let kinds = settings::notices();
    if !kinds.has(Kind::Revoked) && !kinds.has(Kind::Leaked) {
        return Ok(());
    }
    let id = |column| {
        row.get_by_name::<PgUuid>(column)
            .ok()
            .flatten()
            .map(to_uuid)
    };
    let text = |column| row.get_by_name::<String>(column).ok().flatten();
    let (Some(token), Some(user), Some(expires_at)) =
        (id("id"), id("user_id"), time(row, "expires_at"))
    else {
        return Ok(()); // no column of these is null
    };
    if expires_at <= now {
        return Ok(());
    }
    let by = noted();
    let kind = match &by {
        By::LeakReport { token: leaked, .. } if *leaked == token && kinds.has(Kind::Leaked) => {
            Kind::Leaked
        }
        _ => Kind::Revoked,
    };
    // The event of a revocation has this time, and the notice that stands for several counts events from its own on.
    let revoked_at = time(row, "revoked_at");
    let happened_at = revoked_at.filter(|at| *at <= now && now.seconds_since(*at) < 3600);
    let (name, hint) = (text("name"), text("hint"));
    let about = About {
        user,
        token,
        name: name.as_deref().unwrap_or_default(),
        hint: hint.as_deref(),
        is_rotation: false,
    };
    tell(kind, &about, &by, happened_at.unwrap_or(now))
}

fn time(row: &PgHeapTuple<AllocatedByPostgres>, column: &str) -> Option<Instant> {
    let time = row.get_by_name::<TimestampWithTimeZone>(column);
    time.ok().flatten().map(Instant::from_timestamp)
}
