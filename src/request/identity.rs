//! Giving a request an identity: it sets the role in force and the claims, in all the settings in which servers and
//! policies read them. All of it ends with the transaction.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};

use supabase_pat_core::error::Error;
use supabase_pat_core::json::Members;

use crate::pg::guc::{self, c_string, replace, set, setting};
use crate::pg::rights;

/// Some servers, and older versions of others, set one setting for each claim as well, with these prefixes. They do so
/// where one of the two settings is there that follow.
const PREFIXES: [(&str, [&CStr; 2]); 2] = [
    (
        "request.jwt.claim.",
        [c"request.jwt.claim.role", c"request.jwt.claim.sub"],
    ),
    (
        "request.jwt.claims.",
        [c"request.jwt.claims.role", c"request.jwt.claims.sub"],
    ),
];

/// The claims that `auth.uid()`, `auth.role()` and `auth.email()` first look for in such settings.
const LEGACY: [&str; 3] = ["sub", "role", "email"];

/// Replaces the role and the claims that the server has set by `role` and `claims`, a JSON object. The role is set as
/// by SET ROLE: the role that the server logged in as must be a member of it. One that is in force is left: in a
/// SECURITY DEFINER function and in maintenance commands none can be set.
///
/// # Errors
/// [`Error::Internal`] for claims that hold a NUL, or, where they are split, are not a JSON object. Postgres raises an
/// error for a role that cannot be set.
pub fn assume(role: &str, claims: &str) -> Result<(), Error> {
    let is_split = |(_, names): &(_, [&CStr; 2])| names.iter().any(|name| guc::is_set(name));
    // Without them there is nothing to replace, and no reason to read the claims: that takes 1 µs.
    let prefixes: Vec<&str> = (PREFIXES.iter().filter(|prefix| is_split(prefix)))
        .map(|(prefix, _)| *prefix)
        .collect();
    let before = match prefixes.is_empty() {
        true => None,
        false => setting(c"request.jwt.claims"),
    };
    set(c"request.jwt.claims", claims)?;
    replace(c"request.jwt.claim", "")?;
    if !prefixes.is_empty() {
        replace_split(&prefixes, &before.unwrap_or_default(), claims)?;
    }
    match rights::outer_role_is(role) {
        true => Ok(()),
        false => set(c"role", role),
    }
}

/// Replaces the settings for each claim that begin with these prefixes: those of the claims before, and the new ones.
fn replace_split(prefixes: &[&str], before: &str, claims: &str) -> Result<(), Error> {
    let new = Members::parse(claims)
        .ok_or_else(|| Error::Internal("claims are no JSON object".into()))?;
    let old = Members::parse_lenient(before).ok();
    let old_names = old.iter().flat_map(Members::iter).map(|(name, _)| name);
    let new_names = new.iter().map(|(name, _)| name);
    let names: BTreeSet<&str> = old_names.chain(new_names).collect();
    for prefix in prefixes {
        if *prefix == PREFIXES[0].0 {
            // Also those that it has not set, since the request had no such claim.
            for name in LEGACY {
                let value = new.text(name).ok().flatten().unwrap_or_default();
                set(&c_string(&format!("{prefix}{name}"))?, &value)?;
            }
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
    Ok(())
}

/// Makes the rest of the transaction read-only.
///
/// # Errors
/// Those of [`set`].
pub fn forbid_writing() -> Result<(), Error> {
    set(c"transaction_read_only", "on")
}

/// A claim by the setting of its own that a server has set for it. `None` if there is no such setting, or it is empty.
pub fn legacy_claim(name: &str) -> Option<String> {
    let name = CString::new(format!("{}{name}", PREFIXES[0].0)).ok()?;
    setting(&name)
}
