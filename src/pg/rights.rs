//! What the role in force may do, and what other roles may.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use supabase_pat_core::error::Error;

use crate::pg::Local;
use crate::pg::relations::{self, Table};
use crate::pg::settings;

/// Whether the role in force is a superuser, or has the privileges of the service role or of the
/// extension's owner.
///
/// None of the extension's functions is SECURITY DEFINER, so the role in force is the caller's.
pub fn is_trusted() -> bool {
    // SAFETY: a number of this backend, and look-ups in the system caches.
    unsafe {
        let role = pg_sys::GetUserId();
        pg_sys::superuser_arg(role)
            || trusted_roles().any(|trusted| pg_sys::has_privs_of_role(role, trusted))
    }
}

/// Whether there is a role of that name.
pub fn is_role(name: &str) -> bool {
    role(name).is_some()
}

/// The role of that name.
pub fn role(name: &str) -> Option<pg_sys::Oid> {
    let name = CString::new(name).ok()?;
    // No name is longer than 63 bytes.
    if name.count_bytes() >= pg_sys::NAMEDATALEN as usize {
        return None;
    }
    // SAFETY: a look-up in the system caches.
    let role = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (role != pg_sys::InvalidOid).then_some(role)
}

/// Whether the role in force has that name.
pub fn current_role_is(name: &str) -> bool {
    let Ok(name) = CString::new(name) else {
        return false;
    };
    // SAFETY: a look-up by a text that ends in NUL; a role that is missing is no object.
    unsafe { pg_sys::get_role_oid(name.as_ptr(), true) == pg_sys::GetUserId() }
}

/// Whether the role that SET ROLE has set, or else that of the login, has that name, whatever function is being executed.
pub fn outer_role_is(name: &str) -> bool {
    let Ok(name) = CString::new(name) else {
        return false;
    };
    // SAFETY: look-ups in the system caches.
    unsafe { pg_sys::get_role_oid(name.as_ptr(), true) == pg_sys::GetOuterUserId() }
}

/// Whether the role in force has the privileges of the role `name`. False if there is no such role.
pub fn has_privileges_of(name: &CStr) -> bool {
    // SAFETY: look-ups in the system caches; a role that is missing is no object.
    unsafe {
        let role = pg_sys::get_role_oid(name.as_ptr(), true);
        role != pg_sys::InvalidOid && pg_sys::has_privs_of_role(pg_sys::GetUserId(), role)
    }
}

/// Lets only trusted roles go on. EXECUTE is granted to them alone, but somebody may have granted it to others by hand.
/// `action` is for the message, "only a trusted role may …".
///
/// # Errors
/// [`Error::NotTrusted`].
pub fn require_trusted(action: &'static str) -> Result<(), Error> {
    match is_trusted() {
        true => Ok(()),
        false => Err(Error::NotTrusted(action)),
    }
}

/// As [`require_trusted`], but also allows the role that sends mails, which is trusted with nothing else.
///
/// # Errors
/// [`Error::NotTrusted`].
pub fn require_mail_worker(action: &'static str) -> Result<(), Error> {
    match settings::mail_worker_role().is_some_and(|name| has_privileges_of(&name)) {
        true => Ok(()),
        false => require_trusted(action),
    }
}

/// As [`require_trusted`], but members of Postgres's `pg_monitor` go on too.
///
/// # Errors
/// [`Error::NotTrusted`].
pub fn require_trusted_or_monitor(action: &'static str) -> Result<(), Error> {
    match has_privileges_of(c"pg_monitor") {
        true => Ok(()),
        false => require_trusted(action),
    }
}

/// Goes on only where something can be written. `action` is for the message, "… is not
/// possible in a read-only transaction".
///
/// # Errors
/// [`Error::ReadOnly`] in a read-only transaction and on a standby.
pub fn require_writable(action: &'static str) -> Result<(), Error> {
    // SAFETY: both only read what this backend knows.
    match unsafe { pg_sys::XactReadOnly || pg_sys::RecoveryInProgress() } {
        true => Err(Error::ReadOnly(action)),
        false => Ok(()),
    }
}

/// Whether `found` is `owner`, the extension's owner, or a superuser. Only what belongs to such a role may run with the
/// owner's rights.
pub fn is_owner_or_superuser(found: pg_sys::Oid, owner: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system caches; a role that is missing is no superuser.
    found == owner || unsafe { pg_sys::superuser_arg(found) }
}

/// Whether `role` may read `table`.
pub fn may_select(table: Table, role: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system caches, which raises an error for a table that is gone, under pgrx's guard.
    unsafe {
        let select = pg_sys::AclMode::from(pg_sys::ACL_SELECT);
        pg_sys::pg_class_aclcheck(table.oid, role, select) == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Whether the role in force may call `function`.
pub fn may_execute(function: pg_sys::Oid) -> bool {
    may_execute_as(function, in_force())
}

/// The role in force.
pub fn in_force() -> pg_sys::Oid {
    // SAFETY: a number of this backend.
    unsafe { pg_sys::GetUserId() }
}

/// Whether `role` may call `function`.
pub fn may_execute_as(function: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system caches, which raises an error for a function that is gone, under pgrx's guard.
    unsafe {
        let execute = pg_sys::AclMode::from(pg_sys::ACL_EXECUTE);
        #[cfg(feature = "pg15")]
        let result = pg_sys::pg_proc_aclcheck(function, role, execute);
        #[cfg(not(feature = "pg15"))]
        let result = pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, function, role, execute);
        result == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Whether `owner` is a role that requests have, anonymous ones or others, or that these have the privileges of.
pub fn is_of_requests(owner: pg_sys::Oid) -> bool {
    let roles = [settings::authenticated_role(), settings::anon_role()];
    let mut roles = roles.iter().filter_map(|name| role(name));
    // SAFETY: look-ups in the system caches; a role that is missing is no member.
    roles.any(|role| unsafe { pg_sys::is_member_of_role(role, owner) })
}

/// Whether a function runs with the rights of its owner. `None` if there is no such function.
pub fn is_security_definer(function: pg_sys::Oid) -> Option<bool> {
    // SAFETY: a look-up in the system caches, whose row is a pg_proc one and is let go at the end.
    unsafe {
        let row =
            pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PROCOID as i32, function.into());
        if row.is_null() {
            return None;
        }
        let is_definer = (*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_proc>()).prosecdef;
        pg_sys::ReleaseSysCache(row);
        Some(is_definer)
    }
}

/// Whether the role `name` is trusted, or can become a trusted role by SET ROLE, as the REST server's login can. True
/// for `none`, since `SET ROLE none` returns to that login. False if there is no such role.
pub fn named_role_can_become_trusted(name: &str) -> bool {
    if name == "none" {
        return true;
    }
    let Ok(name) = CString::new(name) else {
        return false;
    };
    // SAFETY: a look-up by a text that ends in NUL; a role that is missing is no object.
    let role = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    role != pg_sys::InvalidOid && can_become_trusted(role)
}

/// Whether a role is trusted, or can become a trusted role by SET ROLE.
pub fn can_become_trusted(role: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the system caches; a role that is missing is no superuser and no member.
    unsafe {
        pg_sys::superuser_arg(role)
            || trusted_roles().any(|trusted| pg_sys::is_member_of_role(role, trusted))
    }
}

/// The service role and the extension's owner, as far as they exist.
fn trusted_roles() -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: a look-up by a text that ends in NUL; a role that is missing is no object.
    let service_role = unsafe { pg_sys::get_role_oid(settings::service_role().as_ptr(), true) };
    let owner = relations::extension_owner();
    [Some(service_role), owner]
        .into_iter()
        .flatten()
        .filter(|&role| role != pg_sys::InvalidOid)
}

static DISTRUSTS_TRIGGERS: Local<bool> = Local::new(false);

/// For a process that is a superuser by itself: from now on no trigger can put anything off until the end of the
/// transaction, when the rights of the table's owner no longer limit it.
pub fn distrust_triggers() {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { *DISTRUSTS_TRIGGERS.get() = true };
}

/// Whether [`distrust_triggers`] was called.
pub fn distrusts_triggers() -> bool {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { *DISTRUSTS_TRIGGERS.get() }
}
