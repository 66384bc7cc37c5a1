//! Giving a request an identity: it sets the role in force and the claims, in all the settings in which servers and
//! policies read them. All of it ends with the transaction.

use std::collections::BTreeSet;
use std::ffi::CString;

use supabase_pat_core::error::Error;
use supabase_pat_core::json::Members;

use crate::pg::guc::{c_string, replace, set, setting};
use crate::pg::rights;

/// Some servers, and older versions of others, set one setting for each claim as well, with these prefixes.
const PREFIXES: [&str; 2] = ["request.jwt.claim.", "request.jwt.claims."];

/// The claims that `auth.uid()`, `auth.role()` and `auth.email()` first look for in such settings.
const LEGACY: [&str; 3] = ["sub", "role", "email"];

/// Replaces the role and the claims that the server has set by `role` and `claims`, a JSON object. The role is set as
/// by SET ROLE: the role that the server logged in as must be a member of it. One that is in force is left: in a
/// SECURITY DEFINER function and in maintenance commands none can be set.
///
/// # Errors
/// [`Error::Internal`] for claims that are not a JSON object or hold a NUL. Postgres raises an error for a role that
/// cannot be set.
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
        // A server that sets one setting for each claim sets these. Without them there is nothing to replace.
        let is_set = |name| {
            CString::new(format!("{prefix}{name}")).is_ok_and(|name| setting(&name).is_some())
        };
        if !is_set("role") && !is_set("sub") {
            continue;
        }
        if prefix == PREFIXES[0] {
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
    match rights::outer_role_is(role) {
        true => Ok(()),
        false => set(c"role", role),
    }
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
    let name = CString::new(format!("{}{name}", PREFIXES[0])).ok()?;
    setting(&name)
}
