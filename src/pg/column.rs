//! Typed columns of tables that are read without a query.
//!
//! A value in a row is bytes: code that takes a number for a text reads memory outside of the row. So what can be read
//! from a row depends on the type of the [`Column`], and the only way to get a column is to find it in the table as it
//! is, while it cannot change: see [`crate::pg::relations`].
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;

use pgrx::{FromDatum, pg_sys};
use uuid::Uuid;

use crate::pg::clock::{self, Instant};
use crate::pg::json::JsonbText;
use crate::pg::net::Networks;
use crate::pg::unguarded;

/// A type of SQL that columns can have.
pub trait Type {
    /// What reading gives. What is a copy is in the memory context that was current when it was read.
    type Value: Copy;

    /// Whether values of the SQL type `base`, which is not a domain, are stored as values of this type are.
    fn is(base: pg_sys::Oid) -> bool;

    /// # Safety
    /// The value is of a type for which [`Self::is`] is true, and its row is still in memory.
    unsafe fn read(value: pg_sys::Datum) -> Self::Value;
}

/// A column whose values are stored as those of `T` are.
pub struct Column<T> {
    number: i16,
    /// The declared type, which may be a domain over such a type.
    declared: pg_sys::Oid,
    is: PhantomData<fn() -> T>,
}

impl<T> Clone for Column<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Column<T> {}

impl<T: Type> Column<T> {
    /// Looks for the column `name`.
    ///
    /// # Safety
    /// `columns` is the descriptor of a table that is open and locked.
    pub unsafe fn find(columns: pg_sys::TupleDesc, name: &CStr) -> Found<T> {
        // SAFETY: the caller promises that the descriptor is valid, so it has `natts` attributes, each with a name that
        // ends in NUL. `getBaseType` looks into the system caches and raises an error for a type that does not exist.
        unsafe {
            let count = (*columns).natts as i16;
            let named = |&number: &i16| {
                let attribute = &*attribute(columns, number);
                !attribute.attisdropped && CStr::from_ptr(attribute.attname.data.as_ptr()) == name
            };
            let Some(number) = (1..=count).find(named) else {
                return Found::Missing;
            };
            let declared = (*attribute(columns, number)).atttypid;
            match T::is(pg_sys::getBaseType(declared)) {
                true => Found::AsExpected(Self {
                    number,
                    declared,
                    is: PhantomData,
                }),
                false => Found::OfAnotherType(Column {
                    number,
                    declared,
                    is: PhantomData,
                }),
            }
        }
    }
}

impl<T> Column<T> {
    /// Its number in the table, from 1.
    pub fn number(self) -> i16 {
        self.number
    }

    /// Whether rows with this descriptor have the column, of the declared type. This is checked before each read, and
    /// does not rely on any check before.
    ///
    /// # Safety
    /// `columns` is the descriptor of a table that is open.
    #[inline(always)]
    pub unsafe fn is_in(self, columns: pg_sys::TupleDesc) -> bool {
        // SAFETY: the caller promises that the descriptor is valid; the attribute is read only if there is one of that
        // number.
        unsafe {
            i32::from(self.number) <= (*columns).natts
                && (*attribute(columns, self.number)).atttypid == self.declared
        }
    }
}

/// The result of a search for a column, in a table that somebody else designs.
pub enum Found<T> {
    Missing,
    AsExpected(Column<T>),
    /// Of this one can only be read whether it is null.
    OfAnotherType(Column<Anything>),
}

impl<T> Clone for Found<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Found<T> {}

impl<T> Found<T> {
    /// The column, if it is there and has the expected type.
    pub fn as_expected(self) -> Option<Column<T>> {
        match self {
            Self::AsExpected(column) => Some(column),
            Self::Missing | Self::OfAnotherType(_) => None,
        }
    }
}

#[inline(always)]
unsafe fn attribute(
    columns: pg_sys::TupleDesc,
    number: i16,
) -> *const pg_sys::FormData_pg_attribute {
    let place = number as usize - 1;
    // SAFETY: both callers have a valid descriptor, and a number from 1 to `natts`. Since Postgres 18 the full
    // attributes follow an array of `natts` compact ones (`TupleDescAttr`).
    unsafe {
        #[cfg(not(feature = "pg18"))]
        let first = (*columns).attrs.as_ptr();
        #[cfg(feature = "pg18")]
        let first = (*columns)
            .compact_attrs
            .as_ptr()
            .add((*columns).natts as usize)
            .cast::<pg_sys::FormData_pg_attribute>();
        first.add(place)
    }
}

// The types of columns. They have no values: `Column<T>` says by them what can be read.

/// Any type, of which only null can be told.
pub enum Anything {}
/// boolean.
pub enum Boolean {}
/// integer, of 32 bits.
pub enum Integer {}
/// timestamptz.
pub enum Timestamp {}
/// An interval, of which the length is read, in microseconds.
pub enum Duration {}
/// uuid.
pub enum Id {}
/// text, varchar or citext.
pub enum Text {}
/// jsonb.
pub enum Json {}
/// bytea.
pub enum Bytes {}
/// text[].
pub enum Texts {}
/// cidr[].
pub enum NetworkList {}

impl Type for Anything {
    type Value = ();

    fn is(_: pg_sys::Oid) -> bool {
        true
    }

    unsafe fn read(_: pg_sys::Datum) {}
}

impl Type for Boolean {
    type Value = bool;

    fn is(base: pg_sys::Oid) -> bool {
        base == pg_sys::BOOLOID
    }

    #[inline(always)]
    unsafe fn read(value: pg_sys::Datum) -> bool {
        value.value() != 0
    }
}

impl Type for Integer {
    type Value = i32;

    fn is(base: pg_sys::Oid) -> bool {
        base == pg_sys::INT4OID
    }

    #[inline(always)]
    unsafe fn read(value: pg_sys::Datum) -> i32 {
        value.value() as i32
    }
}

impl Type for Timestamp {
    type Value = Instant;

    fn is(base: pg_sys::Oid) -> bool {
        base == pg_sys::TIMESTAMPTZOID
    }

    #[inline(always)]
    unsafe fn read(value: pg_sys::Datum) -> Instant {
        Instant::from_datum(value)
    }
}

impl Type for Duration {
    type Value = i64;

    fn is(base: pg_sys::Oid) -> bool {
        base == pg_sys::INTERVALOID
    }

    unsafe fn read(value: pg_sys::Datum) -> i64 {
        // SAFETY: the caller promises an interval, which is passed as the address of this struct.
        clock::micros(unsafe { &*value.cast_mut_ptr() })
    }
}

impl Type for Id {
    type Value = Uuid;

    fn is(base: pg_sys::Oid) -> bool {
        base == pg_sys::UUIDOID
    }

    #[inline(always)]
    unsafe fn read(value: pg_sys::Datum) -> Uuid {
        // SAFETY: the caller promises a uuid, which is passed as the address of 16 bytes.
        unsafe { Uuid::from_bytes(*value.cast_mut_ptr::<[u8; 16]>()) }
    }
}

/// A copy of a text, as a C string.
#[derive(Clone, Copy)]
pub struct TextCopy(*const c_char);

impl TextCopy {
    /// To be called while the memory context of the read is there, like the methods of all copies.
    pub fn to_text(self) -> String {
        // SAFETY: `text_to_cstring` made it, in a memory context that is still there.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_string_lossy().into_owned()
    }

    /// Whether it is that text.
    pub fn is(self, text: &str) -> bool {
        // SAFETY: as above.
        unsafe { CStr::from_ptr(self.0) }.to_bytes() == text.as_bytes()
    }
}

impl Type for Text {
    type Value = TextCopy;

    fn is(base: pg_sys::Oid) -> bool {
        [pg_sys::TEXTOID, pg_sys::VARCHAROID].contains(&base) || is_citext(base)
    }

    unsafe fn read(value: pg_sys::Datum) -> TextCopy {
        // SAFETY: the caller promises a text (or what is stored as one) of a row in memory; it may be toasted.
        TextCopy(unsafe { unguarded::text_to_cstring(value.cast_mut_ptr()) })
    }
}

/// Whether `base` is the type of the extension citext, which is stored as text is. Only a superuser can make a base
/// type, or an extension of that name.
fn is_citext(base: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the system caches, with checked results; a tuple is released when it has been read.
    unsafe {
        if pg_sys::get_typtype(base) as u8 != pg_sys::TYPTYPE_BASE {
            return false;
        }
        let extension = pg_sys::get_extension_oid(c"citext".as_ptr(), true);
        if extension == pg_sys::InvalidOid
            || pg_sys::getExtensionOfObject(pg_sys::TypeRelationId, base) != extension
        {
            return false;
        }
        let cache = pg_sys::SysCacheIdentifier::TYPEOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, base.into());
        if tuple.is_null() {
            return false;
        }
        let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_type>();
        let is_citext =
            CStr::from_ptr(form.typname.data.as_ptr()) == c"citext" && form.typlen == -1;
        pg_sys::ReleaseSysCache(tuple);
        is_citext
    }
}

/// A copy of a jsonb.
#[derive(Clone, Copy)]
pub struct JsonCopy(*mut pg_sys::varlena);

impl JsonCopy {
    pub fn into_text(self) -> String {
        // SAFETY: `copy` made it: a jsonb that is not toasted, in a memory context that is still there.
        let text = unsafe { JsonbText::from_datum(pg_sys::Datum::from(self.0), false) };
        text.map_or(String::new(), |JsonbText(text)| text)
    }
}

impl Type for Json {
    type Value = JsonCopy;

    fn is(base: pg_sys::Oid) -> bool {
        base == pg_sys::JSONBOID
    }

    unsafe fn read(value: pg_sys::Datum) -> JsonCopy {
        // SAFETY: the caller promises a jsonb, which has a variable length, of a row in memory.
        JsonCopy(unsafe { copy(value) })
    }
}

/// A copy of a bytea.
#[derive(Clone, Copy)]
pub struct BytesCopy(*mut pg_sys::varlena);

impl BytesCopy {
    pub fn to_bytes(self) -> Vec<u8> {
        // SAFETY: `copy` made it: a bytea that is not toasted, in a memory context that is still there.
        let bytes = unsafe { FromDatum::from_datum(pg_sys::Datum::from(self.0), false) };
        bytes.unwrap_or_default()
    }
}

impl Type for Bytes {
    type Value = BytesCopy;

    fn is(base: pg_sys::Oid) -> bool {
        base == pg_sys::BYTEAOID
    }

    unsafe fn read(value: pg_sys::Datum) -> BytesCopy {
        // SAFETY: the caller promises a bytea, which has a variable length, of a row in memory.
        BytesCopy(unsafe { copy(value) })
    }
}

/// A copy of a text[].
#[derive(Clone, Copy)]
pub struct TextsCopy(*mut pg_sys::varlena);

impl TextsCopy {
    pub fn to_texts(self) -> Vec<Option<String>> {
        // SAFETY: `copy` made it: a text[] that is not toasted, in a memory context that is still there.
        let texts = unsafe { FromDatum::from_datum(pg_sys::Datum::from(self.0), false) };
        texts.unwrap_or_default()
    }
}

impl Type for Texts {
    type Value = TextsCopy;

    fn is(base: pg_sys::Oid) -> bool {
        base == pg_sys::TEXTARRAYOID
    }

    unsafe fn read(value: pg_sys::Datum) -> TextsCopy {
        // SAFETY: the caller promises a text[], which has a variable length, of a row in memory.
        TextsCopy(unsafe { copy(value) })
    }
}

impl Type for NetworkList {
    type Value = Networks;

    fn is(base: pg_sys::Oid) -> bool {
        base == pg_sys::CIDRARRAYOID
    }

    unsafe fn read(value: pg_sys::Datum) -> Networks {
        // SAFETY: the caller promises a cidr[], which has a variable length, of a row in memory.
        Networks::from_detoasted(unsafe { copy(value) })
    }
}

/// A detoasted copy of a value of variable length, in the current memory context.
///
/// # Safety
/// The value is of a type of variable length, and its row is in memory.
unsafe fn copy(value: pg_sys::Datum) -> *mut pg_sys::varlena {
    // SAFETY: the caller promises a value that can be detoasted. The guard of `scan::look` stands around this call.
    unsafe { unguarded::pg_detoast_datum_copy(value.cast_mut_ptr()) }
}
