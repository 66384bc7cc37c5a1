//! Locks on things that have no row yet, or none that may be locked.
#![allow(unsafe_code)]

use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::pg_sys;

use crate::pg::relations::Table;

/// Makes transactions that do something for the same thing in `table` wait for each other, to their
/// ends. Readers are not concerned.
///
/// Few locks for many things: a transaction that goes through all of them must not fill the table of
/// locks. Now and then two things share one and wait for each other, which is harmless.
pub fn bucket(table: Table, thing: &impl Hash) {
    const LOCKS: u64 = 1024;
    let mut hasher = DefaultHasher::new();
    thing.hash(&mut hasher);
    let object = pg_sys::Oid::from((hasher.finish() % LOCKS) as u32);
    // SAFETY: takes a lock like any other, or raises an error.
    unsafe { pg_sys::LockDatabaseObject(table.oid, object, 0, pg_sys::ExclusiveLock as i32) };
}
