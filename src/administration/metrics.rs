//! What a monitoring system asks for, in a form that its exporters take.
//!
//! Nothing here grows with the number of tokens: counts come from shared memory and from Postgres's statistics, and what
//! is counted in a table is found by an index, or is in a table that is small by its nature, up to a limit. All of it
//! takes a tenth of a millisecond.
#![allow(unsafe_code)]

use std::thread::LocalKey;

use pgrx::pg_sys::BuiltinOid::TIMESTAMPTZOID;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::{self, SpiHeapTupleData};
use supabase_pat_core::error::Error;
use supabase_pat_core::metrics::{self, Metric};
use supabase_pat_core::refusal::REASONS;

use crate::gate::usage;
use crate::pg::clock::Instant;
use crate::pg::error::reported;
use crate::pg::json::JsonbText;
use crate::pg::rights;
use crate::pg::statement::Statement;

/// Of how long a time events are counted. `recent_events` says so to users.
const RECENT: i64 = 5 * 60;

thread_local! {
    static TABLES: Statement = const { Statement::new(
        "select table_.reltuples::pg_catalog.float8, revoked.null_frac::pg_catalog.float8, \
             sessions.reltuples::pg_catalog.float8, \
             (select count(*)::pg_catalog.float8 from (select from pat.denied_tokens limit 100000) as denied), \
             (select count(*)::pg_catalog.float8 from (select from pat.outbox \
                 where sealed is not null and is_deliverable and expires_at operator(pg_catalog.>) $1 \
                 limit 100000) as waiting), \
             (select pg_catalog.date_part('epoch', $1 operator(pg_catalog.-) min(created_at)) from pat.outbox \
                 where sealed is not null and is_deliverable and expires_at operator(pg_catalog.>) $1) \
         from pg_catalog.pg_class as table_ \
             join pg_catalog.pg_class as sessions \
                 on sessions.oid operator(pg_catalog.=) 'pat.sessions'::pg_catalog.regclass \
             left join pg_catalog.pg_stats as revoked \
                 on revoked.schemaname operator(pg_catalog.=) 'pat' \
                     and revoked.tablename operator(pg_catalog.=) 'api_keys' \
                     and revoked.attname operator(pg_catalog.=) 'revoked_at' \
         where table_.oid operator(pg_catalog.=) 'pat.api_keys'::pg_catalog.regclass",
        &[TIMESTAMPTZOID],
    ) };

    static SIGNING_KEYS: Statement = const { Statement::new(
        "select status, count(*)::pg_catalog.float8, pg_catalog.date_part('epoch', $1 operator(pg_catalog.-) \
             max(coalesce(activated_at, created_at))) \
         from pat.signing_keys group by status",
        &[TIMESTAMPTZOID],
    ) };

    static RECENT_EVENTS: Statement = const { Statement::new(
        "select event, sum(count)::pg_catalog.float8 from (\
             select event, count from pat.events where happened_at operator(pg_catalog.>) $1 \
             order by happened_at desc limit 10000) as recent \
         group by event order by event",
        &[TIMESTAMPTZOID],
    ) };
}

/// Name, kind, help, labels and value.
type Row = (String, String, String, JsonbText, f64);

#[pg_extern(stable, requires = ["schema"])]
#[allow(clippy::type_complexity)]
fn metrics() -> Result<
    TableIterator<
        'static,
        (
            name!(name, String),
            name!(kind, String),
            name!(help, String),
            name!(labels, JsonbText),
            name!(value, f64),
        ),
    >,
    ErrorReport,
> {
    reported(|| {
        rights::require_trusted_or_monitor("see the metrics")?;
        let mut told = Told::default();
        told.tell_of(&metrics::INFO, env!("CARGO_PKG_VERSION"), 1.0);
        of_shared_memory(&mut told);
        let now = Instant::now();
        of_tables(&mut told, now)?;
        of_signing_keys(&mut told, now)?;
        of_events(&mut told, now)?;
        Ok(TableIterator::new(told.0))
    })
}

#[derive(Default)]
struct Told(Vec<Row>);

impl Told {
    fn tell(&mut self, metric: &Metric, value: f64) {
        self.tell_of(metric, "", value);
    }

    /// For a metric with a label.
    fn tell_of(&mut self, metric: &Metric, label: &str, value: f64) {
        self.0.push((
            metric.name.to_owned(),
            metric.kind.name().to_owned(),
            metric.help.to_owned(),
            JsonbText(metric.labels(label)),
            value,
        ));
    }
}

/// What is counted there. Nothing without preloading.
fn of_shared_memory(told: &mut Told) {
    let Some(state) = usage::state() else {
        return;
    };
    if let (Some(requests), Some(refused)) = (state.requests, state.refused) {
        told.tell(&metrics::REQUESTS, requests as f64);
        for (reason, count) in REASONS.iter().zip(refused) {
            told.tell_of(&metrics::REFUSALS, reason, count as f64);
        }
    }
    told.tell(&metrics::LOST, state.lost as f64);
    told.tell(&metrics::PLACES, state.places as f64);
    told.tell(&metrics::MAX_PLACES, state.max_places as f64);
    // SAFETY: it only reads.
    if unsafe { pg_sys::RecoveryInProgress() } {
        return;
    }
    told.tell(
        &metrics::WORKER,
        f64::from(u8::from(state.worker.is_some())),
    );
    if let Some(flushed_at) = state.flushed_at {
        let micros = Instant::now().unix_micros() - flushed_at.unix_micros();
        told.tell(&metrics::FLUSH_AGE, micros.max(0) as f64 / 1e6);
    }
}

fn of_tables(told: &mut Told, now: Instant) -> Result<(), Error> {
    let rows = read(&TABLES, now, |row| {
        Ok([1, 2, 3, 4, 5, 6].map(|place| row.get::<f64>(place).ok().flatten()))
    })?;
    let Some(&[tokens, never_revoked, sessions, denied, waiting, oldest]) = rows.first() else {
        return Ok(());
    };
    // A table that has never been looked at has -1.
    let is_known = |count: &f64| *count >= 0.0;
    if let (Some(tokens), Some(never_revoked)) = (tokens.filter(is_known), never_revoked) {
        told.tell_of(&metrics::TOKENS, "revoked", tokens * (1.0 - never_revoked));
        told.tell_of(&metrics::TOKENS, "not_revoked", tokens * never_revoked);
    }
    if let Some(sessions) = sessions.filter(is_known) {
        told.tell(&metrics::SESSIONS, sessions);
    }
    told.tell(&metrics::DENIED, denied.unwrap_or_default());
    told.tell(&metrics::OUTBOX, waiting.unwrap_or_default());
    told.tell(&metrics::OUTBOX_AGE, oldest.unwrap_or_default().max(0.0));
    Ok(())
}

fn of_signing_keys(told: &mut Told, now: Instant) -> Result<(), Error> {
    let keys = read(&SIGNING_KEYS, now, |row| {
        let (status, count, age) = (
            row.get::<String>(1)?,
            row.get::<f64>(2)?,
            row.get::<f64>(3)?,
        );
        Ok((status.unwrap_or_default(), count.unwrap_or_default(), age))
    })?;
    for status in ["standby", "current", "previous", "revoked"] {
        let found = keys.iter().find(|(name, ..)| name == status);
        told.tell_of(
            &metrics::SIGNING_KEYS,
            status,
            found.map_or(0.0, |&(_, count, _)| count),
        );
        if status == "current"
            && let Some(&(.., Some(age))) = found
        {
            told.tell(&metrics::SIGNING_KEY_AGE, age.max(0.0));
        }
    }
    Ok(())
}

fn of_events(told: &mut Told, now: Instant) -> Result<(), Error> {
    let events = read(&RECENT_EVENTS, now.plus_seconds(-RECENT), |row| {
        Ok((row.get::<String>(1)?, row.get::<f64>(2)?))
    })?;
    for (event, count) in events {
        told.tell_of(
            &metrics::EVENTS,
            &event.unwrap_or_default(),
            count.unwrap_or_default(),
        );
    }
    Ok(())
}

/// The rows of a statement that has a time as its one parameter.
fn read<R>(
    statement: &'static LocalKey<Statement>,
    time: Instant,
    of_row: impl Fn(&SpiHeapTupleData) -> spi::Result<R>,
) -> Result<Vec<R>, Error> {
    let arguments = [time.to_timestamp()?.into()];
    statement.with(|statement| {
        statement.read(&arguments, |found| {
            let mut rows = Vec::new();
            for row in found {
                rows.push(of_row(&row)?);
            }
            Ok(rows)
        })
    })
}
