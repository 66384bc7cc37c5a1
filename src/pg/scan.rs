//! Visiting rows of tables without a query.
//!
//! These are direct index scans: an SPI query would cost three times as much, would need the
//! caller to have privileges on the tables, and could not be used in a parallel worker. They run
//! on a snapshot of their own, taken now and not at the start of the transaction, take an
//! `AccessShareLock`, as any SELECT does, and write nothing, so that they work on a standby.

use std::ffi::c_char;
use std::ops::ControlFlow;

use pgrx::{FromDatum, pg_sys};
use uuid::Uuid;

use super::json::JsonbText;
use super::relations::Table;
use super::unguarded;

/// Visits every row of a few small tables, all as they are at one moment. `visit` gets the number of
/// the table too, and must hold nothing that needs dropping.
pub fn for_each_row(tables: &[Table], mut visit: impl FnMut(usize, &Row)) {
    let Some(&first) = tables.first() else {
        return;
    };
    with_latest_snapshot(first, |snapshot| {
        for (number, table) in tables.iter().enumerate() {
            scan_where(snapshot, *table, pg_sys::InvalidOid, &mut [], |row| {
                visit(number, row);
                ControlFlow::Continue(())
            });
        }
    });
}

/// A copy of a jsonb in the memory context that was current when it was read.
#[derive(Clone, Copy)]
pub struct Jsonb(*mut pg_sys::varlena);

impl Jsonb {
    /// To be called in that same memory context.
    pub fn into_text(self) -> String {
        // SAFETY: a jsonb that is not toasted.
        let text = unsafe { JsonbText::from_datum(pg_sys::Datum::from(self.0), false) };
        text.map_or(String::new(), |JsonbText(text)| text)
    }
}

pub struct Row {
    tuple: pg_sys::HeapTuple,
    columns: pg_sys::TupleDesc,
}

impl Row {
    pub fn get(&self, column: i16) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the tuple and its descriptor belong to a scan that is open.
        let datum =
            unsafe { pg_sys::heap_getattr(self.tuple, column.into(), self.columns, &mut is_null) };
        (!is_null).then_some(datum)
    }

    /// A text as a C string in the current memory context, empty for null.
    pub fn text(&self, column: i16) -> *const c_char {
        match self.get(column) {
            // SAFETY: a text, toasted or not, of a tuple that is there as long as the scan.
            Some(datum) => unsafe { unguarded::text_to_cstring(datum.cast_mut_ptr()) },
            None => c"".as_ptr(),
        }
    }

    pub fn jsonb(&self, column: i16) -> Option<Jsonb> {
        self.copy(column).map(Jsonb)
    }

    /// A value of variable length in the current memory context, not toasted.
    pub fn copy(&self, column: i16) -> Option<*mut pg_sys::varlena> {
        // SAFETY: such a value, toasted or not, of a tuple that is there as long as the scan.
        self.get(column)
            .map(|datum| unsafe { unguarded::pg_detoast_datum_copy(datum.cast_mut_ptr()) })
    }

    /// False for null.
    pub fn boolean(&self, column: i16) -> bool {
        self.get(column).is_some_and(|datum| datum.value() != 0)
    }

    pub fn uuid(&self, column: i16) -> Option<Uuid> {
        // SAFETY: a uuid is 16 bytes by reference.
        self.get(column)
            .map(|datum| unsafe { Uuid::from_bytes(*datum.cast_mut_ptr::<[u8; 16]>()) })
    }
}

/// Runs `f`, a few scans, with a snapshot that sees everything that has committed by now.
///
/// `GetLatestSnapshot` would be the name for it, but refuses to work in parallel mode. The snapshot
/// for catalogues does not, and Postgres takes a new one each time for a table that is none.
///
/// One guard stands around all calls into Postgres that `f` makes, which is 0.2 µs less than one
/// around each: so an error jumps out of `f`, which must hold nothing that needs dropping.
pub fn with_latest_snapshot<R>(table: Table, f: impl FnOnce(pg_sys::Snapshot) -> R) -> R {
    // SAFETY: the callers' closures are plain data, and the snapshot is registered while they run.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            let snapshot = unguarded::RegisterSnapshot(unguarded::GetCatalogSnapshot(table.oid));
            let result = f(snapshot);
            unguarded::UnregisterSnapshot(snapshot);
            result
        })
    }
}

/// Visits the rows of `table` that have `value` in `column`.
pub fn scan(
    snapshot: pg_sys::Snapshot,
    table: Table,
    index: pg_sys::Oid,
    column: i16,
    value: &Uuid,
    visit: impl FnMut(&Row) -> ControlFlow<()>,
) {
    scan_where(snapshot, table, index, &mut [id_key(column, value)], visit);
}

/// The condition that `column` is `value`, which must outlive the scan.
pub fn id_key(column: i16, value: &Uuid) -> pg_sys::ScanKeyData {
    equal(column, pg_sys::F_UUID_EQ, value.as_bytes().as_ptr())
}

pub fn equal(column: i16, operator: u32, value: *const u8) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    // SAFETY: the key is written, and the value not looked at.
    unsafe {
        unguarded::ScanKeyInit(
            &mut key,
            column,
            pg_sys::BTEqualStrategyNumber as u16,
            operator.into(),
            pg_sys::Datum::from(value),
        );
    }
    key
}

/// Visits the rows of `table` that fit the keys. If there is no such table any more, it has no rows.
pub fn scan_where(
    snapshot: pg_sys::Snapshot,
    table: Table,
    index: pg_sys::Oid,
    keys: &mut [pg_sys::ScanKeyData],
    mut visit: impl FnMut(&Row) -> ControlFlow<()>,
) {
    let lock = pg_sys::AccessShareLock as i32;
    // SAFETY: the relation is open and locked during the scan, and `visit` keeps nothing of a row.
    // An error in between releases everything at the end of the transaction.
    unsafe {
        let relation = unguarded::try_table_open(table.oid, lock);
        if relation.is_null() {
            return;
        }
        let has_index = index != pg_sys::InvalidOid;
        let (count, keys) = (keys.len() as i32, keys.as_mut_ptr());
        let scan = unguarded::systable_beginscan(relation, index, has_index, snapshot, count, keys);
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
        unguarded::table_close(relation, lock);
    }
}
