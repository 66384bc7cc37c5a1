//! Settings of Postgres and of any extension: reading one, and setting it for the rest of the transaction.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use supabase_pat_core::error::Error;

#[cfg(feature = "pg15")]
use crate::pg::unguarded;

/// The value of a setting. `None` if there is no such setting, or it is empty.
pub fn setting(name: &CStr) -> Option<String> {
    // SAFETY: Postgres returns null for a missing setting, as it is told here; the text ends in NUL and is copied at
    // once.
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

/// Sets `name` as `SET LOCAL` by the role in force does.
///
/// # Errors
/// [`Error::Internal`] for a value with a NUL in it. Postgres raises an error for a value that the setting refuses, and
/// if the role may not set it.
pub fn set(name: &CStr, value: &str) -> Result<(), Error> {
    let value = c_string(value)?;
    // SAFETY: two texts that end in NUL, which Postgres copies. It raises an error if the role may not set that, here
    // under pgrx's guard.
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

/// `text` as a value of a setting.
///
/// # Errors
/// [`Error::Internal`] for a text with a NUL in it.
pub fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Internal("a setting cannot hold that".into()))
}

/// Sets `name` as [`set`] does, if it is set to something else and not empty.
///
/// # Errors
/// Those of [`set`].
pub fn replace(name: &CStr, value: &str) -> Result<(), Error> {
    match setting(name) {
        Some(old) if old != value => set(name, value),
        _ => Ok(()),
    }
}

/// The record of a setting, if it exists.
#[cfg(not(feature = "pg15"))]
pub fn find_setting(name: &CStr) -> Option<*mut pg_sys::config_generic> {
    // SAFETY: a text that ends in NUL. With `skip_errors`, Postgres returns null for a missing setting.
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

/// The records of settings, each with its name, from the first that is not before `start`, which is in lower case.
/// Postgres 15 keeps them in an array that is sorted by name, ignoring case, and exports no search in it.
#[cfg(feature = "pg15")]
pub fn settings_from(
    start: &[u8],
) -> impl Iterator<Item = (*mut pg_sys::config_generic, &'static [u8])> {
    // SAFETY: the array has as many records as Postgres says, and each has a name that ends in NUL. Records and names
    // stay as long as no setting is defined.
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
