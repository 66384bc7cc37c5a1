//! The glue to Postgres, and the only place for `unsafe`.
#![allow(unsafe_code)]

pub mod attempts;
pub mod authority;
pub mod caller;
pub mod clock;
pub mod cluster;
mod column;
pub mod composite;
mod deletion;
pub mod denied;
mod durability;
pub mod error;
pub mod events;
pub mod gate;
pub mod http;
pub mod identity;
pub mod json;
pub mod judged;
mod kept;
pub mod known_networks;
pub mod lock;
pub mod lookup;
mod memory;
pub mod net;
pub mod outbox;
mod pending;
pub mod policy;
pub mod privileges;
pub mod relations;
pub mod request;
mod returned;
pub mod ring;
pub mod run;
pub mod scan;
pub mod secret;
pub mod sessions;
pub mod settings;
pub mod sign_ups;
mod statement;
pub mod store;
pub mod throttle;
pub mod usage;
pub mod user_settings;
pub mod users;
mod worker;

use pgrx::pg_sys;

/// Postgres functions without the guard that pgrx puts around each call into Postgres. The guard
/// is a `sigsetjmp`, about 15 ns, which is more than the first ones cost, and they raise no error.
/// The others may, and are called where one guard stands around them all.
mod unguarded {
    use std::ffi::{c_char, c_int, c_void};

    use super::pg_sys::{self, Oid, Relation, ScanKey, Snapshot, SysScanDesc};

    unsafe extern "C-unwind" {
        /// A signal handler.
        pub fn die(signal: c_int);
        pub fn get_primary_key_attnos(
            table: Oid,
            deferrable: bool,
            constraint: *mut Oid,
        ) -> *mut pg_sys::Bitmapset;
        #[cfg_attr(feature = "pg15", link_name = "planstate_tree_walker")]
        #[cfg_attr(not(feature = "pg15"), link_name = "planstate_tree_walker_impl")]
        pub fn walk_plan_states(
            state: *mut pg_sys::PlanState,
            walker: unsafe extern "C-unwind" fn(*mut pg_sys::PlanState, *mut c_void) -> bool,
            context: *mut c_void,
        ) -> bool;
        pub fn enable_timeout_after(timeout: c_int, milliseconds: c_int);
        pub fn disable_timeout(timeout: c_int, keep_indicator: bool);
        pub fn Async_Notify(channel: *const c_char, payload: *const c_char);
        pub fn ActiveSnapshotSet() -> bool;
        pub fn GetActiveSnapshot() -> Snapshot;
        pub fn hash_bytes_extended(bytes: *const u8, length: c_int, seed: u64) -> u64;
        pub fn GetCurrentTimestamp() -> pg_sys::TimestampTz;
        pub fn GetCurrentTransactionNestLevel() -> c_int;
        #[cfg(feature = "pg15")]
        pub fn GetNumConfigOptions() -> c_int;
        #[cfg(feature = "pg15")]
        pub fn get_guc_variables() -> *mut *mut pg_sys::config_generic;

        pub fn GetCatalogSnapshot(relation: Oid) -> Snapshot;
        pub fn RegisterSnapshot(snapshot: Snapshot) -> Snapshot;
        pub fn UnregisterSnapshot(snapshot: Snapshot);
        pub fn ScanKeyInit(
            entry: ScanKey,
            attribute: i16,
            strategy: u16,
            procedure: Oid,
            argument: pg_sys::Datum,
        );
        pub fn systable_beginscan(
            relation: Relation,
            index: Oid,
            use_index: bool,
            snapshot: Snapshot,
            keys: c_int,
            key: ScanKey,
        ) -> SysScanDesc;
        pub fn systable_getnext(scan: SysScanDesc) -> pg_sys::HeapTuple;
        pub fn systable_endscan(scan: SysScanDesc);
        pub fn pg_detoast_datum_copy(datum: *mut pg_sys::varlena) -> *mut pg_sys::varlena;
        pub fn text_to_cstring(text: *const pg_sys::text) -> *mut c_char;
        pub fn ConditionalLockRelationOid(relation: Oid, lock: pg_sys::LOCKMODE) -> bool;
        pub fn UnlockRelationOid(relation: Oid, lock: pg_sys::LOCKMODE);
        pub fn try_relation_open(relation: Oid, lock: pg_sys::LOCKMODE) -> Relation;
        pub fn relation_close(relation: Relation, lock: pg_sys::LOCKMODE);
        pub fn RecoveryInProgress() -> bool;
        pub fn AcceptInvalidationMessages();

        pub fn errstart(level: c_int, domain: *const c_char) -> bool;
        pub fn errmsg_internal(format: *const c_char, ...) -> c_int;
        pub fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
    }
}

/// Backend-local state. A backend has one thread, and pgrx refuses to be called from another.
struct Local<T>(std::cell::UnsafeCell<T>);

// SAFETY: only the backend's one thread runs code of ours.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// # Safety
    /// No other reference to the value may be in use, so none may be held while Postgres or other
    /// code of ours is called that could come back here.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self) -> &mut T {
        // SAFETY: one thread, and the caller promises that there is no second reference.
        unsafe { &mut *self.0.get() }
    }
}

pub fn init() {
    error::install_panic_hook();
    settings::define();
    run::install_hook();
    if settings::is_preloaded() {
        attempts::init();
        throttle::init();
        usage::init();
        worker::register();
    }
}
