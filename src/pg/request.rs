//! The claims of the present request, read from the settings that the REST server makes for it.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;
use supabase_pat_core::claims::{ClaimSettings, Credential, Identity};

use super::lookup;

/// A request's identity, as far as it has been found out.
pub struct Request {
    pub identity: Identity,
    /// The settings that the identity was read from.
    sources: [Source; SETTINGS.len()],
    is_valid: Option<bool>,
}

const SETTINGS: [&CStr; 5] = [
    c"request.jwt.claims",
    c"request.jwt.claim.sub",
    c"request.jwt.claim.type",
    c"request.jwt.claim.jti",
    c"request.jwt.claim.scope",
];

/// Where a setting is kept, and the address of the value that was read from there.
///
/// `GetConfigOption` would find it again each time, for 40 ns on Postgres 15, which is as much as
/// the rest of a row in a scan. Postgres allocates a new value before it frees the old one, so a
/// changed setting has another address.
#[derive(Clone, Copy)]
struct Source {
    variable: *mut *mut c_char,
    value: *mut c_char,
}

impl Request {
    pub fn read() -> Self {
        let sources = SETTINGS.map(Source::find);
        let [claims, sub, r#type, jti, scope] = sources.each_ref().map(Source::text);
        let settings = ClaimSettings {
            claims,
            sub,
            r#type,
            jti,
            scope,
        };
        Self {
            identity: Identity::from_settings(&settings),
            sources,
            is_valid: None,
        }
    }

    /// Whether the settings still hold what was read. Always no if `request.jwt.claims` did not
    /// exist, since it may have been created since. A legacy setting that did not exist is not
    /// looked for again until the next statement.
    #[inline(always)]
    pub fn is_current(&self) -> bool {
        !self.sources[0].variable.is_null() && self.sources.iter().all(Source::is_current)
    }

    /// The answer of `is_valid_api_token()`.
    pub fn is_valid(&mut self) -> bool {
        *self
            .is_valid
            .get_or_insert_with(|| match &self.identity.credential {
                Credential::Login => true,
                Credential::Malformed => false,
                Credential::Token(token) => {
                    lookup::key_is_live(token.key_id, token.user)
                        && matches!(
                            lookup::user_state(token.user),
                            Ok(lookup::UserState::Active)
                        )
                }
            })
    }

    #[inline(always)]
    pub fn known_validity(&self) -> Option<bool> {
        self.is_valid
    }
}

impl Source {
    fn find(name: &CStr) -> Self {
        let Some(variable) = find_string_setting(name) else {
            return Self {
                variable: std::ptr::null_mut(),
                value: std::ptr::null_mut(),
            };
        };
        Self {
            variable,
            // SAFETY: a setting of type string always has a variable.
            value: unsafe { *variable },
        }
    }

    fn text(&self) -> Option<&str> {
        if self.value.is_null() {
            return None;
        }
        // SAFETY: the value of a string setting is NUL-terminated, and stays while nothing sets it.
        let bytes = unsafe { CStr::from_ptr(self.value) }.to_bytes();
        // Settings are in the database's encoding. What is not UTF-8 becomes no JSON, so that the
        // request is malformed rather than without claims.
        (!bytes.is_empty()).then(|| std::str::from_utf8(bytes).unwrap_or("\u{fffd}"))
    }

    #[inline(always)]
    fn is_current(&self) -> bool {
        // SAFETY: the record of a setting is freed only when a library defines a setting of its
        // own under the same name, and then before, not during, a run of the executor.
        self.variable.is_null() || unsafe { *self.variable } == self.value
    }
}

/// The variable behind a setting of type string, if there is such a setting.
fn find_string_setting(name: &CStr) -> Option<*mut *mut c_char> {
    let record = find_setting(name)?;
    // SAFETY: `vartype` says which struct begins with the generic record.
    unsafe {
        ((*record).vartype == pg_sys::config_type::PGC_STRING)
            .then(|| (*record.cast::<pg_sys::config_string>()).variable)
    }
}

#[cfg(not(feature = "pg15"))]
fn find_setting(name: &CStr) -> Option<*mut pg_sys::config_generic> {
    // SAFETY: with `skip_errors`, a missing setting is a null pointer.
    let record = unsafe { pg_sys::find_option(name.as_ptr(), false, true, 0) };
    (!record.is_null()).then_some(record)
}

/// Postgres 15 keeps its settings in an array that is sorted by name, ignoring case, and does not
/// export its search.
#[cfg(feature = "pg15")]
fn find_setting(name: &CStr) -> Option<*mut pg_sys::config_generic> {
    // SAFETY: the array has as many records as Postgres says, and none of them is null.
    let settings = unsafe {
        std::slice::from_raw_parts(
            super::unguarded::get_guc_variables(),
            super::unguarded::GetNumConfigOptions() as usize,
        )
    };
    settings
        .binary_search_by(|record| {
            // SAFETY: every record has a name.
            let candidate = unsafe { CStr::from_ptr((**record).name) };
            let folded = candidate.to_bytes().iter().map(u8::to_ascii_lowercase);
            folded.cmp(name.to_bytes().iter().copied())
        })
        .ok()
        .map(|index| settings[index])
}
