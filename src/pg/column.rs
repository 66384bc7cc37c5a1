//! Columns of tables that are read without a query, by what is in them.
//!
//! A value in a row is bytes: to take a number for a text reads memory that is not the row's. So what can be read of
//! a row depends on the type of the [`Column`], and there is no way to come by one but to find it in the table as it
//! is, while that cannot change: see [`crate::pg::relations`].
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
    /// What is read of it. Copies are in the memory context that was current then.
    type Value: Copy;

    /// Whether values of the type `base`, which is no domain, are stored as these are.
    fn is(base: pg_sys::Oid) -> bool;

    /// # Safety
    /// The value is of a type that [`Self::is`] takes, and the row that it is in is still there.
    unsafe fn read(value: pg_sys::Datum) -> Self::Value;
}

/// A column, of a type that is or is stored as `T`.
pub struct Column<T> {
    number: i16,
    /// As it is declared: it may be a domain over that type.
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
    /// The column of that name.
    ///
    /// # Safety
    /// The descriptor is that of a table that is open, and locked.
    pub unsafe fn find(columns: pg_sys::TupleDesc, name: &CStr) -> Found<T> {
        // SAFETY: as the caller promises; the rest are look-ups in the system caches.
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
    pub fn number(self) -> i16 {
        self.number
    }

    /// Whether it is such a column in these rows. Whatever happens before, this is asked before each read.
    ///
    /// # Safety
    /// The descriptor is that of a table that is open.
    #[inline(always)]
    pub unsafe fn is_in(self, columns: pg_sys::TupleDesc) -> bool {
        // SAFETY: as the caller promises.
        unsafe {
            i32::from(self.number) <= (*columns).natts
                && (*attribute(columns, self.number)).atttypid == self.declared
        }
    }
}

/// A column of a table that somebody else designs.
pub enum Found<T> {
    Missing,
    AsExpected(Column<T>),
    /// Which can be null or not, and no more.
    OfAnotherType(Column<Anything>),
}

impl<T> Clone for Found<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Found<T> {}

impl<T> Found<T> {
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
    // SAFETY: the descriptor is valid and has a column of that number. Since Postgres 18 the descriptions stand
    // behind shorter ones, as many of them (`TupleDescAttr`).
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

pub enum Anything {}
pub enum Boolean {}
pub enum Integer {}
pub enum Timestamp {}
/// Its length in microseconds.
pub enum Duration {}
pub enum Id {}
/// text, varchar or citext.
pub enum Text {}
pub enum Json {}
pub enum Bytes {}
pub enum Texts {}
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
        // SAFETY: an interval is a struct by reference.
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
        // SAFETY: a uuid is 16 bytes by reference.
        unsafe { Uuid::from_bytes(*value.cast_mut_ptr::<[u8; 16]>()) }
    }
}

/// A copy of a text, as a C string.
#[derive(Clone, Copy)]
pub struct TextCopy(*const c_char);

impl TextCopy {
    /// To be called in the same memory context, as for all copies.
    pub fn to_text(self) -> String {
        // SAFETY: a C string that is still there.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_string_lossy().into_owned()
    }
}

impl Type for Text {
    type Value = TextCopy;

    fn is(base: pg_sys::Oid) -> bool {
        [pg_sys::TEXTOID, pg_sys::VARCHAROID].contains(&base) || is_citext(base)
    }

    unsafe fn read(value: pg_sys::Datum) -> TextCopy {
        // SAFETY: a text, toasted or not, of a row that is there.
        TextCopy(unsafe { unguarded::text_to_cstring(value.cast_mut_ptr()) })
    }
}

/// Whether it is the type that the extension citext brings along, which is stored as text is. Only a superuser can
/// make a base type, or an extension of that name.
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
        // SAFETY: a jsonb that is not toasted.
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
        // SAFETY: as the caller promises.
        JsonCopy(unsafe { copy(value) })
    }
}

/// A copy of a bytea.
#[derive(Clone, Copy)]
pub struct BytesCopy(*mut pg_sys::varlena);

impl BytesCopy {
    pub fn to_bytes(self) -> Vec<u8> {
        // SAFETY: a bytea that is not toasted.
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
        // SAFETY: as the caller promises.
        BytesCopy(unsafe { copy(value) })
    }
}

/// A copy of a text[].
#[derive(Clone, Copy)]
pub struct TextsCopy(*mut pg_sys::varlena);

impl TextsCopy {
    pub fn to_texts(self) -> Vec<Option<String>> {
        // SAFETY: a text[] that is not toasted.
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
        // SAFETY: as the caller promises.
        TextsCopy(unsafe { copy(value) })
    }
}

impl Type for NetworkList {
    type Value = Networks;

    fn is(base: pg_sys::Oid) -> bool {
        base == pg_sys::CIDRARRAYOID
    }

    unsafe fn read(value: pg_sys::Datum) -> Networks {
        // SAFETY: as the caller promises.
        Networks::from_detoasted(unsafe { copy(value) })
    }
}

/// A copy of a value of variable length, not toasted.
///
/// # Safety
/// It is of such a type, and its row is there.
unsafe fn copy(value: pg_sys::Datum) -> *mut pg_sys::varlena {
    // SAFETY: as the caller promises.
    unsafe { unguarded::pg_detoast_datum_copy(value.cast_mut_ptr()) }
}
