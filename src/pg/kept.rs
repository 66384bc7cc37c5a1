//! Small tables that each backend reads once, and again when they have changed.
//!
//! A trigger on such a table sends an invalidation of the relation cache, as DDL does. Postgres delivers
//! it to every backend of the database at commit, and through the WAL to those of a standby; in the
//! backend that makes the change, it works from the next command on, and again if the change is rolled
//! back. [`crate::pg::relations`] counts them.
//!
//! A backend hears of it when it accepts invalidations, which it does of itself only at the start of a
//! transaction and with a new lock. So every use accepts them first: once the client that has changed
//! the table has its answer, no statement anywhere uses what was there before. With nothing new, that is
//! one comparison in shared memory, a few nanoseconds.
#![allow(unsafe_code)]

use std::rc::Rc;

use pgrx::pg_sys;

use crate::pg::Local;
use crate::pg::relations::Table;

/// What was read from a table.
pub struct Kept<T> {
    /// With the number of changes that there had been.
    read: Local<Option<(u64, Rc<T>)>>,
    table: fn() -> Option<Table>,
    changes: fn() -> u64,
}

impl<T> Kept<T> {
    /// `changes` counts what may have changed `table`.
    pub const fn new(table: fn() -> Option<Table>, changes: fn() -> u64) -> Self {
        Self {
            read: Local::new(None),
            table,
            changes,
        }
    }

    /// What is in the table now, in whatever transaction. `None` while the extension is being installed
    /// or dropped.
    pub fn now(&self, read: impl FnOnce(Table) -> T) -> Option<Rc<T>> {
        // SAFETY: as at any lock that is taken. The callbacks hold no reference of ours.
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
            // SAFETY: as above.
            unsafe { *self.read.get() = Some((changes, Rc::clone(&kept))) };
        }
        Some(kept)
    }
}

/// What the trigger of such a table does.
pub fn tell_every_backend(table: Option<Table>) -> pg_sys::Datum {
    if let Some(table) = table {
        // SAFETY: the table exists, or an error is raised.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(table.oid) };
    }
    pg_sys::Datum::from(0)
}

/// Defines that trigger for a table.
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
            $crate::pg::kept::tell_every_backend($table())
        }
    };
}

pub(crate) use change_trigger;
