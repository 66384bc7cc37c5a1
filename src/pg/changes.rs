//! Messages of changes: what Postgres tells every backend when a table, view, function, operator, type or role changes.
//!
//! Postgres sends such a message (an invalidation of its caches) at the commit of a change. A backend processes the
//! messages that wait for it when it takes a lock that it does not have yet, and at the start of a transaction. Two
//! counters say how many have come. Code that keeps something it has read keeps the count of that moment with it.
#![allow(unsafe_code)]

use pgrx::pg_sys;

use crate::pg::Local;

/// What wants to know which table has changed.
pub trait Listener {
    /// Called for each message. `relation` is no object (`InvalidOid`) if any table may have changed.
    fn relation_changed(&self, relation: pg_sys::Oid);
}

/// Those that the messages reach.
static LISTENERS: Local<Vec<&'static (dyn Listener + Sync)>> = Local::new(Vec::new());

/// Lets the messages reach `listener` from now on, until the backend ends. To be called once for each.
pub fn tell(listener: &'static (dyn Listener + Sync)) {
    listen();
    // SAFETY: nothing is called while the reference is in use, but the allocator, which does not come back here.
    unsafe { LISTENERS.get() }.push(listener);
}

/// Counts the messages about tables, views, indexes and schemas.
static RELATION_MESSAGES: Local<u64> = Local::new(0);

/// Counts the messages about functions, operators, types and roles.
static OTHER_MESSAGES: Local<u64> = Local::new(0);

/// How many messages about tables, views, indexes and schemas this backend has processed since it listens.
#[inline(always)]
pub fn of_relations() -> u64 {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { *RELATION_MESSAGES.get() }
}

/// How many messages there have been about anything that can make a view another one: relations, schemas, functions,
/// operators, types and roles. Processes those that wait first.
pub fn of_all() -> u64 {
    listen();
    // SAFETY: Postgres processes messages wherever it takes a lock, so it can here; no reference is held meanwhile, and
    // those taken afterwards are gone at the end of the line.
    unsafe {
        pg_sys::AcceptInvalidationMessages();
        *RELATION_MESSAGES.get() + *OTHER_MESSAGES.get()
    }
}

/// Counts the messages about functions and schemas.
static FUNCTION_MESSAGES: Local<u64> = Local::new(0);

/// How many messages about functions and schemas this backend has processed since it listens: see [`listen`].
#[inline(always)]
pub fn of_functions() -> u64 {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { *FUNCTION_MESSAGES.get() }
}

static IS_LISTENING: Local<bool> = Local::new(false);

/// Registers the callbacks, unless this backend has done so already.
pub fn listen() {
    // SAFETY: the callbacks stay valid as long as the backend, since Postgres never unloads a library. The reference is
    // gone at the end of its line.
    unsafe {
        if std::mem::replace(IS_LISTENING.get(), true) {
            return;
        }
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
            Some(schema_changed),
            pg_sys::Datum::from(0),
        );
        use pg_sys::SysCacheIdentifier::{AUTHOID, OPEROID, PROCOID, TYPEOID};
        for cache in [AUTHOID, OPEROID, PROCOID, TYPEOID] {
            let callback = Some(other_changed as unsafe extern "C-unwind" fn(_, _, _));
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, callback, pg_sys::Datum::from(0));
        }
    }
}

unsafe extern "C-unwind" fn relation_changed(_: pg_sys::Datum, relation: pg_sys::Oid) {
    // SAFETY: in this file a reference ends before Postgres is called, and the listeners call nothing that comes back
    // here. So none is in use while Postgres processes messages.
    unsafe {
        *RELATION_MESSAGES.get() += 1;
        for listener in LISTENERS.get() {
            listener.relation_changed(relation);
        }
    }
}

unsafe extern "C-unwind" fn schema_changed(argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    // SAFETY: the callback of relations has no condition but that no reference is in use, which holds here too.
    unsafe {
        *FUNCTION_MESSAGES.get() += 1;
        relation_changed(argument, pg_sys::InvalidOid);
    }
}

unsafe extern "C-unwind" fn other_changed(_: pg_sys::Datum, cache: i32, _hash: u32) {
    // SAFETY: no reference is in use while Postgres processes messages, as in `relation_changed`.
    unsafe {
        *OTHER_MESSAGES.get() += 1;
        if cache == pg_sys::SysCacheIdentifier::PROCOID as i32 {
            *FUNCTION_MESSAGES.get() += 1;
        }
    }
}
