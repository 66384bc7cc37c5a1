//! Postgres functions without the guard that pgrx puts around each call into Postgres. The guard is a `sigsetjmp`,
//! which takes about 15 ns.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

use pgrx::pg_sys::{self, Oid, Relation, ScanKey, Snapshot, SysScanDesc};

unsafe extern "C-unwind" {
    // These take less time than a guard and raise no error, or pgrx does not declare them.

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

    // These may raise an error. They are called where one guard stands around several calls.

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
