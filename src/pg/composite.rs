//! Results of a composite type.
#![allow(unsafe_code)]

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::tupdesc::PgTupleDesc;
use pgrx::{AllocatedByRust, pg_sys};
use supabase_pat_core::error::Error;

/// A row of the composite type that the called function is declared to return.
pub fn result_row(
    call: pg_sys::FunctionCallInfo,
    fields: impl IntoIterator<Item = Option<pg_sys::Datum>>,
) -> Result<PgHeapTuple<'static, AllocatedByRust>, Error> {
    // SAFETY: Postgres passes a valid call, and `from_datums` checks the number of the fields;
    // their types are those of the declaration.
    unsafe {
        let result_type = pg_sys::get_func_rettype((*(*call).flinfo).fn_oid);
        PgTupleDesc::for_composite_type_by_oid(result_type)
            .and_then(|columns| PgHeapTuple::from_datums(columns, fields).ok())
            .ok_or_else(|| Error::Internal("the result type is not as installed".into()))
    }
}
