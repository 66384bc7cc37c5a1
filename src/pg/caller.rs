//! Who calls, and acting as the extension's owner where the caller may not.

use std::ffi::CString;

use pgrx::pg_sys;
use supabase_pat_core::error::Error;

use super::Local;
use super::relations::{self, Table};
use super::settings;

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

/// Whether only the extension's owner or a superuser could have made `table` what it is.
///
/// A view runs its functions as whoever reads it, so the owner's rights must not be lent to a view
/// that somebody else may have put there.
pub fn is_safe_for_owner(table: Table, owner: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system caches.
    table.owner == owner || unsafe { pg_sys::superuser_arg(table.owner) }
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
    // SAFETY: look-ups in the system caches.
    unsafe {
        let role = pg_sys::get_role_oid(name.as_ptr(), true);
        role != pg_sys::InvalidOid
            && trusted_roles().any(|trusted| pg_sys::is_member_of_role(role, trusted))
    }
}

/// Those that there are.
fn trusted_roles() -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: a look-up in the system caches.
    let service_role = unsafe { pg_sys::get_role_oid(settings::service_role().as_ptr(), true) };
    let owner = relations::keys().map(|keys| keys.table.owner);
    [Some(service_role), owner]
        .into_iter()
        .flatten()
        .filter(|&role| role != pg_sys::InvalidOid)
}

/// Runs `f`, a statement of ours, with the rights of the extension's owner and without the
/// caller's search path.
pub fn as_owner<R>(owner: pg_sys::Oid, f: impl FnOnce() -> R) -> R {
    let _raised = Raised::to(owner);
    f()
}

static DISTRUSTS_TRIGGERS: Local<bool> = Local::new(false);

/// For a process that is a superuser by itself: from now on no trigger of a table can put off what it does to
/// the end of the transaction, when the rights of the table's owner no longer bound it.
pub fn distrust_triggers() {
    // SAFETY: nothing else is called.
    unsafe { *DISTRUSTS_TRIGGERS.get() = true };
}

/// Raised rights, until it is dropped. If an error gets past it, the end of the (sub)transaction
/// restores the same state.
struct Raised {
    role: pg_sys::Oid,
    context: i32,
    settings_level: i32,
}

impl Raised {
    fn to(owner: pg_sys::Oid) -> Self {
        let mut raised = Self {
            role: pg_sys::InvalidOid,
            context: 0,
            settings_level: 0,
        };
        // SAFETY: the state is put back in `drop`.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut raised.role, &mut raised.context);
            let mut context = raised.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
            if *DISTRUSTS_TRIGGERS.get() {
                context |= pg_sys::SECURITY_RESTRICTED_OPERATION as i32;
            }
            pg_sys::SetUserIdAndSecContext(owner, context);
            raised.settings_level = pg_sys::NewGUCNestLevel();
            pg_sys::set_config_option(
                c"search_path".as_ptr(),
                c"pg_catalog, pg_temp".as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        raised
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        // SAFETY: it restores what `to` saved.
        unsafe {
            pg_sys::AtEOXact_GUC(false, self.settings_level);
            pg_sys::SetUserIdAndSecContext(self.role, self.context);
        }
    }
}
