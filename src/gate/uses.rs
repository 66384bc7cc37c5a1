//! How the worker carries the uses of tokens into the tables: when each was last used, and how many requests it made on
//! which day.
//!
//! `pat.api_key_usage` has a row for each token, with the counts of its latest day, so that in nearly all cases one
//! update of one row, which stays in its page, writes everything. Only when a token is used on another day the finished
//! one moves to `pat.api_key_days`.
//!
//! # Counted once
//! A count is added to what is there, so writing it twice would be too much. Only one writer at a time reads counts and
//! writes them, behind a lock that it holds until the end of its transaction ([`hold_the_pen`]): that the launcher waits
//! for each writer is not relied upon. And what was written is taken away from the places while the transaction commits
//! ([`when_committed`]): nothing interrupts a process there. If it does not commit, everything is still in the places. If
//! the process is killed, the server begins anew with all shared memory. So counts are never too high; they are too low
//! by what was counted since the last time if a server stops, or where a commit that nobody has waited for did not reach
//! the disk.
//!
//! # What it costs
//! On two cores, 100,000 tokens take half a second of a processor's time, as long as their last uses alone; their first
//! use takes 1.3 s, and the first flush of a day 1.9 s. Each batch has a transaction of its own.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;

use pgrx::datum::{Date, DatumWithOid, TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::pg_sys::BuiltinOid::{
    DATEARRAYOID, DATEOID, INT8ARRAYOID, INT8OID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, UUIDARRAYOID,
};
use pgrx::{PgXactCallbackEvent, extension_sql_file, pg_sys, register_xact_callback};
use supabase_pat_core::daily::{Day, Tally};
use supabase_pat_core::error::Error;

use crate::gate::usage::{self, Use};
use crate::pg::clock::{self, Instant};
use crate::pg::relations;
use crate::pg::settings;
use crate::pg::statement::Statement;
use crate::pg::uuid::pg_uuid;

extension_sql_file!(
    "../../sql/usage.sql",
    name = "usage",
    requires = [
        "tokens",
        usage_summary::usage_totals,
        usage_summary::usage_by_token,
        usage_summary::usage_by_user
    ]
);

/// How many uses are written in one transaction.
const BATCH: usize = 1000;

thread_local! {
    // Most tokens have been used before on that day. Returns the others.
    static ADD: Statement = const { Statement::new(
        "with used as (\
             select id, at, ip::pg_catalog.inet as ip, day, requests, refused \
             from unnest($1, $2, $3, $4, $5, $6) as used (id, at, ip, day, requests, refused)), \
         changed as (\
             update pat.api_key_usage as known set \
                 last_used_at = greatest(known.last_used_at, used.at), \
                 last_used_ip = case \
                     when known.last_used_at is null or known.last_used_at operator(pg_catalog.<) used.at then used.ip \
                     else known.last_used_ip end, \
                 requests = known.requests operator(pg_catalog.+) used.requests, \
                 refused = known.refused operator(pg_catalog.+) used.refused \
             from used \
             where known.key_id operator(pg_catalog.=) used.id and known.day operator(pg_catalog.=) used.day \
             returning known.key_id) \
         select id from used where not (id operator(pg_catalog.=) any (select key_id from changed))",
        &[UUIDARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, DATEARRAYOID, INT8ARRAYOID, INT8ARRAYOID],
    ) };

    // For tokens that have no row, or one of another day. The earlier of the two days moves: mostly that of the row.
    static BEGIN_A_DAY: Statement = const { Statement::new(
        "with used as (\
             select id, at, ip::pg_catalog.inet as ip, day, requests, refused \
             from unnest($1, $2, $3, $4, $5, $6) as used (id, at, ip, day, requests, refused)), \
         known as (\
             select present.key_id, present.user_id, present.day, present.requests, present.refused \
             from pat.api_key_usage as present join used on present.key_id operator(pg_catalog.=) used.id), \
         moved as (\
             insert into pat.api_key_days as finished (day, key_id, user_id, requests, refused) \
             select least(known.day, used.day), known.key_id, known.user_id, \
                 case when known.day operator(pg_catalog.<) used.day then known.requests else used.requests end, \
                 case when known.day operator(pg_catalog.<) used.day then known.refused else used.refused end \
             from used join known on known.key_id operator(pg_catalog.=) used.id \
             where known.day is not null \
             on conflict (day, key_id) do update set \
                 requests = finished.requests operator(pg_catalog.+) excluded.requests, \
                 refused = finished.refused operator(pg_catalog.+) excluded.refused), \
         begun as (\
             update pat.api_key_usage as present set \
                 last_used_at = greatest(present.last_used_at, used.at), \
                 last_used_ip = case \
                     when present.last_used_at is null or present.last_used_at operator(pg_catalog.<) used.at then used.ip \
                     else present.last_used_ip end, \
                 day = greatest(present.day, used.day), \
                 requests = case when present.day operator(pg_catalog.>) used.day then present.requests \
                     else used.requests end, \
                 refused = case when present.day operator(pg_catalog.>) used.day then present.refused \
                     else used.refused end \
             from used where present.key_id operator(pg_catalog.=) used.id) \
         insert into pat.api_key_usage (key_id, user_id, last_used_at, last_used_ip, day, requests, refused) \
         select token.id, token.user_id, used.at, used.ip, used.day, used.requests, used.refused \
         from used join pat.api_keys as token on token.id operator(pg_catalog.=) used.id \
         where not (used.id operator(pg_catalog.=) any (select key_id from known))",
        &[UUIDARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, DATEARRAYOID, INT8ARRAYOID, INT8ARRAYOID],
    ) };

    // In a database of 0.1.0, which has no days.
    static WRITE_LAST_USES_IN_0_1_0: Statement = const { Statement::new(
        "with used as (\
             select id, at, ip::pg_catalog.inet as ip from unnest($1, $2, $3) as used (id, at, ip) \
             where at is not null), \
         changed as (\
             update pat.api_key_usage as known set last_used_at = used.at, last_used_ip = used.ip from used \
             where known.key_id operator(pg_catalog.=) used.id \
                 and known.last_used_at operator(pg_catalog.<) used.at \
             returning known.key_id) \
         insert into pat.api_key_usage as known (key_id, user_id, last_used_at, last_used_ip) \
         select token.id, token.user_id, used.at, used.ip \
         from used join pat.api_keys as token on token.id operator(pg_catalog.=) used.id \
         where not (used.id operator(pg_catalog.=) any (select key_id from changed)) \
         on conflict (key_id) do update \
         set last_used_at = excluded.last_used_at, last_used_ip = excluded.last_used_ip \
         where known.last_used_at operator(pg_catalog.<) excluded.last_used_at",
        &[UUIDARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID],
    ) };

    // This looks at some twenty pages of the table. What a deleted token has counted is kept as that of its user.
    static FORGET_DELETED_TOKENS: Statement = const { Statement::new(
        "with gone as (\
             delete from pat.api_key_usage where key_id operator(pg_catalog.=) any (array(\
                 select used.key_id from pat.api_key_usage as used tablesample system (least(100, \
                     2000.0 operator(pg_catalog./) greatest(1, pg_catalog.pg_relation_size('pat.api_key_usage') \
                         operator(pg_catalog./) 8192))) \
                 where not exists (\
                     select from pat.api_keys as token where token.id operator(pg_catalog.=) used.key_id))) \
             returning key_id, user_id, day, requests, refused) \
         insert into pat.api_key_days as finished (day, key_id, user_id, requests, refused) \
         select day, key_id, user_id, requests, refused from gone where day is not null \
         on conflict (day, key_id) do update set \
             requests = finished.requests operator(pg_catalog.+) excluded.requests, \
             refused = finished.refused operator(pg_catalog.+) excluded.refused",
        &[],
    ) };

    static FORGET_DELETED_TOKENS_IN_0_1_0: Statement = const { Statement::new(
        "delete from pat.api_key_usage where key_id operator(pg_catalog.=) any (array(\
             select used.key_id from pat.api_key_usage as used tablesample system (least(100, \
                 2000.0 operator(pg_catalog./) greatest(1, pg_catalog.pg_relation_size('pat.api_key_usage') \
                     operator(pg_catalog./) 8192))) \
             where not exists (select from pat.api_keys as token where token.id operator(pg_catalog.=) used.key_id)))",
        &[],
    ) };

    static SWEEP_DAYS: Statement = const { Statement::new(
        "delete from pat.api_key_days where (day, key_id) in (\
             select day, key_id from pat.api_key_days where day operator(pg_catalog.<) $1 \
             order by day limit $2 for update skip locked)",
        &[DATEOID, INT8OID],
    ) };

    // The latest day of tokens that have not been used since. As above.
    static SWEEP_LATEST_DAYS: Statement = const { Statement::new(
        "update pat.api_key_usage set day = null, requests = 0, refused = 0 \
         where day operator(pg_catalog.<) $1 and key_id operator(pg_catalog.=) any (array(\
             select used.key_id from pat.api_key_usage as used tablesample system (least(100, \
                 2000.0 operator(pg_catalog./) greatest(1, pg_catalog.pg_relation_size('pat.api_key_usage') \
                     operator(pg_catalog./) 8192))) \
             where used.day operator(pg_catalog.<) $1))",
        &[DATEOID],
    ) };
}

/// Lets nobody else write counts of this database until the end of the transaction. What is read of shared memory after
/// this and taken away again by [`when_committed`] is written once.
///
/// The lock is on a part of the extension that does not exist, so that only writers ever wait for it.
pub fn hold_the_pen() {
    // SAFETY: a look-up in the catalogs; Postgres takes the lock or raises an error.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"supabase_pat".as_ptr(), true);
        pg_sys::LockDatabaseObject(
            pg_sys::ExtensionRelationId,
            extension,
            1,
            pg_sys::ExclusiveLock as pg_sys::LOCKMODE,
        );
    }
}

/// Calls `done` while the transaction commits, after the commit and before it gives up its locks. Nothing interrupts a
/// process there. `done` must raise no error.
pub fn when_committed(done: impl FnOnce() + 'static) {
    register_xact_callback(PgXactCallbackEvent::Commit, AssertUnwindSafe(done));
}

/// Writes about a thousand uses of this database, from the set of that number on, and returns the set to go on with, if
/// there are more. To be called in a transaction that has locked `api_keys` and `api_key_usage`.
///
/// # Errors
/// Those of the statements. Nothing is written then, and all of it is written later.
pub fn write(from_set: usize) -> Result<Option<usize>, Error> {
    hold_the_pen();
    let (uses, next) = usage::unwritten_uses(from_set, BATCH);
    if uses.is_empty() {
        return Ok(next);
    }
    match has_days() {
        true => {
            // A row is changed once by a statement, so those of two days take two.
            for number in 0..2 {
                let rows = uses.iter().filter_map(|used| Row::of_day(used, number));
                write_rows(rows.collect())?;
            }
        }
        false => {
            let rows: Vec<Row> = uses
                .iter()
                .filter_map(|used| Row::of_day(used, 0))
                .collect();
            let arguments = arguments(&rows)?;
            WRITE_LAST_USES_IN_0_1_0
                .with(|statement| statement.run(&arguments[..3], |_| Ok(())))?;
        }
    }
    when_committed(move || usage::uses_have_been_written(&uses));
    Ok(next)
}

/// What is written of a token for one day.
#[derive(Clone, Copy)]
struct Row<'a> {
    used: &'a Use,
    tally: Tally,
}

impl<'a> Row<'a> {
    /// The first or second of the days on which the token has counted something. One that was used and has counted
    /// nothing has the day of that use.
    fn of_day(used: &'a Use, number: usize) -> Option<Self> {
        let mut tallies = used.counted.tallies();
        let tally = tallies.nth(number).or_else(|| {
            let at = used.at.filter(|_| number == 0 && used.counted.is_empty())?;
            Some(Tally::none_on(Day::at(at.unix_micros())))
        })?;
        Some(Self { used, tally })
    }
}

fn write_rows(mut rows: Vec<Row>) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let others = ADD.with(|statement| {
        statement.run(&arguments(&rows)?, |found| {
            let mut ids = Vec::with_capacity(found.len());
            for row in found {
                ids.extend(row.get::<PgUuid>(1)?);
            }
            Ok(ids)
        })
    })?;
    if others.is_empty() {
        return Ok(());
    }
    let others: HashSet<[u8; 16]> = others.iter().map(|id| *id.as_bytes()).collect();
    rows.retain(|row| others.contains(row.used.token.as_bytes()));
    BEGIN_A_DAY.with(|statement| statement.run(&arguments(&rows)?, |_| Ok(())))
}

fn arguments(rows: &[Row]) -> Result<[DatumWithOid<'static>; 6], Error> {
    let times: Result<Vec<Option<TimestampWithTimeZone>>, Error> = rows
        .iter()
        .map(|row| row.used.at.map(Instant::to_timestamp).transpose())
        .collect();
    let ids: Vec<PgUuid> = rows.iter().map(|row| pg_uuid(row.used.token)).collect();
    let addresses: Vec<Option<String>> = rows
        .iter()
        .map(|row| row.used.address.map(|ip| ip.to_string()))
        .collect();
    let days: Result<Vec<Date>, Error> =
        rows.iter().map(|row| clock::date(row.tally.day)).collect();
    let counts = |count: fn(&Tally) -> u32| -> Vec<i64> {
        rows.iter().map(|row| count(&row.tally).into()).collect()
    };
    Ok([
        ids.into(),
        times?.into(),
        addresses.into(),
        days?.into(),
        counts(|tally| tally.requests).into(),
        counts(|tally| tally.refused).into(),
    ])
}

/// Whether this database has the table of days. If so it is locked until the end of the transaction.
fn has_days() -> bool {
    relations::hold_own_table(c"api_key_days")
}

/// Removes the last uses of tokens that have been deleted. Each time it looks at some places of the table, so that it
/// finds all of them in time.
///
/// # Errors
/// Those of the statement.
pub fn forget_deleted_tokens() -> Result<(), Error> {
    match has_days() {
        true => FORGET_DELETED_TOKENS.with(|statement| statement.run(&[], |_| Ok(()))),
        false => FORGET_DELETED_TOKENS_IN_0_1_0.with(|statement| statement.run(&[], |_| Ok(()))),
    }
}

/// Removes up to `max` days of tokens that have been kept as long as `supabase_pat.usage_retention` says, and among some
/// places of the table of last uses those that are the latest of their tokens.
///
/// # Errors
/// Those of the statements.
pub fn sweep_days(now: Instant, max: i64) -> Result<(), Error> {
    let Some(seconds) = settings::usage_retention() else {
        return Ok(());
    };
    if !has_days() {
        return Ok(());
    }
    let end = Day::at(now.plus_seconds(-seconds).unix_micros());
    let end = clock::date(end)?;
    SWEEP_DAYS.with(|statement| statement.sweep(&[end.into(), max.into()]))?;
    SWEEP_LATEST_DAYS.with(|statement| statement.sweep(&[end.into()]))
}
