//! Addresses and networks.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::net::IpAddr;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::DatumWithOid;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, direct_function_call, direct_function_call_as_datum, pg_sys};
use supabase_pat_core::error::Error;

/// A `cidr[]` as Postgres stores it. What [`Self::check`] returns has from 1 to 64 elements, none of them null.
#[derive(Clone, Copy)]
pub struct Networks(*mut pg_sys::varlena);

/// More networks than anybody lists by hand, and few enough to compare an address with for each request.
const MAX_NETWORKS: usize = 64;

impl Networks {
    /// Checks an argument of a function.
    ///
    /// # Errors
    /// [`Error::NoNetworks`], [`Error::TooManyNetworks`], [`Error::NullArgument`].
    pub fn check(self) -> Result<Self, Error> {
        let elements = self.elements();
        if elements.iter().any(Option::is_none) {
            return Err(Error::NullArgument("an element of allowed_ips"));
        }
        match elements.len() {
            0 => Err(Error::NoNetworks),
            count if count > MAX_NETWORKS => Err(Error::TooManyNetworks { max: MAX_NETWORKS }),
            _ => Ok(self),
        }
    }

    /// Takes an array that is not toasted, in memory that outlives the result.
    pub fn from_detoasted(array: *mut pg_sys::varlena) -> Self {
        Self(array)
    }

    /// For a parameter of a statement, of type cidr[].
    pub fn as_argument(self) -> DatumWithOid<'static> {
        // SAFETY: the value is a cidr[], as the type says that is passed with it.
        unsafe { DatumWithOid::new(pg_sys::Datum::from(self.0), pg_sys::CIDRARRAYOID) }
    }

    /// Whether one of the networks contains the address.
    pub fn contain(self, address: IpAddr) -> bool {
        let Ok(text) = CString::new(address.to_string()) else {
            return false;
        };
        // SAFETY: `inet_in` takes a C string, and `network_supeq` two values of type inet, which cidr is stored as.
        unsafe {
            let Some(address) = direct_function_call_as_datum(
                pg_sys::inet_in,
                &[Some(pg_sys::Datum::from(text.as_ptr()))],
            ) else {
                return false;
            };
            self.elements().into_iter().flatten().any(|network| {
                direct_function_call(pg_sys::network_supeq, &[Some(network), Some(address)])
                    .unwrap_or(false)
            })
        }
    }

    /// Whether each of the `other` networks lies in one of these.
    pub fn include(self, other: Self) -> bool {
        let mine: Vec<_> = self.elements().into_iter().flatten().collect();
        // SAFETY: `network_supeq` takes two values of type inet, which cidr is stored as.
        let holds = |outer, inner| unsafe {
            direct_function_call(pg_sys::network_supeq, &[Some(outer), Some(inner)])
                .unwrap_or(false)
        };
        other
            .elements()
            .into_iter()
            .all(|inner| inner.is_some_and(|inner| mine.iter().any(|&outer| holds(outer, inner))))
    }

    fn elements(self) -> Vec<Option<pg_sys::Datum>> {
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        // SAFETY: this is an array of cidr, a type of variable length that is aligned as int4 is. Postgres
        // allocates `count` values and flags.
        unsafe {
            pg_sys::deconstruct_array(
                self.0.cast(),
                pg_sys::CIDROID,
                -1,
                false,
                pg_sys::TYPALIGN_INT as std::ffi::c_char,
                &mut values,
                &mut nulls,
                &mut count,
            );
            (0..count as usize)
                .map(|place| (!*nulls.add(place)).then(|| *values.add(place)))
                .collect()
        }
    }
}

impl FromDatum for Networks {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: the caller promises a cidr[], toasted or not.
        (!is_null).then(|| Self(unsafe { pg_sys::pg_detoast_datum(datum.cast_mut_ptr()) }))
    }
}

// SAFETY: the argument is declared as the type that `from_polymorphic_datum` takes.
unsafe impl<'fcx> ArgAbi<'fcx> for Networks {
    unsafe fn unbox_arg_unchecked(argument: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the argument is declared as this type. The function is not strict, takes an Option, and
        // comes here only with a value.
        let value: Option<Self> = unsafe { argument.unbox_arg_using_from_datum() };
        value.unwrap_or(Self(std::ptr::null_mut()))
    }
}

// SAFETY: it maps to the type that the other implementations expect.
unsafe impl SqlTranslatable for Networks {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Networks);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("cidr[]"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("cidr[]")));
}
