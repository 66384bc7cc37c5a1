//! Locks on things that have no row yet, or whose row may not be locked.
#![allow(unsafe_code)]

use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::pg_sys;

use crate::pg::relations::Table;

/// Takes a lock for `thing` in `table`, to the end of the transaction. A second transaction that wants the same lock
/// waits until then. Readers take none.
///
/// All things share 1024 locks, so that a transaction that goes through all things does not fill Postgres's table of
/// locks. Now and then two things share a lock and wait for each other, which is harmless.
pub fn bucket(table: Table, thing: &impl Hash) {
    let object = pg_sys::Oid::from(number_of(thing));
    // SAFETY: Postgres takes the lock or raises an error, here under pgrx's guard. It needs no object of that number.
    unsafe { pg_sys::LockDatabaseObject(table.oid, object, 0, pg_sys::ExclusiveLock as i32) };
}

/// Lets go of a lock that [`bucket`] has taken in this call, before the transaction ends. One that was held before stays
/// held: Postgres counts.
pub fn release(table: Table, thing: &impl Hash) {
    let object = pg_sys::Oid::from(number_of(thing));
    // SAFETY: as above. A lock that is not held is a warning.
    unsafe { pg_sys::UnlockDatabaseObject(table.oid, object, 0, pg_sys::ExclusiveLock as i32) };
}

/// The number of the lock that [`bucket`] takes. Whoever takes several locks takes them in the order of their numbers,
/// so that two who do so never wait for each other.
pub fn number_of(thing: &impl Hash) -> u32 {
    const LOCKS: u64 = 1024;
    let mut hasher = DefaultHasher::new();
    thing.hash(&mut hasher);
    (hasher.finish() % LOCKS) as u32
}
