//! Settings of whomever: reading them, and setting them for the rest of the transaction.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use supabase_pat_core::error::Error;

#[cfg(feature = "pg15")]
use crate::pg::unguarded;

/// `None` if there is no such setting, or it is empty.
pub fn setting(name: &CStr) -> Option<String> {
    // SAFETY: a setting that is missing is a null pointer; the text is copied at once.
    let text = unsafe {
        let text = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if text.is_null() {
            return None;
        }
        let bytes = CStr::from_ptr(text).to_bytes();
        match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => String::from_utf8_lossy(bytes).into_owned(),
        }
    };
    Some(text).filter(|text| !text.is_empty())
}

/// As `SET LOCAL` by the role in force.
pub fn set(name: &CStr, value: &str) -> Result<(), Error> {
    let value = c_string(value)?;
    // SAFETY: it takes two C strings, and raises an error if the role may not set that.
    unsafe {
        let context = match pg_sys::superuser() {
            true => pg_sys::GucContext::PGC_SUSET,
            false => pg_sys::GucContext::PGC_USERSET,
        };
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            context,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
    Ok(())
}

pub fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Internal("a setting cannot hold that".into()))
}

/// Gives a setting another value, if it has one.
pub fn replace(name: &CStr, value: &str) -> Result<(), Error> {
    match setting(name) {
        Some(old) if old != value => set(name, value),
        _ => Ok(()),
    }
}

/// The record of a setting, if it exists.
#[cfg(not(feature = "pg15"))]
pub fn find_setting(name: &CStr) -> Option<*mut pg_sys::config_generic> {
    // SAFETY: with `skip_errors`, a missing setting is a null pointer.
    let record = unsafe { pg_sys::find_option(name.as_ptr(), false, true, 0) };
    (!record.is_null()).then_some(record)
}

/// The record of a setting, if it exists.
#[cfg(feature = "pg15")]
pub fn find_setting(name: &CStr) -> Option<*mut pg_sys::config_generic> {
    let (record, found) = settings_from(name.to_bytes()).next()?;
    found
        .eq_ignore_ascii_case(name.to_bytes())
        .then_some(record)
}

/// The records of settings, each with its name, from the first that is not before `start`, which is lower case. Postgres 15 keeps
/// them in an array that is sorted by name, ignoring case, and exports no search in it.
#[cfg(feature = "pg15")]
pub fn settings_from(
    start: &[u8],
) -> impl Iterator<Item = (*mut pg_sys::config_generic, &'static [u8])> {
    // SAFETY: the array has as many records as Postgres says, and each has a name.
    let (settings, name) = unsafe {
        let settings = std::slice::from_raw_parts(
            unguarded::get_guc_variables(),
            unguarded::GetNumConfigOptions() as usize,
        );
        let name = |record: *mut pg_sys::config_generic| CStr::from_ptr((*record).name).to_bytes();
        (settings, name)
    };
    let first = settings.partition_point(|&record| {
        let folded = name(record).iter().map(u8::to_ascii_lowercase);
        folded.lt(start.iter().copied())
    });
    settings[first..]
        .iter()
        .map(move |&record| (record, name(record)))
}
