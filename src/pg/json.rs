//! json and jsonb as text, for functions that pass them on without reading all of them: parsing them
//! into a tree and printing the tree again takes as long as signing them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, IntoDatum, PgMemoryContexts, direct_function_call_as_datum, pg_sys};

/// A jsonb value, as the text that Postgres prints.
pub struct JsonbText(pub String);

/// A json value, which is the text that it was given as.
pub struct JsonText(pub String);

macro_rules! text_of_type {
    ($name:ident, $sql:literal, $oid:ident, $output:ident, $input:ident) => {
        impl FromDatum for $name {
            unsafe fn from_polymorphic_datum(
                datum: pg_sys::Datum,
                is_null: bool,
                _: pg_sys::Oid,
            ) -> Option<Self> {
                if is_null {
                    return None;
                }
                // SAFETY: the output function takes a value of the type, toasted or not, and
                // returns a C string.
                let text = unsafe {
                    let text = direct_function_call_as_datum(pg_sys::$output, &[Some(datum)])?;
                    CStr::from_ptr(text.cast_mut_ptr())
                };
                // In a database in UTF-8 the text always is UTF-8.
                Some(Self(match text.to_str() {
                    Ok(text) => text.to_owned(),
                    Err(_) => text.to_string_lossy().into_owned(),
                }))
            }

            /// Works in the memory context of the query, which ends with the query. pgrx would use the outer one, which
            /// lives as long as the transaction, and would need a kilobyte there for each value.
            unsafe fn from_datum_in_memory_context(
                _: PgMemoryContexts,
                datum: pg_sys::Datum,
                is_null: bool,
                oid: pg_sys::Oid,
            ) -> Option<Self> {
                // SAFETY: the caller promises a value of the type. The returned text is in Rust's memory.
                unsafe { Self::from_polymorphic_datum(datum, is_null, oid) }
            }
        }

        impl IntoDatum for $name {
            fn into_datum(self) -> Option<pg_sys::Datum> {
                let text = CString::new(self.0).ok()?;
                // SAFETY: the input function takes a C string, and raises an error if that is not
                // JSON, here under pgrx's guard.
                unsafe {
                    direct_function_call_as_datum(
                        pg_sys::$input,
                        &[Some(pg_sys::Datum::from(text.as_ptr()))],
                    )
                }
            }

            fn type_oid() -> pg_sys::Oid {
                pg_sys::$oid
            }
        }

        // SAFETY: the argument is declared as the type that `from_polymorphic_datum` takes.
        unsafe impl<'fcx> ArgAbi<'fcx> for $name {
            unsafe fn unbox_arg_unchecked(argument: Arg<'_, 'fcx>) -> Self {
                // SAFETY: the argument is declared as this type. A function that is not strict takes an Option,
                // and comes here only with a value.
                let value: Option<Self> = unsafe { argument.unbox_arg_using_from_datum() };
                value.unwrap_or(Self(String::new()))
            }
        }

        // SAFETY: the result is declared as the type that `into_datum` makes.
        unsafe impl BoxRet for $name {
            unsafe fn box_into<'fcx>(self, call: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
                match self.into_datum() {
                    // SAFETY: the result is declared as the type that `into_datum` makes.
                    Some(datum) => unsafe { call.return_raw_datum(datum) },
                    None => call.return_null(),
                }
            }
        }

        // SAFETY: it maps to the type that the other implementations expect.
        unsafe impl SqlTranslatable for $name {
            const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!($name);
            const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
            const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> =
                Ok(SqlMappingRef::literal($sql));
            const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
                Ok(ReturnsRef::One(SqlMappingRef::literal($sql)));
        }
    };
}

text_of_type!(JsonbText, "jsonb", JSONBOID, jsonb_out, jsonb_in);
text_of_type!(JsonText, "json", JSONOID, json_out, json_in);
