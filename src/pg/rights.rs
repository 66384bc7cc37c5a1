//! The role in force, and what it may.
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
/// No function of ours is SECURITY DEFINER, so this is the role that the caller has.
pub fn is_trusted() -> bool {
    // SAFETY: look-ups in the system caches.
    unsafe {
        let role = pg_sys::GetUserId();
        pg_sys::superuser_arg(role)
            || trusted_roles().any(|trusted| pg_sys::has_privs_of_role(role, trusted))
    }
}

/// Whether the role in force is the one of that name.
pub fn role_is(name: &str) -> bool {
    let Ok(name) = CString::new(name) else {
        return false;
    };
    // SAFETY: a look-up in the system caches.
    unsafe { pg_sys::get_role_oid(name.as_ptr(), true) == pg_sys::GetUserId() }
}

/// Whether the role in force has the privileges of the one of that name, and there is such a one.
pub fn has_those_of(name: &CStr) -> bool {
    // SAFETY: look-ups in the system caches.
    unsafe {
        let role = pg_sys::get_role_oid(name.as_ptr(), true);
        role != pg_sys::InvalidOid && pg_sys::has_privs_of_role(pg_sys::GetUserId(), role)
    }
}

/// # Errors
/// [`Error::NotTrusted`], for roles that were granted EXECUTE by hand.
pub fn require_trusted(action: &'static str) -> Result<(), Error> {
    match is_trusted() {
        true => Ok(()),
        false => Err(Error::NotTrusted(action)),
    }
}

/// # Errors
/// [`Error::ReadOnly`] where nothing can be written: in a read-only transaction, and on a standby.
pub fn require_writable(action: &'static str) -> Result<(), Error> {
    // SAFETY: both only read.
    match unsafe { pg_sys::XactReadOnly || pg_sys::RecoveryInProgress() } {
        true => Err(Error::ReadOnly(action)),
        false => Ok(()),
    }
}

/// Whether what belongs to `found` is the extension owner's too, or a superuser's.
///
/// A view runs its functions as whoever reads it, so the owner's rights must not be lent to what somebody else may
/// have made.
pub fn is_safe_for_owner(found: pg_sys::Oid, owner: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system caches.
    found == owner || unsafe { pg_sys::superuser_arg(found) }
}

/// Whether `role` may read `table`.
pub fn may_select(table: Table, role: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system caches.
    unsafe {
        let select = pg_sys::AclMode::from(pg_sys::ACL_SELECT);
        pg_sys::pg_class_aclcheck(table.oid, role, select) == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Whether the role in force may call `function`.
pub fn may_execute(function: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the system caches.
    unsafe {
        let (role, execute) = (
            pg_sys::GetUserId(),
            pg_sys::AclMode::from(pg_sys::ACL_EXECUTE),
        );
        #[cfg(feature = "pg15")]
        let result = pg_sys::pg_proc_aclcheck(function, role, execute);
        #[cfg(not(feature = "pg15"))]
        let result = pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, function, role, execute);
        result == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Whether the role of that name is trusted, or could become a role that is by SET ROLE, as the REST
/// server's login can. True for `none`, by which SET ROLE means that login. False if there is no such role.
pub fn may_become_trusted(name: &str) -> bool {
    if name == "none" {
        return true;
    }
    let Ok(name) = CString::new(name) else {
        return false;
    };
    // SAFETY: a look-up in the system caches.
    let role = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    role != pg_sys::InvalidOid && can_rise(role)
}

/// Whether a role is trusted, or could become a role that is by SET ROLE.
pub fn can_rise(role: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the system caches.
    unsafe {
        pg_sys::superuser_arg(role)
            || trusted_roles().any(|trusted| pg_sys::is_member_of_role(role, trusted))
    }
}

/// Those that there are.
fn trusted_roles() -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: a look-up in the system caches.
    let service_role = unsafe { pg_sys::get_role_oid(settings::service_role().as_ptr(), true) };
    let owner = relations::extension_owner();
    [Some(service_role), owner]
        .into_iter()
        .flatten()
        .filter(|&role| role != pg_sys::InvalidOid)
}

static DISTRUSTS_TRIGGERS: Local<bool> = Local::new(false);

/// For a process that is a superuser by itself: from now on no trigger of a table can put off what it does to
/// the end of the transaction, when the rights of the table's owner no longer bound it.
pub fn distrust_triggers() {
    // SAFETY: nothing else is called.
    unsafe { *DISTRUSTS_TRIGGERS.get() = true };
}

pub fn distrusts_triggers() -> bool {
    // SAFETY: as above.
    unsafe { *DISTRUSTS_TRIGGERS.get() }
}
