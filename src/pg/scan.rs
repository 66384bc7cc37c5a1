//! Visiting rows of tables without a query.
//!
//! These are direct index scans: an SPI query would cost three times as much, would need the
//! caller to have privileges on the tables, and could not be used in a parallel worker. They run
//! on a snapshot of their own, taken now and not at the start of the transaction, take an
//! `AccessShareLock`, as any SELECT does, and write nothing, so that they work on a standby. And they
//! evaluate nothing that the owner of a table could have put there: no policy, no view, no predicate or
//! expression of an index, no operator but Postgres's own.
//!
//! The order is: lock, see whether the table looks as it did ([`crate::pg::relations`]), take the snapshot,
//! read. An older snapshot would find a table empty that has been rewritten while the lock was waited for.
#![allow(unsafe_code)]

use std::ops::ControlFlow;

use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::{pg_sys, set_varsize_4b};
use supabase_pat_core::error::Error;
use uuid::Uuid;

use crate::pg::column::{Bytes, Column, Id, Type};
use crate::pg::error::reported;
use crate::pg::relations::{self, Guess, Indexed, Layout};
use crate::pg::unguarded;

const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;

/// A table that is open and locked, looks like that, and is read as it is at one moment.
pub struct Open<L> {
    pub layout: L,
    relation: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
}

/// Runs `read` on a table. `None` if there is none that looks so.
///
/// One guard stands around all calls into Postgres that `read` makes, which is 0.2 µs less than one
/// around each: so an error jumps out of it, and it must hold nothing that needs dropping, nor panic.
pub fn look<L: Layout, R>(read: impl FnOnce(&Open<L>) -> R) -> Option<R> {
    let find = || {
        let guess = relations::guess::<L>()?;
        Some(([guess.layout.table().oid], guess))
    };
    with_tables(find, Guess::holds, |guess, [relation], snapshot| {
        read(&Open {
            layout: guess.layout,
            relation,
            snapshot,
        })
    })
}

/// As [`look`], on two tables as they are at the same moment.
pub fn look_at_both<A: Layout, B: Layout, R>(
    read: impl FnOnce(&Open<A>, &Open<B>) -> R,
) -> Option<R> {
    let find = || {
        let (a, b) = (relations::guess::<A>()?, relations::guess::<B>()?);
        Some(([a.layout.table().oid, b.layout.table().oid], (a, b)))
    };
    let hold = |(a, b): &(Guess<A>, Guess<B>)| a.holds() && b.holds();
    with_tables(find, hold, |(a, b), relations, snapshot| {
        let open_a = Open {
            layout: a.layout,
            relation: relations[0],
            snapshot,
        };
        let open_b = Open {
            layout: b.layout,
            relation: relations[1],
            snapshot,
        };
        read(&open_a, &open_b)
    })
}

/// What a table of the extension's says. Raises an error if it is there and does not look so: whoever takes that for
/// an empty one forgets what was denied.
pub fn expect<L: Layout, R>(found: Option<R>) -> Option<R> {
    if found.is_none() && relations::guess::<L>().is_none() && relations::exists::<L>() {
        let name = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
        let table = format!("{}.{}", name(L::SCHEMA), name(L::NAME));
        reported(|| Err(Error::UnfitTable(table))).unwrap_or_report()
    }
    found
}

/// What is in the way of reading.
enum Obstacle {
    /// A table has changed since it was looked at.
    Stale,
    /// Somebody has locked a table.
    Busy(pg_sys::Oid),
}

/// Opens the tables that `find` knows of, one or more, for `read`, if they then still look so.
///
/// Nobody is waited for while a table is locked: a migration that changes two tables in another order would
/// be in a deadlock with a check.
fn with_tables<const N: usize, G, R>(
    find: impl Fn() -> Option<([pg_sys::Oid; N], G)>,
    holds: impl Fn(&G) -> bool,
    read: impl FnOnce(G, [pg_sys::Relation; N], pg_sys::Snapshot) -> R,
) -> Option<R> {
    /// More changes of a table than ever come one upon another.
    const MANY: usize = 1000;
    let mut read = Some(read);
    for _ in 0..MANY {
        let (tables, guess) = find()?;
        let mut result = None;
        // SAFETY: the closure is plain data. An error releases locks, relations and snapshots.
        let obstacle = unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                let mut relations = [std::ptr::null_mut(); N];
                let mut obstacle = None;
                for (place, &table) in tables.iter().enumerate() {
                    if place > 0 && !unguarded::ConditionalLockRelationOid(table, LOCK) {
                        obstacle = Some(Obstacle::Busy(table));
                        break;
                    }
                    let lock = if place > 0 { NO_LOCK } else { LOCK };
                    relations[place] = unguarded::try_relation_open(table, lock);
                    if relations[place].is_null() {
                        if place > 0 {
                            unguarded::UnlockRelationOid(table, LOCK);
                        }
                        obstacle = Some(Obstacle::Stale);
                        break;
                    }
                }
                if obstacle.is_none() && !holds(&guess) {
                    obstacle = Some(Obstacle::Stale);
                }
                if obstacle.is_none()
                    && let Some(read) = read.take()
                {
                    // `GetLatestSnapshot` would be the name for it, but refuses to work in parallel mode. The
                    // snapshot for catalogues does not, and Postgres takes a new one each time for a table that
                    // is none.
                    let snapshot = unguarded::GetCatalogSnapshot(tables[0]);
                    let snapshot = unguarded::RegisterSnapshot(snapshot);
                    result = Some(read(guess, relations, snapshot));
                    unguarded::UnregisterSnapshot(snapshot);
                }
                for relation in relations {
                    if !relation.is_null() {
                        unguarded::relation_close(relation, LOCK);
                    }
                }
                obstacle
            })
        };
        match obstacle {
            None => return result,
            Some(Obstacle::Stale) => (),
            // SAFETY: takes a lock like any other, or raises an error, and gives it back.
            Some(Obstacle::Busy(table)) => unsafe {
                pg_sys::LockRelationOid(table, LOCK);
                pg_sys::UnlockRelationOid(table, LOCK);
            },
        }
    }
    reported(|| Err(Error::EverChanging)).unwrap_or_report()
}

const NO_LOCK: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;

pub struct Row {
    tuple: pg_sys::HeapTuple,
    columns: pg_sys::TupleDesc,
}

impl Row {
    /// `None` for null.
    #[inline(always)]
    pub fn get<T: Type>(&self, column: Column<T>) -> Option<T::Value> {
        // SAFETY: the column is of its type here.
        self.value(column).map(|value| unsafe { T::read(value) })
    }

    /// Whether it is not null.
    pub fn has<T>(&self, column: Column<T>) -> bool {
        self.value(column).is_some()
    }

    #[inline(always)]
    fn value<T>(&self, column: Column<T>) -> Option<pg_sys::Datum> {
        // SAFETY: the tuple and its descriptor belong to a scan that is open.
        unsafe {
            if !column.is_in(self.columns) {
                refuse();
            }
            let mut is_null = false;
            let number = column.number().into();
            let datum = pg_sys::heap_getattr(self.tuple, number, self.columns, &mut is_null);
            (!is_null).then_some(datum)
        }
    }
}

/// Nothing comes here as long as the rest of this file is right. Raises an error as Postgres does, since there is no
/// frame here that could be unwound.
#[cold]
unsafe fn refuse() -> ! {
    // SAFETY: constant texts. Beyond the last call nothing goes on.
    unsafe {
        unguarded::errstart(pgrx::PgLogLevel::ERROR as i32, std::ptr::null());
        unguarded::errmsg_internal(
            c"a column is not what it was when its table was locked".as_ptr(),
        );
        unguarded::errfinish(c"scan.rs".as_ptr(), 0, c"get".as_ptr());
    }
    std::process::abort()
}

/// A value to look for: by its address, or, what has a length, with it before it.
pub trait Key<T: Indexed> {
    fn datum(&self) -> pg_sys::Datum;
}

impl Key<Id> for Uuid {
    fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(std::ptr::from_ref(self))
    }
}

/// A bytea of 32 bytes.
#[repr(C, align(4))]
pub struct DigestKey([u8; 36]);

impl DigestKey {
    pub fn new(digest: &[u8; 32]) -> Self {
        let mut bytes = [0; 36];
        bytes[4..].copy_from_slice(digest);
        // SAFETY: a bytea of 32 bytes after its length.
        unsafe { set_varsize_4b(bytes.as_mut_ptr().cast(), 36) };
        Self(bytes)
    }
}

impl Key<Bytes> for DigestKey {
    fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.0.as_ptr())
    }
}

impl<L: Layout> Open<L> {
    /// Visits all rows.
    pub fn rows(&self, visit: impl FnMut(&Row) -> ControlFlow<()>) {
        // SAFETY: without conditions there is nothing to be right or wrong.
        unsafe { self.scan(pg_sys::InvalidOid, &mut [], visit) };
    }

    /// Visits the rows that have `value` in `column`, by an index on it, or without one if that is no object.
    pub fn rows_with<T: Indexed>(
        &self,
        column: Column<T>,
        index: pg_sys::Oid,
        value: &impl Key<T>,
        visit: impl FnMut(&Row) -> ControlFlow<()>,
    ) {
        let mut condition = pg_sys::ScanKeyData::default();
        // SAFETY: it fills the struct, with an operator of the column's type, and the value lives as long as the scan.
        unsafe {
            if !column.is_in((*self.relation).rd_att) {
                refuse();
            }
            unguarded::ScanKeyInit(
                &mut condition,
                column.number(),
                pg_sys::BTEqualStrategyNumber as u16,
                T::EQUALS.into(),
                value.datum(),
            );
            self.scan(index, &mut [condition], visit);
        }
    }

    /// # Safety
    /// The conditions are of the types of their columns.
    unsafe fn scan(
        &self,
        index: pg_sys::Oid,
        conditions: &mut [pg_sys::ScanKeyData],
        mut visit: impl FnMut(&Row) -> ControlFlow<()>,
    ) {
        let (relation, snapshot) = (self.relation, self.snapshot);
        let (count, conditions) = (conditions.len() as i32, conditions.as_mut_ptr());
        // SAFETY: the relation is open and locked during the scan, and `visit` keeps nothing of a row.
        // An error in between releases everything at the end of the transaction.
        unsafe {
            let held = hold_on_standby(index);
            let is_gone = held.is_some_and(|held| held.is_null());
            let has_index = index != pg_sys::InvalidOid && !is_gone;
            let scan = unguarded::systable_beginscan(
                relation, index, has_index, snapshot, count, conditions,
            );
            if let Some(held) = held
                && !is_gone
            {
                unguarded::relation_close(held, LOCK);
            }
            loop {
                let tuple = unguarded::systable_getnext(scan);
                if tuple.is_null() {
                    break;
                }
                let row = Row {
                    tuple,
                    columns: (*relation).rd_att,
                };
                if visit(&row).is_break() {
                    break;
                }
            }
            unguarded::systable_endscan(scan);
        }
    }
}

/// Opens an index on a standby, if it is there. Whoever drops one waits for those who have locked its table, but not for
/// those on standbys.
unsafe fn hold_on_standby(index: pg_sys::Oid) -> Option<pg_sys::Relation> {
    // SAFETY: opens a relation that there may be none of.
    unsafe {
        if index == pg_sys::InvalidOid || !unguarded::RecoveryInProgress() {
            return None;
        }
        Some(unguarded::try_relation_open(index, LOCK))
    }
}
