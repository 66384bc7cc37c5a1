//! Which token the gate has let through in this transaction. A token for certain addresses or with a limit is valid
//! only in such a transaction.
//!
//! # Where it is kept
//! It is kept in a setting, as SET LOCAL sets it. So it ends with the transaction, or with the savepoint that it was
//! set in, is never there for the next client of a pooled connection, and reaches parallel workers with all other
//! settings. A variable of this library would do none of this by itself.
//!
//! # Who can set it
//! Only the gate can set it. Postgres would let superusers set it, in a session, a database or a configuration file;
//! the check hook refuses each of these. `RESET ALL` empties it, after which the token is not valid.
//!
//! # What it says
//! It holds the id of the token that was let through. It does not hold the claims: the next pre-request function may
//! add to them, and a restriction belongs to the token. If the token lacks the scope that is needed to return what the
//! request writes, this scope follows the id: see [`crate::gate::returned`].
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

/// Defines the setting. To be called once, from `_PG_init`.
pub fn define() {
    // SAFETY: the hook raises no error and cannot panic: it compares, and writes one pointer.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            NAME,
            c"The token that pat.gate has let through in this transaction. Nobody else can set it.",
            c"",
            &JUDGED,
            // Postgres does not pass settings of the context `internal` to parallel workers.
            GucContext::Suset,
            GucFlags::SUPERUSER_ONLY | GucFlags::NO_SHOW_ALL | GucFlags::DISALLOW_IN_FILE,
            Some(refuse_others),
            None,
            None,
        );
    }
}

/// Notes that the gate lets a token through, by its id. `to_be_shown` is a scope that the token lacks, and without
/// which none of the rows that the request writes may be returned.
///
/// # Errors
/// [`Error::Internal`] for a scope with a NUL in it.
pub fn admit(token: Uuid, to_be_shown: Option<&Scope>) -> Result<(), Error> {
    set(&match to_be_shown {
        None => token.to_string(),
        Some(scope) => format!("{token} {scope}"),
    })
}

/// Notes that the gate lets no token through: the request has none, or its token is refused.
pub fn admit_no_token() -> Result<(), Error> {
    match text() {
        None => Ok(()),
        Some(_) => set(""),
    }
}

/// Whether the gate has let the token with this id through in this transaction.
pub fn has_admitted(token: Uuid) -> bool {
    text().is_some_and(|text| {
        text.get(..ID_LENGTH)
            .and_then(|id| Uuid::try_parse(id).ok())
            == Some(token)
    })
}

/// The scope that the token lacks, and without which none of the rows that the request writes may be returned. `None`
/// if it lacks none.
pub fn scope_to_be_shown() -> Option<String> {
    let text = text()?;
    Some(text.get(ID_LENGTH + 1..)?.to_owned())
}

/// Whether the gate has let any token through. It is asked for each statement, and allocates nothing.
#[inline(always)]
pub fn has_admitted_any() -> bool {
    // SAFETY: Postgres keeps null or a text that ends in NUL there, and nothing is called meanwhile.
    unsafe {
        let value: *mut c_char = *JUDGED.as_ptr();
        !value.is_null() && *value != 0
    }
}

fn text() -> Option<String> {
    match has_admitted_any() {
        true => JUDGED.get().map(|text| text.to_string_lossy().into_owned()),
        false => None,
    }
}

fn set(value: &str) -> Result<(), Error> {
    /// Sets the flag back when `set` returns, or is left by an error.
    struct Ours;
    impl Drop for Ours {
        fn drop(&mut self) {
            // SAFETY: the reference is gone at the end of the line.
            unsafe { *IS_OURS.get() = false };
        }
    }
    let value = CString::new(value)
        .map_err(|_| Error::Internal("the name of a scope has a NUL in it".into()))?;
    // SAFETY: the reference is gone at the end of its line. Then two texts that end in NUL, for a setting that exists.
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

/// The check hook: allows what the gate sets, what a parallel worker takes over from its leader, and the empty value.
#[pg_guard]
unsafe extern "C-unwind" fn refuse_others(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: Postgres passes a pointer to the new value, which is null or a text that ends in NUL. It only reads the
    // message, and clears the pointer before the next hook runs.
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
