//! Making a request somebody's: the role in force, and the claims, under all the names that servers and
//! policies know them by. All of it ends with the transaction.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use supabase_pat_core::error::Error;
use supabase_pat_core::json::Members;

/// Servers set these too, or did: one setting a claim.
const PREFIXES: [&str; 2] = ["request.jwt.claim.", "request.jwt.claims."];

/// What `auth.uid()`, `auth.role()` and `auth.email()` read before anything else.
const LEGACY: [&str; 3] = ["sub", "role", "email"];

/// Puts `role` and `claims` in the place of those that the server has set. The role is set as by SET ROLE:
/// the role that the server logged in as must be a member of it.
pub fn assume(role: &str, claims: &str) -> Result<(), Error> {
    let before = setting(c"request.jwt.claims").unwrap_or_default();
    let new = Members::parse(claims)
        .ok_or_else(|| Error::Internal("claims are no JSON object".into()))?;
    let old = Members::parse_lenient(&before).ok();
    let old_names = old.iter().flat_map(Members::iter).map(|(name, _)| name);
    let new_names = new.iter().map(|(name, _)| name);

    let names: BTreeSet<&str> = old_names.chain(new_names).collect();

    set(c"request.jwt.claims", claims)?;
    replace(c"request.jwt.claim", "")?;
    for prefix in PREFIXES {
        // Whoever sets one claim by itself sets these: else there is nothing to look for.
        let is_set = |name| {
            CString::new(format!("{prefix}{name}")).is_ok_and(|name| setting(&name).is_some())
        };
        if !is_set("role") && !is_set("sub") {
            continue;
        }
        for name in &names {
            let Ok(setting) = CString::new(format!("{prefix}{name}")) else {
                continue; // there is no such setting
            };
            match new.text(name) {
                Ok(text) => replace(&setting, &text.unwrap_or_default())?,
                Err(_) => replace(&setting, new.get(name).map_or("", |value| value.get()))?,
            }
        }
    }
    for name in LEGACY {
        let value = new.text(name).ok().flatten().unwrap_or_default();
        let setting = format!("{}{name}", PREFIXES[0]);
        set(&c_string(&setting)?, &value)?;
    }
    set(c"role", role)
}

/// Makes the rest of the transaction read-only.
pub fn forbid_writing() -> Result<(), Error> {
    set(c"transaction_read_only", "on")
}

/// Gives a setting another value, if it has one.
fn replace(name: &CStr, value: &str) -> Result<(), Error> {
    match setting(name) {
        Some(old) if old != value => set(name, value),
        _ => Ok(()),
    }
}

/// A claim as servers set it that set one setting a claim.
pub fn legacy_claim(name: &str) -> Option<String> {
    let name = CString::new(format!("{}{name}", PREFIXES[0])).ok()?;
    setting(&name)
}

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

fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Internal("a setting cannot hold that".into()))
}
