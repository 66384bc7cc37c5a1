//! Postgres functions without the guard that pgrx puts around each call into Postgres. The guard is a `sigsetjmp`,
//! which takes about 15 ns.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

use pgrx::pg_sys::{self, Oid, Relation, ScanKey, Snapshot, SysScanDesc};

type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

unsafe extern "C-unwind" {
    // These take less time than a guard and raise no error, or pgrx does not declare them.

    /// A signal handler.
    pub fn die(signal: c_int);
    #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_walker_impl")]
    pub fn query_tree_walker(
        query: *mut pg_sys::Query,
        walker: Walker,
        context: *mut c_void,
        flags: c_int,
    ) -> bool;
    #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
    pub fn expression_tree_walker(
        node: *mut pg_sys::Node,
        walker: Walker,
        context: *mut c_void,
    ) -> bool;
    #[cfg_attr(not(feature = "pg15"), link_name = "range_table_entry_walker_impl")]
    pub fn range_table_entry_walker(
        entry: *mut pg_sys::RangeTblEntry,
        walker: Walker,
        context: *mut c_void,
        flags: c_int,
    ) -> bool;
    pub fn pg_trigger_depth(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    pub fn preprocess_function_rtes(root: *mut pg_sys::PlannerInfo);
    pub fn get_row_security_policies(
        query: *mut pg_sys::Query,
        entry: *mut pg_sys::RangeTblEntry,
        place: c_int,
        conditions: *mut *mut pg_sys::List,
        checks: *mut *mut pg_sys::List,
        has_policies: *mut bool,
        has_sublinks: *mut bool,
    );
    pub fn checkExprHasSubLink(node: *mut pg_sys::Node) -> bool;
    pub fn pull_varattnos(
        node: *mut pg_sys::Node,
        entry: pg_sys::Index,
        columns: *mut *mut pg_sys::Bitmapset,
    );
    pub fn get_primary_key_attnos(
        table: Oid,
        deferrable: bool,
        constraint: *mut Oid,
    ) -> *mut pg_sys::Bitmapset;
    pub fn find_all_inheritors(
        table: Oid,
        lock: pg_sys::LOCKMODE,
        parents: *mut *mut pg_sys::List,
    ) -> *mut pg_sys::List;
    pub fn bms_next_member(set: *const pg_sys::Bitmapset, member: c_int) -> c_int;
    pub fn bms_equal(set: *const pg_sys::Bitmapset, other: *const pg_sys::Bitmapset) -> bool;
    pub fn bms_is_member(member: c_int, set: *const pg_sys::Bitmapset) -> bool;
    pub fn list_concat(list: *mut pg_sys::List, other: *mut pg_sys::List) -> *mut pg_sys::List;
    pub fn exprType(node: *const pg_sys::Node) -> Oid;
    pub fn type_is_rowtype(of: Oid) -> bool;
    pub fn get_base_element_type(of: Oid) -> Oid;
    pub fn GetUserId() -> Oid;
    pub fn GetOuterUserId() -> Oid;
    pub fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
    pub fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        is_read_only: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        destination: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
    pub fn standard_planner(
        query: *mut pg_sys::Query,
        text: *const c_char,
        options: c_int,
        parameters: pg_sys::ParamListInfo,
    ) -> *mut pg_sys::PlannedStmt;
    pub fn lappend(list: *mut pg_sys::List, element: *mut c_void) -> *mut pg_sys::List;
    pub fn palloc0(size: usize) -> *mut c_void;
    pub fn MemoryContextAlloc(context: pg_sys::MemoryContext, size: usize) -> *mut c_void;

    pub fn GetConfigOptionByName(
        name: *const c_char,
        full_name: *mut *const c_char,
        missing_ok: bool,
    ) -> *mut c_char;
    pub fn cstring_to_text(text: *const c_char) -> *mut pg_sys::text;
    pub fn DirectFunctionCall1Coll(
        function: pg_sys::PGFunction,
        collation: Oid,
        argument: pg_sys::Datum,
    ) -> pg_sys::Datum;
    pub fn uuid_in(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    pub fn jsonb_in(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    pub fn jsonb_object_field_text(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    pub fn enable_timeout_after(timeout: c_int, milliseconds: c_int);
    pub fn disable_timeout(timeout: c_int, keep_indicator: bool);
    pub fn Async_Notify(channel: *const c_char, payload: *const c_char);
    pub fn ActiveSnapshotSet() -> bool;
    pub fn GetActiveSnapshot() -> Snapshot;
    pub fn hash_bytes_extended(bytes: *const u8, length: c_int, seed: u64) -> u64;
    pub fn GetCurrentTimestamp() -> pg_sys::TimestampTz;
    pub fn GetCurrentTransactionNestLevel() -> c_int;
    #[cfg(not(feature = "pg15"))]
    pub fn hash_get_num_entries(table: *mut pg_sys::HTAB) -> std::ffi::c_long;
    pub fn InNoForceRLSOperation() -> bool;
    #[cfg(not(feature = "pg15"))]
    pub fn find_option(
        name: *const c_char,
        create_placeholders: bool,
        skip_errors: bool,
        level: c_int,
    ) -> *mut pg_sys::config_generic;
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
    #[cfg(feature = "pg15")]
    pub fn ReadRecentBuffer(
        file: pg_sys::RelFileNode,
        fork: pg_sys::ForkNumber::Type,
        block: pg_sys::BlockNumber,
        buffer: pg_sys::Buffer,
    ) -> bool;
    #[cfg(not(feature = "pg15"))]
    pub fn ReadRecentBuffer(
        file: pg_sys::RelFileLocator,
        fork: pg_sys::ForkNumber::Type,
        block: pg_sys::BlockNumber,
        buffer: pg_sys::Buffer,
    ) -> bool;
    pub fn LockBuffer(buffer: pg_sys::Buffer, mode: c_int);
    pub fn ReleaseBuffer(buffer: pg_sys::Buffer);
    pub fn heap_hot_search_buffer(
        line: pg_sys::ItemPointer,
        relation: Relation,
        buffer: pg_sys::Buffer,
        snapshot: Snapshot,
        tuple: pg_sys::HeapTuple,
        are_all_dead: *mut bool,
        is_first_call: bool,
    ) -> bool;
    pub fn heap_get_root_tuples(page: pg_sys::Page, first: *mut pg_sys::OffsetNumber);
    pub fn toast_raw_datum_size(value: pg_sys::Datum) -> pg_sys::Size;
    pub fn JsonbIteratorInit(container: *mut pg_sys::JsonbContainer) -> *mut pg_sys::JsonbIterator;
    pub fn JsonbIteratorNext(
        iterator: *mut *mut pg_sys::JsonbIterator,
        value: *mut pg_sys::JsonbValue,
        skips_nested: bool,
    ) -> pg_sys::JsonbIteratorToken::Type;
    pub fn numeric_out(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    pub fn pg_detoast_datum(datum: *mut pg_sys::varlena) -> *mut pg_sys::varlena;
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
