//! Looking keys and users up, for a check.
//!
//! These are direct index scans: an SPI query would cost three times as much, would need the
//! caller to have privileges on the tables, and could not be used in a parallel worker or on a
//! standby without care. The scans run on a snapshot of their own, taken now: that is what
//! `systable_beginscan` does for a table that is not a system catalogue when it is given none.
//! They take an `AccessShareLock`, as any SELECT does, and write nothing.

use std::ops::ControlFlow;

use pgrx::pg_sys;
use supabase_pat_core::error::Error;
use uuid::Uuid;

use super::clock::Instant;
use super::relations::{self, Keys, Table};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum UserState {
    Active,
    Banned,
    /// Missing, or deleted softly.
    Gone,
}

/// Whether the key exists, belongs to the user, and is neither revoked nor expired.
pub fn key_is_live(key_id: Uuid, user: Uuid) -> bool {
    let Some(keys) = relations::keys() else {
        return false;
    };
    let mut live = false;
    scan(keys.table, keys.by_id, Keys::ID, key_id, |row| {
        live = row.uuid(Keys::USER_ID) == Some(user) && is_live(row);
        ControlFlow::Break(())
    });
    live
}

/// How many live keys a user has.
pub fn live_keys(user: Uuid) -> usize {
    let Some(keys) = relations::keys() else {
        return 0;
    };
    let mut count = 0;
    scan(keys.table, keys.by_user, Keys::USER_ID, user, |row| {
        count += usize::from(is_live(row));
        ControlFlow::Continue(())
    });
    count
}

/// # Errors
/// [`Error::NoUsersTable`].
pub fn user_state(user: Uuid) -> Result<UserState, Error> {
    let users = relations::users().ok_or(Error::NoUsersTable)?;
    let mut state = UserState::Gone;
    scan(users.table, users.by_id, users.id, user, |row| {
        let value = |column: Option<i16>| column.and_then(|column| row.get(column));
        let banned_until = value(users.banned_until).map(Instant::from_datum);
        state = if value(users.deleted_at).is_some() {
            UserState::Gone
        } else if banned_until.is_some_and(|until| until > Instant::now()) {
            UserState::Banned
        } else {
            UserState::Active
        };
        ControlFlow::Break(())
    });
    Ok(state)
}

fn is_live(row: &Row) -> bool {
    row.get(Keys::REVOKED_AT).is_none()
        && row
            .get(Keys::EXPIRES_AT)
            .is_some_and(|at| Instant::from_datum(at) > Instant::now())
}

struct Row {
    tuple: pg_sys::HeapTuple,
    columns: pg_sys::TupleDesc,
}

impl Row {
    fn get(&self, column: i16) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the tuple and its descriptor belong to a scan that is open.
        let datum =
            unsafe { pg_sys::heap_getattr(self.tuple, column.into(), self.columns, &mut is_null) };
        (!is_null).then_some(datum)
    }

    fn uuid(&self, column: i16) -> Option<Uuid> {
        // SAFETY: a uuid is 16 bytes by reference.
        self.get(column)
            .map(|datum| unsafe { Uuid::from_bytes(*datum.cast_mut_ptr::<[u8; 16]>()) })
    }
}

/// Visits the rows of `table` that have `value` in `column`. If there is no such table any more,
/// it has no rows.
fn scan(
    table: Table,
    index: pg_sys::Oid,
    column: i16,
    value: Uuid,
    mut visit: impl FnMut(&Row) -> ControlFlow<()>,
) {
    let lock = pg_sys::AccessShareLock as i32;
    // SAFETY: the relation is open and locked during the scan, the value outlives it, and `visit`
    // raises no error. An error in between releases everything at the end of the transaction.
    unsafe {
        let relation = pg_sys::try_table_open(table.oid, lock);
        if relation.is_null() {
            return;
        }
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            column,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::F_UUID_EQ.into(),
            pg_sys::Datum::from(value.as_bytes().as_ptr()),
        );
        let has_index = index != pg_sys::InvalidOid;
        let snapshot = std::ptr::null_mut();
        let scan = pg_sys::systable_beginscan(relation, index, has_index, snapshot, 1, &mut key);
        loop {
            let tuple = pg_sys::systable_getnext(scan);
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
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, lock);
    }
}
