//! The table `pat.api_key_counters`, which says how many requests of a window a token has been granted: see
//! [`supabase_pat_core::lease`].
//!
//! Only the worker writes it, and waits until that is on disk, and on the standbys that commits wait for. Two writers of
//! a database may run at once, if somebody ends the launcher: then the second one waits for the rows of the first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant as Monotonic};

use pgrx::datum::{TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::pg_sys::BuiltinOid::{
    INT4ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID, UUIDARRAYOID,
};
use pgrx::spi::{self, SpiTupleTable};
use supabase_pat_core::error::Error;
use supabase_pat_core::lease::Stored;
use supabase_pat_core::places::Demanded;
use supabase_pat_core::rate::Which;
use uuid::Uuid;

use super::usage::leases::{self, Given};
use super::worker::in_transaction;
use crate::pg::clock::Instant;
use crate::pg::guc;
use crate::pg::statement::Statement;
use crate::pg::uuid::{pg_uuid, to_uuid};

/// How many leases are written in one transaction.
const BATCH: usize = 1000;

thread_local! {
    // In one order, so that no two writers wait for each other.
    static LOCK: Statement = const { Statement::new(
        "select key_id, limit_name, window_ends_at, granted from pat.api_key_counters \
         where key_id operator(pg_catalog.=) any ($1) order by key_id, limit_name for update",
        &[UUIDARRAYOID],
    ) };

    static CHANGE: Statement = const { Statement::new(
        "update pat.api_key_counters as known set window_ends_at = new.ends_at, granted = new.granted \
         from unnest($1, $2, $3, $4) as new (key_id, limit_name, ends_at, granted) \
         where known.key_id operator(pg_catalog.=) new.key_id \
             and known.limit_name operator(pg_catalog.=) new.limit_name \
         returning known.key_id, known.limit_name",
        &[UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID],
    ) };

    // A row that has come meanwhile is another writer's: the next round sees it.
    static ADD: Statement = const { Statement::new(
        "insert into pat.api_key_counters as known (key_id, limit_name, window_ends_at, granted) \
         select new.key_id, new.limit_name, new.ends_at, new.granted \
         from unnest($1, $2, $3, $4) as new (key_id, limit_name, ends_at, granted) \
         on conflict (key_id, limit_name) do nothing \
         returning known.key_id, known.limit_name",
        &[UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID],
    ) };

    // This looks at some twenty pages of the table. A window that is over says nothing any more, whether its token is
    // there or not. The rows of tokens that are not there must stay until then: a dump is restored table by table.
    static FORGET_WHAT_IS_OVER: Statement = const { Statement::new(
        "delete from pat.api_key_counters where window_ends_at operator(pg_catalog.<) $1 \
             and key_id operator(pg_catalog.=) any (array(\
             select old.key_id from pat.api_key_counters as old tablesample system (least(100, \
                 2000.0 operator(pg_catalog./) greatest(1, pg_catalog.pg_relation_size('pat.api_key_counters') \
                     operator(pg_catalog./) 8192))) \
             where old.window_ends_at operator(pg_catalog.<) $1))",
        &[TIMESTAMPTZOID],
    ) };
}

/// Writes the leases that tokens of this database are to be given, and gives them. False if the tables are not there.
///
/// As long as more requests come that wait, they are served too, for a while: to start another writer would take longer
/// than to write.
pub fn write(only_waiting: bool) -> bool {
    const A_WHILE: Duration = Duration::from_millis(200);
    const A_MOMENT: Duration = Duration::from_millis(2);
    let began = Monotonic::now();
    let mut only_waiting = only_waiting;
    loop {
        let mut has_given = false;
        let mut next = Some(0);
        while let Some(set) = next {
            let demanded;
            (demanded, next) = leases::demanded(only_waiting, set, BATCH);
            if demanded.is_empty() {
                continue;
            }
            let given = RefCell::new(Vec::new());
            if !in_transaction(&[c"api_key_counters"], || {
                *given.borrow_mut() = write_batch(&demanded)?;
                Ok(())
            }) {
                return false;
            }
            leases::give(&given.borrow());
            has_given = true;
        }
        if !has_given || began.elapsed() > A_WHILE {
            return true;
        }
        only_waiting = true;
        std::thread::sleep(A_MOMENT);
    }
}

/// Removes rows whose window is over. Each time it looks at some places of the table, so that it finds all of them in
/// time.
pub fn sweep(now: Instant) -> Result<(), Error> {
    let arguments = [now.to_timestamp()?.into()];
    FORGET_WHAT_IS_OVER.with(|statement| statement.run(&arguments, |_| Ok(())))
}

/// A token and which of its limits.
type Key = (Uuid, Which);

/// Writes leases, and returns those that the table has now.
fn write_batch(demanded: &[Demanded]) -> Result<Vec<Given>, Error> {
    guc::set(c"synchronous_commit", "on")?;
    let tokens: Vec<PgUuid> = demanded
        .iter()
        .map(|demanded| pg_uuid(Uuid::from_bytes(demanded.token)))
        .collect();
    let stored = LOCK.with(|statement| statement.run(&[tokens.into()], stored_in))?;
    let now = Instant::now().unix_micros();
    let leases: Vec<Given> = demanded
        .iter()
        .map(|demanded| {
            let token = Uuid::from_bytes(demanded.token);
            let which = demanded.which;
            let known = stored.get(&(token, which)).copied();
            Given {
                token,
                which,
                lease: demanded.wanted.lease(known, now),
            }
        })
        .collect();
    let (known, new): (Vec<Given>, Vec<Given>) = leases
        .iter()
        .partition(|given| stored.contains_key(&(given.token, given.which)));
    let mut written = written_by(&CHANGE, &known)?;
    written.extend(written_by(&ADD, &new)?);
    let is_written = |given: &Given| written.contains(&(given.token, given.which));
    Ok(leases.into_iter().filter(is_written).collect())
}

fn written_by(
    statement: &'static std::thread::LocalKey<Statement>,
    leases: &[Given],
) -> Result<Vec<Key>, Error> {
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    let tokens: Vec<PgUuid> = leases.iter().map(|given| pg_uuid(given.token)).collect();
    let names: Vec<&str> = leases.iter().map(|given| given.which.name()).collect();
    let ends: Result<Vec<TimestampWithTimeZone>, Error> = leases
        .iter()
        .map(|given| Instant::from_unix_micros(given.lease.stored.end).to_timestamp())
        .collect();
    let granted: Vec<i32> = leases
        .iter()
        .map(|given| i32::try_from(given.lease.stored.granted).unwrap_or(i32::MAX))
        .collect();
    let arguments = [tokens.into(), names.into(), ends?.into(), granted.into()];
    statement.with(|statement| {
        statement.run(&arguments, |rows| {
            let mut written = Vec::new();
            for row in rows {
                written.extend(key(row.get(1)?, row.get(2)?));
            }
            Ok(written)
        })
    })
}

fn stored_in(rows: SpiTupleTable) -> spi::Result<HashMap<Key, Stored>> {
    let mut stored = HashMap::new();
    for row in rows {
        let (end, granted) = (row.get::<TimestampWithTimeZone>(3)?, row.get::<i32>(4)?);
        if let (Some(key), Some(end), Some(granted)) = (key(row.get(1)?, row.get(2)?), end, granted)
        {
            let stored_lease = Stored {
                end: Instant::from_timestamp(end).unix_micros(),
                granted: u32::try_from(granted).unwrap_or_default(),
            };
            stored.insert(key, stored_lease);
        }
    }
    Ok(stored)
}

fn key(token: Option<PgUuid>, name: Option<String>) -> Option<Key> {
    Some((to_uuid(token?), Which::of_name(&name?)?))
}
