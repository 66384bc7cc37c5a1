//! Visiting rows of tables without a query.
//!
//! These are direct index scans: an SPI query would cost three times as much, would need the
//! caller to have privileges on the tables, and could not be used in a parallel worker. They run
//! on a snapshot of their own, taken now and not at the start of the transaction, take an
//! `AccessShareLock`, as any SELECT does, and write nothing, so that they work on a standby. They
//! evaluate nothing that the owner of a table could have put there: no policy, no view, no predicate or
//! expression of an index, no operator but Postgres's own.
//!
//! A scan takes the lock, checks that the table still looks as it did ([`crate::pg::relations`]), takes the snapshot,
//! and reads, in this order. With an older snapshot, a table that was rewritten (by `ALTER TABLE`, say) while the scan
//! waited for the lock would look empty.
#![allow(unsafe_code)]

use std::ops::ControlFlow;

use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::{pg_sys, set_varsize_4b};
use supabase_pat_core::error::Error;
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::column::{Bytes, Column, Id, Json, JsonCopy, Timestamp, Type};
use crate::pg::error::reported;
use crate::pg::known_rows::{Known, Place};
use crate::pg::relations::{self, Guess, Indexed, Layout};
use crate::pg::unguarded;

const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;

/// A table that is open and locked, has the layout `L`, and is read on one snapshot.
pub struct Open<L> {
    pub layout: L,
    relation: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
}

/// Runs `read` on the table that has the layout `L`. `None` if there is no such table.
///
/// One guard stands around all calls into Postgres that `read` makes, which takes 0.2 µs less than a guard around
/// each. So an error jumps out of `read`: it must neither hold anything that needs dropping nor panic.
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

/// As [`look`], on two tables with one snapshot.
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

/// Passes on what [`look`] found in a table of the extension. Raises [`Error::UnfitTable`] if the table exists but does
/// not have the layout: it must not be taken for an empty one, since what it denies would then be allowed.
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
    /// Another transaction holds a lock on a table that conflicts with ours.
    Busy(pg_sys::Oid),
}

/// Locks and opens the tables that `find` names, and runs `read` on them if their layouts still hold. `None` if `find`
/// names none. Raises [`Error::EverChanging`] if they change each time.
///
/// With one table locked, it does not wait for the lock on another one: a migration that changes both in the other
/// order would be in a deadlock with a check.
fn with_tables<const N: usize, G, R>(
    find: impl Fn() -> Option<([pg_sys::Oid; N], G)>,
    holds: impl Fn(&G) -> bool,
    read: impl FnOnce(G, [pg_sys::Relation; N], pg_sys::Snapshot) -> R,
) -> Option<R> {
    /// A table never changes so many times in a row while it is being opened.
    const MANY: usize = 1000;
    let mut read = Some(read);
    for _ in 0..MANY {
        let (tables, guess) = find()?;
        let mut result = None;
        // SAFETY: the closure holds nothing that needs dropping, so an error may jump out of it. At the end of the
        // (sub)transaction Postgres releases the locks, relations and snapshots.
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
                    // `GetLatestSnapshot` refuses to work in parallel mode. `GetCatalogSnapshot` works there, and takes
                    // a new snapshot each time for a table that is not a catalog.
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
            // SAFETY: Postgres takes the lock or raises an error, here under pgrx's guard. The lock is released at
            // once: it is only waited for.
            Some(Obstacle::Busy(table)) => unsafe {
                pg_sys::LockRelationOid(table, LOCK);
                pg_sys::UnlockRelationOid(table, LOCK);
            },
        }
    }
    reported(|| Err(Error::EverChanging)).unwrap_or_report()
}

const NO_LOCK: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;

/// A row of a scan, which is there until the scan goes on.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    columns: pg_sys::TupleDesc,
}

impl Row {
    /// The value in a column, `None` for null.
    #[inline(always)]
    pub fn get<T: Type>(&self, column: Column<T>) -> Option<T::Value> {
        // SAFETY: `value` has checked that the column has the type in this row that it was found to have.
        self.value(column).map(|value| unsafe { T::read(value) })
    }

    /// As [`Row::get`], of a JSON value that takes at most `max` bytes. `None` for a larger one, of which nothing is read.
    pub fn get_small(&self, column: Column<Json>, max: usize) -> Option<JsonCopy> {
        let value = self.value(column)?;
        // SAFETY: `value` has checked that the column is one of jsonb, which has a variable length.
        let size = unsafe { unguarded::toast_raw_datum_size(value) };
        // SAFETY: as in `get`.
        (size <= max).then(|| unsafe { Json::read(value) })
    }

    /// Whether there is a value in a column, which is not null.
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

/// Raises an error about a column that has changed under the lock. This cannot happen as long as the rest of this file
/// is right. It is raised as C code does it: a panic would unwind into frames of C, under the one guard of [`look`].
#[cold]
unsafe fn refuse() -> ! {
    // SAFETY: this is what `ereport(ERROR, …)` expands to, with constant texts. `errfinish` does not return.
    unsafe {
        unguarded::errstart(pgrx::PgLogLevel::ERROR as i32, std::ptr::null());
        unguarded::errmsg_internal(
            c"a column is not what it was when its table was locked".as_ptr(),
        );
        unguarded::errfinish(c"scan.rs".as_ptr(), 0, c"get".as_ptr());
    }
    std::process::abort()
}

/// A value to look for, of a type that is passed by reference.
pub trait Sought<T: Indexed> {
    /// The address of the value as Postgres stores it, a varlena with its length in front. It is valid as long as
    /// `self`.
    fn datum(&self) -> pg_sys::Datum;

    /// Its first 16 bytes.
    fn key(&self) -> [u8; 16];

    /// Whether a row has the value in a column.
    fn is_in(&self, row: &Row, column: Column<T>) -> bool;
}

impl Sought<Id> for Uuid {
    fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(std::ptr::from_ref(self))
    }

    fn key(&self) -> [u8; 16] {
        self.into_bytes()
    }

    fn is_in(&self, row: &Row, column: Column<Id>) -> bool {
        row.get(column) == Some(*self)
    }
}

/// A digest to look for: a bytea of 32 bytes, behind the four bytes of its length.
#[repr(C, align(4))]
pub struct SoughtDigest([u8; 36]);

impl SoughtDigest {
    pub fn new(digest: &[u8; 32]) -> Self {
        let mut bytes = [0; 36];
        bytes[4..].copy_from_slice(digest);
        // SAFETY: the buffer is aligned to 4 bytes and begins with the 4 bytes that are written.
        unsafe { set_varsize_4b(bytes.as_mut_ptr().cast(), 36) };
        Self(bytes)
    }
}

impl Sought<Bytes> for SoughtDigest {
    fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.0.as_ptr())
    }

    fn key(&self) -> [u8; 16] {
        let digest = self.0[4..].first_chunk();
        digest.copied().unwrap_or_default()
    }

    fn is_in(&self, row: &Row, column: Column<Bytes>) -> bool {
        let value = row.get(column);
        value.is_some_and(|value| value.to_bytes() == self.0[4..])
    }
}

impl<L: Layout> Open<L> {
    /// Visits all rows.
    pub fn rows(&self, visit: impl FnMut(&Row) -> ControlFlow<()>) {
        // SAFETY: there are no conditions, whose types could be wrong.
        unsafe { self.scan(pg_sys::InvalidOid, &mut [], visit) };
    }

    /// Visits the rows that have `value` in `column`, with `index`, which is on that column, or with a scan of the
    /// whole table if that is no object (`InvalidOid`).
    pub fn rows_with<T: Indexed>(
        &self,
        column: Column<T>,
        index: pg_sys::Oid,
        value: &impl Sought<T>,
        visit: impl FnMut(&Row) -> ControlFlow<()>,
    ) {
        // SAFETY: the condition is of the column's type. The value lives as long as the scan, which ends in this function.
        unsafe {
            let condition = self.equals(column, value);
            self.scan(index, &mut [condition], visit);
        }
    }

    /// Visits the first row that has `value` in `column`, as [`Open::rows_with`] does; which it is where several have
    /// it is left open. What was found before is looked for in its place first: see [`crate::pg::known_rows`].
    pub fn row_with<T: Indexed>(
        &self,
        column: Column<T>,
        index: pg_sys::Oid,
        value: &impl Sought<T>,
        mut visit: impl FnMut(&Row),
    ) {
        // SAFETY: as in `rows_with`. The table is open and locked.
        unsafe {
            let is_heap = (*(*self.relation).rd_rel).relam == pg_sys::HEAP_TABLE_AM_OID;
            let known = Known {
                table: (*self.relation).rd_id,
                key: value.key(),
            };
            if is_heap
                && let Some(place) = known.place()
                && self.at(place, |row| {
                    let is_sought = value.is_in(row, column);
                    if is_sought {
                        visit(row);
                    }
                    is_sought
                })
            {
                return;
            }
            let condition = self.equals(column, value);
            self.scan_in(index, &mut [condition], |row, scan| {
                visit(row);
                if is_heap && let Some(place) = place_of(row, scan) {
                    known.is_at(place);
                }
                ControlFlow::Break(())
            });
        }
    }

    /// Visits the row that stands in a place, if the snapshot sees one there. False if there is none, or the buffer
    /// holds something else.
    ///
    /// # Safety
    /// The table is a heap. An error jumps to the guard of [`look`].
    unsafe fn at(&self, place: Place, visit: impl FnOnce(&Row) -> bool) -> bool {
        let relation = self.relation;
        // SAFETY: `ReadRecentBuffer` pins the buffer if it holds that page of this table, and reads nothing from disk:
        // a page that is not there any more would be an error. The search, under the lock that it wants, looks whether
        // there is such a line. The row stays where it is as long as the buffer is pinned, which an error undoes.
        unsafe {
            #[cfg(feature = "pg15")]
            let file = (*relation).rd_node;
            #[cfg(not(feature = "pg15"))]
            let file = (*relation).rd_locator;
            let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
            if !unguarded::ReadRecentBuffer(file, fork, place.block, place.buffer) {
                return false;
            }
            let mut tuple = pg_sys::HeapTupleData::default();
            let mut line = pg_sys::ItemPointerData {
                ip_blkid: pg_sys::BlockIdData {
                    bi_hi: (place.block >> 16) as u16,
                    bi_lo: place.block as u16,
                },
                ip_posid: place.line,
            };
            unguarded::LockBuffer(place.buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            let is_there = unguarded::heap_hot_search_buffer(
                &mut line,
                relation,
                place.buffer,
                self.snapshot,
                &mut tuple,
                std::ptr::null_mut(),
                true,
            );
            unguarded::LockBuffer(place.buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
            let is_sought = is_there
                && visit(&Row {
                    tuple: &mut tuple,
                    columns: (*relation).rd_att,
                });
            unguarded::ReleaseBuffer(place.buffer);
            is_sought
        }
    }

    /// As [`Open::rows_with`], of these the rows since a time. The second column of the index is that of the time.
    pub fn rows_since<T: Indexed>(
        &self,
        (column, time): (Column<T>, Column<Timestamp>),
        index: pg_sys::Oid,
        (value, since): (&impl Sought<T>, Instant),
        visit: impl FnMut(&Row) -> ControlFlow<()>,
    ) {
        let mut from = pg_sys::ScanKeyData::default();
        // SAFETY: as in `rows_with`. A timestamptz is passed by value.
        unsafe {
            if !time.is_in((*self.relation).rd_att) {
                refuse();
            }
            unguarded::ScanKeyInit(
                &mut from,
                time.number(),
                pg_sys::BTGreaterEqualStrategyNumber as u16,
                pg_sys::F_TIMESTAMPTZ_GE.into(),
                since.datum(),
            );
            let condition = self.equals(column, value);
            self.scan(index, &mut [condition, from], visit);
        }
    }

    /// # Safety
    /// The value lives as long as the scan. An error jumps to the guard of [`look`].
    unsafe fn equals<T: Indexed>(
        &self,
        column: Column<T>,
        value: &impl Sought<T>,
    ) -> pg_sys::ScanKeyData {
        let mut condition = pg_sys::ScanKeyData::default();
        // SAFETY: `ScanKeyInit` fills the struct, with the equality operator of the column's type, after the check that
        // the column has this type.
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
        }
        condition
    }

    /// # Safety
    /// The conditions are of the types of their columns.
    unsafe fn scan(
        &self,
        index: pg_sys::Oid,
        conditions: &mut [pg_sys::ScanKeyData],
        mut visit: impl FnMut(&Row) -> ControlFlow<()>,
    ) {
        // SAFETY: as the caller promises.
        unsafe { self.scan_in(index, conditions, |row, _| visit(row)) };
    }

    /// As [`Open::scan`], for whom the scan concerns too.
    ///
    /// # Safety
    /// As there.
    unsafe fn scan_in(
        &self,
        index: pg_sys::Oid,
        conditions: &mut [pg_sys::ScanKeyData],
        mut visit: impl FnMut(&Row, pg_sys::SysScanDesc) -> ControlFlow<()>,
    ) {
        let (relation, snapshot) = (self.relation, self.snapshot);
        let (count, conditions) = (conditions.len() as i32, conditions.as_mut_ptr());
        // SAFETY: the relation is open and locked during the scan. A row cannot outlive `visit`, which gets a reference
        // to it. After an error, Postgres ends the scan at the end of the transaction.
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
                if visit(&row, scan).is_break() {
                    break;
                }
            }
            unguarded::systable_endscan(scan);
        }
    }
}

/// Where the row of a scan is. `None` if the scan does not tell the buffer.
///
/// # Safety
/// The table is a heap, and the row is the one that the scan is at.
unsafe fn place_of(row: &Row, scan: pg_sys::SysScanDesc) -> Option<Place> {
    /// As many lines as a page can have: those of a row take at least a header of 24 bytes and a pointer of 4.
    const LINES: usize = pg_sys::BLCKSZ as usize / 28;
    // SAFETY: a slot of that kind has that struct, and its buffer is pinned as long as the scan is at the row. Whoever
    // reads the other lines of the page locks it.
    unsafe {
        let slot = (*scan).slot;
        if slot.is_null() || (*slot).tts_ops != &raw const pg_sys::TTSOpsBufferHeapTuple {
            return None;
        }
        let buffer = (*slot.cast::<pg_sys::BufferHeapTupleTableSlot>()).buffer;
        let tuple = &*row.tuple;
        let block = tuple.t_self.ip_blkid;
        let mut line = tuple.t_self.ip_posid;
        // Local buffers have negative numbers.
        if buffer <= 0 || line == 0 {
            return None;
        }
        if u32::from((*tuple.t_data).t_infomask2) & pg_sys::HEAP_ONLY_TUPLE != 0 {
            let mut first = [0; LINES];
            unguarded::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            unguarded::heap_get_root_tuples(pg_sys::BufferGetPage(buffer), first.as_mut_ptr());
            unguarded::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
            line = *first.get(usize::from(line) - 1)?;
        }
        (line != 0).then_some(Place {
            buffer,
            block: u32::from(block.bi_hi) << 16 | u32::from(block.bi_lo),
            line,
        })
    }
}

/// Opens and locks an index on a standby; the result is null if it is gone. On a primary the lock on the table is
/// enough, as dropping an index waits for all who have locked its table; but it does not wait for those on standbys.
/// `None` on a primary, and if `index` is no object.
unsafe fn hold_on_standby(index: pg_sys::Oid) -> Option<pg_sys::Relation> {
    // SAFETY: `try_relation_open` returns null for a relation that does not exist. An error jumps to the guard of
    // `look`, over nothing that needs dropping.
    unsafe {
        if index == pg_sys::InvalidOid || !unguarded::RecoveryInProgress() {
            return None;
        }
        Some(unguarded::try_relation_open(index, LOCK))
    }
}
