//! Results of a composite type.
#![allow(unsafe_code)]

use std::ffi::CStr;

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::tupdesc::PgTupleDesc;
use pgrx::{AllocatedByRust, IntoDatum, pg_sys};
use supabase_pat_core::error::Error;

/// A field of a row, with the name and the type that its column must have.
pub struct Field {
    name: &'static CStr,
    type_oid: pg_sys::Oid,
    value: Option<pg_sys::Datum>,
}

impl Field {
    /// A field of the type that pgrx makes of `T`; null if `value` is a `None`.
    pub fn new<T: IntoDatum>(name: &'static CStr, value: T) -> Self {
        Self {
            name,
            type_oid: T::type_oid(),
            value: value.into_datum(),
        }
    }

    fn fits(&self, column: &pg_sys::FormData_pg_attribute) -> bool {
        // SAFETY: Postgres ends the name with a NUL.
        let name = unsafe { CStr::from_ptr(column.attname.data.as_ptr()) };
        column.atttypid == self.type_oid && name == self.name
    }
}

/// A row of the composite type that the called function is declared to return.
///
/// # Errors
/// [`Error::UnfitType`] if the type in the database has other columns than `fields`, in name, type, number or order.
/// Without this check, memory would be read as a value of another type.
pub fn result_row(
    call: pg_sys::FunctionCallInfo,
    fields: impl IntoIterator<Item = Field>,
) -> Result<PgHeapTuple<'static, AllocatedByRust>, Error> {
    // SAFETY: the caller passes on the call that Postgres has made, which has a valid `flinfo`.
    let result_type = unsafe { pg_sys::get_func_rettype((*(*call).flinfo).fn_oid) };
    let unfit = || Error::UnfitType(name_of(result_type));
    let columns = PgTupleDesc::for_composite_type_by_oid(result_type).ok_or_else(unfit)?;
    let fields: Vec<Field> = fields.into_iter().collect();
    let fit = fields.len() == columns.len()
        && columns
            .iter()
            .zip(&fields)
            .all(|(column, field)| field.fits(column));
    if !fit {
        return Err(unfit());
    }
    // SAFETY: `fits` has checked that each value is of the type of its column.
    unsafe { PgHeapTuple::from_datums(columns, fields.into_iter().map(|field| field.value)) }
        .map_err(|_| unfit())
}

/// The name of a type, with its schema.
fn name_of(of: pg_sys::Oid) -> String {
    // SAFETY: Postgres returns a text that ends in NUL, even for a type that is gone; it is copied at once.
    unsafe { CStr::from_ptr(pg_sys::format_type_be_qualified(of)) }
        .to_string_lossy()
        .into_owned()
}
