//! Small tables that each backend reads once and keeps, and reads again when they have changed.
//!
//! A trigger on such a table sends an invalidation of the relation cache, as DDL does. Postgres delivers
//! it to every backend of the database at commit, and through the WAL to those of a standby; in the
//! backend that makes the change, it works from the next command on, and again if the change is rolled
//! back. [`crate::pg::changes`] counts these messages.
//!
//! A backend processes invalidations by itself only at the start of a transaction and when it takes a new
//! lock. So every use processes them first: once the client that has changed the table has its answer, no
//! statement in any backend of the primary uses what was there before. If there is nothing new, that takes one
//! comparison in shared memory, a few nanoseconds.
#![allow(unsafe_code)]

use std::rc::Rc;

use pgrx::pg_sys;

use crate::pg::Local;
use crate::pg::relations::Table;

/// What was read from one table.
pub struct Kept<T> {
    /// The value, and the count of changes when it was read.
    read: Local<Option<(u64, Rc<T>)>>,
    table: fn() -> Option<Table>,
    changes: fn() -> u64,
}

impl<T> Kept<T> {
    /// `table` finds the table, and `changes` counts what may have changed it.
    pub const fn new(table: fn() -> Option<Table>, changes: fn() -> u64) -> Self {
        Self {
            read: Local::new(None),
            table,
            changes,
        }
    }

    /// What is in the table now, whatever the snapshot of the transaction is; `read` reads it if it has changed. `None`
    /// while the extension is being installed or dropped.
    pub fn now(&self, read: impl FnOnce(Table) -> T) -> Option<Rc<T>> {
        // SAFETY: Postgres processes messages wherever it takes a lock, so it can here. No reference of this file is in
        // use, and the callbacks take none.
        unsafe { pg_sys::AcceptInvalidationMessages() };
        let changes = (self.changes)();
        // SAFETY: the reference is not held while Postgres is called.
        if let Some((then, kept)) = unsafe { self.read.get() }
            && *then == changes
        {
            return Some(Rc::clone(kept));
        }
        let table = (self.table)()?;
        let changes = (self.changes)();
        let kept = Rc::new(read(table));
        if changes == (self.changes)() {
            // SAFETY: the reference is gone at the end of the line. What is dropped with the old value is Rust's
            // memory.
            unsafe { *self.read.get() = Some((changes, Rc::clone(&kept))) };
        }
        Some(kept)
    }
}

/// What the trigger of such a table does: it sends an invalidation of the table at commit. `None` for `table`, while
/// the extension is being dropped, sends nothing.
pub fn tell_every_backend(table: Option<Table>) -> pg_sys::Datum {
    if let Some(table) = table {
        // SAFETY: it raises an error for a table that does not exist, here under pgrx's guard.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(table.oid) };
    }
    pg_sys::Datum::from(0)
}

/// Defines that trigger for a table: a C function named `$function`.
macro_rules! change_trigger {
    ($info:ident, $function:ident, $table:path) => {
        $crate::pg::function::version_1!($info);

        /// # Safety
        /// Called by Postgres.
        #[unsafe(no_mangle)]
        #[pgrx::pg_guard]
        pub unsafe extern "C-unwind" fn $function(
            _call: pgrx::pg_sys::FunctionCallInfo,
        ) -> pgrx::pg_sys::Datum {
            $crate::pg::memory::with_room(|| $crate::pg::kept::tell_every_backend($table()))
        }
    };
}

pub(crate) use change_trigger;
