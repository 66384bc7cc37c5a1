//! Settings of Postgres and of any extension: reading one, and setting it for the rest of the transaction.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_guard, pg_sys};
use supabase_pat_core::error::Error;

use crate::pg::{Local, created, unguarded};

/// Whether there is such a setting, and it is not empty: without allocating.
pub fn is_set(name: &CStr) -> bool {
    // SAFETY: as in `setting`.
    unsafe {
        let text = text_of(name);
        !text.is_null() && *text != 0
    }
}

/// The value of a setting. `None` if there is no such setting, or it is empty.
pub fn setting(name: &CStr) -> Option<String> {
    // SAFETY: the text ends in NUL and is copied at once.
    let text = unsafe {
        let text = text_of(name);
        if text.is_null() || *text == 0 {
            return None;
        }
        let bytes = CStr::from_ptr(text).to_bytes();
        match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => String::from_utf8_lossy(bytes).into_owned(),
        }
    };
    Some(text)
}

/// Whether a setting is set to that value, without a copy of it. What is empty is as if it were not set.
pub fn is_set_to(name: &CStr, value: Option<&str>) -> bool {
    // SAFETY: as in `setting`.
    unsafe {
        let text = text_of(name);
        match text.is_null() || *text == 0 {
            true => value.is_none(),
            false => value.is_some_and(|value| {
                let bytes = CStr::from_ptr(text).to_bytes();
                // In a database in another encoding, `setting` may have replaced some of them.
                value.as_bytes() == bytes || value == String::from_utf8_lossy(bytes)
            }),
        }
    }
}

/// The value of a setting, in Postgres's memory. Null if there is no such setting; one that has no value is null or
/// empty.
///
/// `GetConfigOption` searches among all settings each time, which takes 0.1 µs on Postgres 15.
fn text_of(name: &CStr) -> *const c_char {
    let Some(record) = find_setting(name) else {
        return std::ptr::null();
    };
    // SAFETY: the record is Postgres's. `vartype` says of which larger struct it is the beginning, and a setting of
    // type string always has a variable. For others Postgres makes a text, which stays until it is called again.
    unsafe {
        match (*record).vartype {
            pg_sys::config_type::PGC_STRING => *(*record.cast::<pg_sys::config_string>()).variable,
            _ => pg_sys::GetConfigOption(name.as_ptr(), true, false),
        }
    }
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
    // SAFETY: a text that ends in NUL. With `skip_errors`, Postgres returns null for a missing setting, and raises no
    // error.
    let record = unsafe { unguarded::find_option(name.as_ptr(), false, true, 0) };
    (!record.is_null()).then_some(record)
}

/// The record of a setting, if it exists.
#[cfg(feature = "pg15")]
pub fn find_setting(name: &CStr) -> Option<*mut pg_sys::config_generic> {
    let name = name.to_bytes();
    // SAFETY: as in `settings_from`.
    let guessed = unsafe {
        let guess = usize::from(GUESSES.get()[place_of(name)]);
        let is_there = guess < unguarded::GetNumConfigOptions() as usize;
        is_there.then(|| *unguarded::get_guc_variables().add(guess))
    };
    if let Some(record) = guessed
        // SAFETY: as in `settings_from`.
        && unsafe { CStr::from_ptr((*record).name) }.to_bytes() == name
    {
        return Some(record);
    }
    let (record, found) = settings_from(name).next()?;
    found.eq_ignore_ascii_case(name).then_some(record)
}

/// Where settings were found in Postgres's array, each in the place that its name's address gives it. It saves most of
/// the comparisons of a binary search, and is a guess, which is compared with what is there: the array grows.
#[cfg(feature = "pg15")]
static GUESSES: Local<[u16; 64]> = Local::new([0; 64]);

#[cfg(feature = "pg15")]
fn place_of(name: &[u8]) -> usize {
    (name.as_ptr() as usize / 8) % 64
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
    // As `guc_name_compare` does: by C's `char`, which has a sign on some machines. There a name with letters beyond ASCII,
    // which any role may give to a setting, stands before all others.
    let order = |byte: u8| byte.to_ascii_lowercase() as c_char;
    let is_before = |record: *mut pg_sys::config_generic| {
        let folded = name(record).iter().map(|&byte| order(byte));
        folded.lt(start.iter().map(|&byte| order(byte)))
    };
    let place = place_of(start);
    // SAFETY: the reference is gone at the end of the line.
    let guess = usize::from(unsafe { GUESSES.get() }[place]);
    let holds = (1..settings.len()).contains(&guess)
        && !is_before(settings[guess])
        && is_before(settings[guess - 1]);
    let first = match holds {
        true => guess,
        false => {
            let first = settings.partition_point(|&record| is_before(record));
            // SAFETY: as above.
            unsafe { GUESSES.get()[place] = first.try_into().unwrap_or(0) };
            first
        }
    };
    settings[first..]
        .iter()
        .map(move |&record| (record, name(record)))
}

/// Whether each change of a setting is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// There is no such setting.
    Missing,
    Watched,
    /// It is a library's, or no string.
    Unwatched,
}

static CHANGES: Local<u64> = Local::new(0);

/// Called once, from _PG_init.
pub fn install() {
    created::find_table();
}

/// A moment between two changes of settings. As long as it is now, what was read of settings that are watched, or were
/// missing, is what they hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// How many times a setting that is watched has been given a value, also by the end of a transaction, of a
    /// savepoint or of a function's own settings, or has come to be watched. Unlike an address, which a later value may have again, a count never
    /// comes back.
    pub changes: u64,
    /// Tells whether one that was missing may have been created: see [`created`].
    created: u64,
}

impl Moment {
    pub const NEVER: Self = Self {
        changes: u64::MAX,
        created: created::UNKNOWN,
    };

    #[inline(always)]
    pub fn now() -> Self {
        Self {
            // SAFETY: the reference is gone at the end of the line.
            changes: unsafe { *CHANGES.get() },
            created: created::seen(),
        }
    }

    /// Whether no setting has been created between two moments.
    #[inline(always)]
    pub fn has_settings_of(self, other: Self) -> bool {
        self.created == other.created && self.created != created::UNKNOWN
    }

    #[inline(always)]
    pub fn is_now(self) -> bool {
        self == Self::now() && self.created != created::UNKNOWN
    }
}

/// Has the changes of a setting counted from now on, for which an address is not enough: a value that is freed leaves
/// its own to the next one but one.
///
/// Postgres tells a library of each change of the library's own settings. Those that servers make up are records of the
/// same kind, in which the place for whom to tell is empty.
pub fn watch(name: &CStr) -> Watch {
    find_setting(name).map_or(Watch::Missing, watch_record)
}

/// As [`watch`], for a setting that has been found.
pub fn watch_record(record: *mut pg_sys::config_generic) -> Watch {
    let hook: unsafe extern "C-unwind" fn(*const c_char, *mut c_void) = count_change;
    // SAFETY: the record is Postgres's. `vartype` says which struct begins with it.
    unsafe {
        let is_made_up = (*record).flags as u32 & pg_sys::GUC_CUSTOM_PLACEHOLDER != 0;
        if !is_made_up || (*record).vartype != pg_sys::config_type::PGC_STRING {
            return Watch::Unwatched;
        }
        let assign_hook = &mut (*record.cast::<pg_sys::config_string>()).assign_hook;
        match assign_hook {
            None => {
                *assign_hook = Some(hook);
                *CHANGES.get() += 1;
            }
            Some(other) if *other as usize == hook as usize => (),
            Some(_) => return Watch::Unwatched,
        }
    }
    Watch::Watched
}

unsafe extern "C-unwind" fn count_change(_value: *const c_char, _extra: *mut c_void) {
    // SAFETY: as above.
    unsafe { *CHANGES.get() += 1 };
}

/// Something that is known for the rest of the transaction, or of the savepoint that it was found out in, and that
/// parallel workers must know too: a setting does all of this by itself, as SET LOCAL leaves it, and a variable none.
///
/// Postgres would let superusers set it, in a session, a database or a configuration file; the check hook refuses each
/// of these. `RESET ALL`, which anybody may do, leaves it alone.
pub struct OwnSetting {
    name: &'static CStr,
    value: GucSetting<Option<CString>>,
}

static IS_OURS: Local<bool> = Local::new(false);

impl OwnSetting {
    pub const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            value: GucSetting::<Option<CString>>::new(None),
        }
    }

    pub fn define(&'static self, description: &'static CStr) {
        // SAFETY: the hook raises no error and cannot panic.
        unsafe {
            GucRegistry::define_string_guc_with_hooks(
                self.name,
                description,
                c"",
                &self.value,
                // A setting of the context `internal` would not reach parallel workers.
                GucContext::Suset,
                GucFlags::SUPERUSER_ONLY
                    | GucFlags::NO_SHOW_ALL
                    | GucFlags::NO_RESET_ALL
                    | GucFlags::DISALLOW_IN_FILE,
                Some(refuse_others),
                None,
                None,
            );
        }
    }

    #[inline(always)]
    pub fn address(&self) -> *mut c_char {
        // SAFETY: Postgres keeps null or a C string there.
        unsafe { *self.value.as_ptr() }
    }

    /// Whether it has a value: without allocating, for each statement.
    #[inline(always)]
    pub fn is_anything(&self) -> bool {
        let value = self.address();
        // SAFETY: as above.
        !value.is_null() && unsafe { *value } != 0
    }

    /// Whether its value has more than so many bytes: without allocating.
    #[inline(always)]
    pub fn is_longer_than(&self, bytes: usize) -> bool {
        // SAFETY: a value that is there is a C string.
        self.is_anything() && unsafe { CStr::from_ptr(self.address()) }.count_bytes() > bytes
    }

    pub fn text(&self) -> Option<String> {
        match self.is_anything() {
            true => self
                .value
                .get()
                .map(|text| text.to_string_lossy().into_owned()),
            false => None,
        }
    }

    /// Gives it a value, for the rest of the transaction or savepoint.
    pub fn set(&self, value: &str) -> Result<(), Error> {
        /// Also if an error gets past it.
        struct Ours;
        impl Drop for Ours {
            fn drop(&mut self) {
                // SAFETY: nothing is called that could come back here.
                unsafe { *IS_OURS.get() = false };
            }
        }
        let value = c_string(value)?;
        // SAFETY: as above; then two C strings for a setting that is defined.
        unsafe {
            *IS_OURS.get() = true;
            let _ours = Ours;
            pg_sys::set_config_option(
                self.name.as_ptr(),
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
}

/// Lets through what the extension sets, what a parallel worker takes over from its leader, and nothing.
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
        pg_sys::GUC_check_errmsg_string = c"only the gate may set this setting".as_ptr().cast_mut();
    }
    false
}
