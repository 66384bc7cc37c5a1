//! Which cluster and which database this backend belongs to.
#![allow(unsafe_code)]

use pgrx::pg_sys;

/// The number that `initdb` has chosen for the cluster. A copy of its files, a standby for instance, has the same one.
pub fn system_identifier() -> u64 {
    // SAFETY: it reads a number from shared memory that the server has set at its start.
    unsafe { pg_sys::GetSystemIdentifier() }
}

/// The database of this backend.
pub fn database() -> pg_sys::Oid {
    // SAFETY: a number that only this backend writes, before any query runs.
    unsafe { pg_sys::MyDatabaseId }
}
