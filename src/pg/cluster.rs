//! Where we are: which cluster, and which database.
#![allow(unsafe_code)]

use pgrx::pg_sys;

/// What `initdb` drew for the cluster. A copy that was made file by file, a standby for instance, has the same.
pub fn system_identifier() -> u64 {
    // SAFETY: it reads what the server knows since it started.
    unsafe { pg_sys::GetSystemIdentifier() }
}

pub fn database() -> pg_sys::Oid {
    // SAFETY: set before any query runs.
    unsafe { pg_sys::MyDatabaseId }
}
