//! The background workers, which carry what the gate counts in shared memory into the tables.
//!
//! One worker runs all the time, connected to no database. Every few seconds it looks for databases for which there is
//! something to write, and for each of them, one after the other, it starts a second worker, which writes and ends. So
//! no worker stays connected to a database and keeps it from being dropped, or copied as a template, and a database
//! without the extension is never connected to.
//!
//! The workers write without waiting for the commit to reach the disk or a standby, since what they write can
//! be lost, but for leases ([`lease_table`]); they change rows that nobody else changes. On a standby they start once it is
//! promoted. How uses are written is in [`crate::gate::uses`].
//!
//! A request that needs a lease at once wakes the first worker. What is written then is leases and nothing else.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant as Monotonic};

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::datum::{TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::pg_sys::BuiltinOid::{INT8ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, UUIDARRAYOID};
use pgrx::prelude::*;
use pgrx::{pg_guard, pg_sys};
use supabase_pat_core::error::Error;

use crate::events;
use crate::gate::lease_table;
use crate::gate::usage::{self, Refusals, leases};
use crate::gate::uses;
use crate::jwt::denied;
use crate::pg::clock::Instant;
use crate::pg::relations;
use crate::pg::rights;
use crate::pg::settings;
use crate::pg::statement::Statement;
use crate::pg::unguarded;
use crate::pg::uuid::pg_uuid;

thread_local! {
    static WRITE_REFUSALS: Statement = const { Statement::new(
        "insert into pat.events (event, happened_at, detail, count, key_id, by_key, user_id, address) \
         select 'refused', at, reason, count, token, token, owner, ip::pg_catalog.inet \
         from unnest($1, $2, $3, $4, $5, $6) as refused (at, reason, count, token, owner, ip)",
        &[TIMESTAMPTZARRAYOID, TEXTARRAYOID, INT8ARRAYOID, UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID],
    ) };
}

/// To be called while the library is being preloaded.
pub fn register() {
    BackgroundWorkerBuilder::new("supabase_pat launcher")
        .set_type("supabase_pat launcher")
        .set_library("supabase_pat")
        .set_function("supabase_pat_launcher")
        .enable_shmem_access(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(1)))
        .load();
}

/// # Safety
/// Called by Postgres.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn supabase_pat_launcher(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    // A connection to no database is enough to see which databases there are.
    BackgroundWorker::connect_worker_to_spi(None, None);
    // SAFETY: set before a worker runs.
    usage::worker_is(unsafe { pg_sys::MyProcPid });
    let mut last_round = Monotonic::now();
    let remaining = |last_round: Monotonic| {
        Duration::from_secs(settings::flush_interval()).saturating_sub(last_round.elapsed())
    };
    'rounds: while BackgroundWorker::wait_latch(Some(remaining(last_round))) {
        if BackgroundWorker::sighup_received() {
            // SAFETY: between transactions, as Postgres's own workers do it.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
        }
        if leases::are_asked_for() {
            for database in leases::databases_waiting() {
                if BackgroundWorker::sigterm_received() {
                    break 'rounds;
                }
                if exists(database) {
                    write_out(database, What::Leases);
                }
            }
        }
        if !remaining(last_round).is_zero() {
            continue;
        }
        for database in usage::databases() {
            if !exists(database) {
                usage::remove(database);
            }
        }
        let databases = usage::databases_with_news();
        if databases.is_empty() {
            usage::flushed();
        }
        for database in databases {
            // It is told once: another round would go on as if the server were not shutting down.
            if BackgroundWorker::sigterm_received() {
                break 'rounds;
            }
            match exists(database) {
                true => write_out(database, What::All),
                false => usage::remove(database),
            }
        }
        usage::tidy(settings::flush_interval());
        last_round = Monotonic::now();
    }
    usage::worker_is(0);
    // If somebody has terminated the worker, and not the server that is shutting down, it must start again. With status
    // 0 it would not.
    // SAFETY: the end of the process.
    unsafe { pg_sys::proc_exit(1) };
}

fn exists(database: pg_sys::Oid) -> bool {
    BackgroundWorker::transaction(|| {
        // SAFETY: a look-up in the system caches, in a transaction.
        unsafe {
            pg_sys::SearchSysCacheExists(
                pg_sys::SysCacheIdentifier::DATABASEOID as i32,
                database.into(),
                pg_sys::Datum::from(0),
                pg_sys::Datum::from(0),
                pg_sys::Datum::from(0),
            )
        }
    })
}

/// What a writer writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    All,
    /// Those that requests are waiting for.
    Leases,
}

/// The bit of a writer's argument that asks for leases only. The id of the database is in the lower half.
const ONLY_LEASES: u64 = 1 << 32;

/// Starts a worker for a database, and waits for its end.
fn write_out(database: pg_sys::Oid, what: What) {
    let argument = match what {
        What::All => u64::from(database.to_u32()),
        What::Leases => u64::from(database.to_u32()) | ONLY_LEASES,
    };
    let worker = BackgroundWorkerBuilder::new("supabase_pat writer")
        .set_type("supabase_pat writer")
        .set_library("supabase_pat")
        .set_function("supabase_pat_writer")
        .set_argument(Some(pg_sys::Datum::from(argument)))
        .enable_shmem_access(None)
        .enable_spi_access()
        // SAFETY: set before a worker runs.
        .set_notify_pid(unsafe { pg_sys::MyProcPid })
        .load_dynamic();
    // If no worker can be started, the next round tries again. If the postmaster is gone, this process ends by itself.
    if let Ok(worker) = worker
        && worker.wait_for_shutdown().is_err()
    {
        debug1!("supabase_pat: a writer was not waited for");
    }
}

/// # Safety
/// Called by Postgres, with the id of a database and [`What`] to write.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn supabase_pat_writer(argument: pg_sys::Datum) {
    // SAFETY: at the start of a worker.
    unsafe {
        // As in a session, the signal ends the transaction and the process.
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(pg_sys::SIGTERM as i32, Some(unguarded::die));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(pg_sys::SIGTERM as i32, Some(unguarded::die));
        pg_sys::BackgroundWorkerUnblockSignals();
        // Whoever renames a database, or copies it, keeps everybody out until that is committed, and the launcher and
        // all other databases wait for this process. Nobody else locks a database for long.
        set(c"lock_timeout", c"20ms");
        const BYPASS_ALLOWCONN: u32 = 1;
        let database = pg_sys::Oid::from(argument.value() as u32);
        pg_sys::BackgroundWorkerInitializeConnectionByOid(
            database,
            pg_sys::InvalidOid,
            BYPASS_ALLOWCONN,
        );
    }
    BackgroundWorker::transaction(prepare);
    let is_there = match argument.value() as u64 & ONLY_LEASES {
        0 => write_all(),
        _ => return write_leases(),
    };
    if !is_there {
        // SAFETY: set before any query runs.
        usage::forget(unsafe { pg_sys::MyDatabaseId });
    }
    usage::flushed();
}

/// Writes the leases that requests are waiting for.
fn write_leases() {
    if !lease_table::write(true) {
        // SAFETY: set before any query runs.
        usage::forget(unsafe { pg_sys::MyDatabaseId });
    }
}

/// Writes all that there is to write for this database. False if the extension is not there, or is of a version without
/// these tables.
fn write_all() -> bool {
    // Before the uses, since those tokens need more that have been used since the last round.
    let mut has_leases = lease_table::write(false);
    let mut next = Some(0);
    while let Some(set) = next.take() {
        if has_leases && leases::are_asked_for() {
            has_leases = lease_table::write(true);
        }
        let are_ours = in_transaction(&[c"api_keys", c"api_key_usage"], || {
            next = uses::write(set)?;
            Ok(())
        });
        if !are_ours {
            return false;
        }
    }
    if !in_transaction(&[c"events"], write_refusals) {
        return false;
    }
    // One table at a time, so that nobody who locks the tables in another order waits in a circle.
    const MANY: i64 = 10_000;
    let now = Instant::now();
    let are_there = in_transaction(&[c"events"], || events::sweep(now, MANY))
        && in_transaction(&[c"denied_tokens"], || denied::sweep(now))
        && in_transaction(
            &[c"api_keys", c"api_key_usage"],
            uses::forget_deleted_tokens,
        )
        && in_transaction(&[c"api_keys", c"api_key_usage"], || {
            uses::sweep_days(now, MANY)
        });
    // Version 0.1.0 does not have this one.
    in_transaction(&[c"api_key_counters"], || lease_table::sweep(now));
    are_there
}

/// Makes the settings for the rest of the process.
fn prepare() {
    for (name, value) in [
        (c"synchronous_commit", c"off"),
        // This is shorter than anybody's deadlock_timeout, so that the writer is the one who gives up.
        (c"lock_timeout", c"200ms"),
        (c"search_path", c"pg_catalog, pg_temp"),
        (c"default_transaction_read_only", c"off"),
        (c"default_transaction_isolation", c"read committed"),
    ] {
        set(name, value);
    }
    rights::distrust_triggers();
}

/// For the rest of the process, whatever is set for the database or the role.
fn set(name: &CStr, value: &CStr) {
    // SAFETY: settings that a superuser may set for a session.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// Writes something into tables of the schema `pat`, if they are the extension's. An error ends the
/// transaction and the process; the next one tries again.
///
/// After the extension was dropped, somebody could have made a table of that name, with triggers that would run as a
/// superuser here.
pub fn in_transaction(tables: &[&CStr], write: impl FnOnce() -> Result<(), Error>) -> bool {
    /// STATEMENT_TIMEOUT in timeout.h. Postgres starts that clock itself for statements of clients alone.
    const STATEMENT_TIMEOUT: i32 = 3;
    const MILLISECONDS: i32 = 10_000;
    BackgroundWorker::transaction(AssertUnwindSafe(|| {
        // SAFETY: a backend with a database has that clock.
        unsafe { unguarded::enable_timeout_after(STATEMENT_TIMEOUT, MILLISECONDS) };
        let are_ours = tables.iter().all(|table| relations::hold_own_table(table));
        if are_ours && let Err(error) = write() {
            error!("{error}");
        }
        // SAFETY: as above.
        unsafe { unguarded::disable_timeout(STATEMENT_TIMEOUT, false) };
        are_ours
    }))
}

fn write_refusals() -> Result<(), Error> {
    uses::hold_the_pen();
    let refusals = usage::unwritten_refusals();
    if refusals.is_empty() {
        return Ok(());
    }
    let times: Result<Vec<TimestampWithTimeZone>, Error> = refusals
        .iter()
        .map(|refused| refused.last_at.to_timestamp())
        .collect();
    let reasons: Vec<&str> = refusals.iter().map(|refused| refused.reason).collect();
    let counts: Vec<i64> = refusals
        .iter()
        .map(|refused| refused.count as i64)
        .collect();
    let ids = |id: fn(&Refusals) -> Option<uuid::Uuid>| -> Vec<Option<PgUuid>> {
        refusals
            .iter()
            .map(|refused| id(refused).map(pg_uuid))
            .collect()
    };
    let addresses: Vec<Option<String>> = refusals
        .iter()
        .map(|refused| refused.address.map(|ip| ip.to_string()))
        .collect();
    let arguments = [
        times?.into(),
        reasons.into(),
        counts.into(),
        ids(|refused| refused.token).into(),
        ids(|refused| refused.user).into(),
        addresses.into(),
    ];
    WRITE_REFUSALS.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    uses::when_committed(move || usage::refusals_have_been_written(&refusals));
    Ok(())
}
