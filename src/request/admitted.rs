//! What the gate has judged in this transaction, so that a token with addresses or a limit counts nowhere else.
//!
//! # Where it is kept
//! In a setting, as SET LOCAL leaves it: so it ends with the transaction or with the savepoint that it was made in,
//! is never there for the next client of a pooled connection, and reaches parallel workers with all other settings.
//! A variable of ours would do none of this by itself.
//!
//! # Who can set it
//! The gate alone. Postgres would let superusers set it, in a session, a database or a configuration file; the check
//! hook refuses each of these. `RESET ALL` empties it, after which the token does not count.
//!
//! # What it says
//! The id of the key that was let through. Not the claims: the next pre-request function may add to them, and a
//! restriction belongs to the key. After the id may follow the scope that it takes to be shown what the request
//! writes, if the token lacks it: see [`crate::gate::returned`].
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_guard, pg_sys};
use supabase_pat_core::error::Error;
use supabase_pat_core::scope::Scope;
use uuid::Uuid;

use crate::pg::Local;

const NAME: &CStr = c"supabase_pat.judged_key";
const ID_LENGTH: usize = 36;

static JUDGED: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static IS_OURS: Local<bool> = Local::new(false);

pub fn define() {
    // SAFETY: the hook raises no error and cannot panic.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            NAME,
            c"The token that the gate has let through in this transaction. Nobody can set it.",
            c"",
            &JUDGED,
            // A setting of the context `internal` would not reach parallel workers.
            GucContext::Suset,
            GucFlags::SUPERUSER_ONLY | GucFlags::NO_SHOW_ALL | GucFlags::DISALLOW_IN_FILE,
            Some(refuse_others),
            None,
            None,
        );
    }
}

/// Notes that the gate lets the token of a key through. `to_be_shown` is the scope without which nothing of the rows
/// that the request writes may be returned.
pub fn admitted(key: Uuid, to_be_shown: Option<&Scope>) -> Result<(), Error> {
    set(&match to_be_shown {
        None => key.to_string(),
        Some(scope) => format!("{key} {scope}"),
    })
}

/// Notes that the gate has judged a request that is no token's, or a refused one's.
pub fn no_token() -> Result<(), Error> {
    match text() {
        None => Ok(()),
        Some(_) => set(""),
    }
}

/// Whether the gate has let the token of this key through, in this transaction.
pub fn has_admitted(key: Uuid) -> bool {
    text().is_some_and(|text| {
        text.get(..ID_LENGTH)
            .and_then(|id| Uuid::try_parse(id).ok())
            == Some(key)
    })
}

/// The scope without which nothing of what the request writes may be returned, if its token lacks it.
pub fn scope_to_be_shown() -> Option<String> {
    let text = text()?;
    Some(text.get(ID_LENGTH + 1..)?.to_owned())
}

/// Whether [`scope_to_be_shown`] may say anything: without allocating, for each statement.
#[inline(always)]
pub fn is_anything() -> bool {
    // SAFETY: Postgres keeps null or a C string there.
    unsafe {
        let value: *mut c_char = *JUDGED.as_ptr();
        !value.is_null() && *value != 0
    }
}

fn text() -> Option<String> {
    match is_anything() {
        true => JUDGED.get().map(|text| text.to_string_lossy().into_owned()),
        false => None,
    }
}

fn set(value: &str) -> Result<(), Error> {
    /// Also if an error gets past it.
    struct Ours;
    impl Drop for Ours {
        fn drop(&mut self) {
            // SAFETY: nothing is called that could come back here.
            unsafe { *IS_OURS.get() = false };
        }
    }
    let value = CString::new(value)
        .map_err(|_| Error::Internal("the name of a scope has a NUL in it".into()))?;
    // SAFETY: as above; then two C strings for a setting that is defined.
    unsafe {
        *IS_OURS.get() = true;
        let _ours = Ours;
        pg_sys::set_config_option(
            NAME.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
    Ok(())
}

/// Lets through what the gate sets, what a parallel worker takes over from its leader, and nothing.
#[pg_guard]
unsafe extern "C-unwind" fn refuse_others(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: Postgres passes a place that holds the new value or null, and only reads the message, which it clears
    // before the next hook runs.
    unsafe {
        let is_empty = (*value).is_null() || **value == 0;
        if is_empty || *IS_OURS.get() || pg_sys::InitializingParallelWorker {
            return true;
        }
        pg_sys::GUC_check_errmsg_string = c"supabase_pat.judged_key is set by pat.gate() alone"
            .as_ptr()
            .cast_mut();
    }
    false
}
