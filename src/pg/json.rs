//! json and jsonb as text, for functions that pass them on without reading all of them: parsing them
//! into a tree and printing the tree again takes as long as signing them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{
    FromDatum, IntoDatum, PgMemoryContexts, direct_function_call_as_datum, pg_sys, varsize_any,
};
use supabase_pat_core::json::push_string;

use crate::pg::unguarded;

/// A jsonb value, as the text that Postgres prints.
pub struct JsonbText(pub String);

/// A json value, which is the text that it was given as.
pub struct JsonText(pub String);

/// What `jsonb_out` prints, in half of its time: that one looks at each character by itself, and its text would have to
/// be copied.
///
/// # Safety
/// A value of type jsonb.
unsafe fn text_of_jsonb(datum: pg_sys::Datum) -> String {
    let mut text = String::new();
    // SAFETY: the caller promises a jsonb. The iterator walks through it, and says of each value which member of the
    // union it has. An error jumps out of the closure, which holds nothing that needs dropping.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            let jsonb = unguarded::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
            text.reserve(varsize_any(jsonb.cast()));
            let mut iterator = unguarded::JsonbIteratorInit(&raw mut (*jsonb).root);
            let mut value: pg_sys::JsonbValue = std::mem::zeroed();
            let mut is_first = true;
            let mut is_scalar = false;
            loop {
                use pg_sys::JsonbIteratorToken::*;
                let token = unguarded::JsonbIteratorNext(&mut iterator, &mut value, false);
                let begins = matches!(
                    token,
                    WJB_KEY | WJB_ELEM | WJB_BEGIN_ARRAY | WJB_BEGIN_OBJECT
                );
                if begins && !is_first {
                    text.push_str(", ");
                }
                // What follows a name or a bracket has no comma before it.
                is_first = matches!(token, WJB_KEY | WJB_BEGIN_ARRAY | WJB_BEGIN_OBJECT);
                match token {
                    WJB_BEGIN_OBJECT => text.push('{'),
                    WJB_END_OBJECT => text.push('}'),
                    WJB_BEGIN_ARRAY if value.val.array.rawScalar => is_scalar = true,
                    WJB_END_ARRAY if is_scalar => (),
                    WJB_BEGIN_ARRAY => text.push('['),
                    WJB_END_ARRAY => text.push(']'),
                    WJB_KEY => {
                        push_scalar(&mut text, &value);
                        text.push_str(": ");
                    }
                    WJB_VALUE | WJB_ELEM => push_scalar(&mut text, &value),
                    _ => break,
                }
            }
        });
    }
    text
}

/// # Safety
/// A value that an iterator has given, which is neither an object nor an array. An error jumps out of it.
unsafe fn push_scalar(text: &mut String, value: &pg_sys::JsonbValue) {
    use pg_sys::jbvType;
    // SAFETY: the type says which member of the union it is.
    unsafe {
        match value.type_ {
            jbvType::jbvString => {
                let string = value.val.string;
                let bytes = std::slice::from_raw_parts(string.val.cast(), string.len as usize);
                match std::str::from_utf8(bytes) {
                    Ok(string) => push_string(text, string),
                    // In a database in another encoding.
                    Err(_) => push_string(text, &String::from_utf8_lossy(bytes)),
                }
            }
            jbvType::jbvNumeric => {
                let number = pg_sys::Datum::from(value.val.numeric);
                let none = pg_sys::InvalidOid;
                let printed =
                    unguarded::DirectFunctionCall1Coll(Some(unguarded::numeric_out), none, number);
                let printed = CStr::from_ptr(printed.cast_mut_ptr());
                text.push_str(printed.to_str().unwrap_or_default());
            }
            jbvType::jbvBool if value.val.boolean => text.push_str("true"),
            jbvType::jbvBool => text.push_str("false"),
            _ => text.push_str("null"),
        }
    }
}

/// # Safety
/// A value of type json.
unsafe fn text_of_json(datum: pg_sys::Datum) -> String {
    // SAFETY: the output function takes a value of the type, toasted or not, and returns a C string.
    let text = unsafe {
        let text = direct_function_call_as_datum(pg_sys::json_out, &[Some(datum)]);
        text.map(|text| CStr::from_ptr(text.cast_mut_ptr()))
    };
    // In a database in UTF-8 the text always is UTF-8.
    let text = text.unwrap_or_default();
    text.to_str()
        .map_or_else(|_| text.to_string_lossy().into_owned(), str::to_owned)
}

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
                // SAFETY: the caller promises a value of the type.
                Some(Self(unsafe { $output(datum) }))
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

text_of_type!(JsonbText, "jsonb", JSONBOID, text_of_jsonb, jsonb_in);
text_of_type!(JsonText, "json", JSONOID, text_of_json, json_in);
