//! LOCK TABLE on the extension's own tables is for trusted roles.
//!
//! The view `api_keys` deletes with the rights of who asks, so users have DELETE on `pat.api_keys`, and for Postgres
//! whoever has that may take any lock of the table. Then each check of a token waits, and so it does while the lock is
//! only being waited for. So what is named is looked at before Postgres locks anything, through views as Postgres locks
//! what is behind them.
//!
//! The locks that statements take by themselves are no concern: nothing waits for ROW EXCLUSIVE but DDL and VACUUM.
//!
//! # Safety
//! As in [`crate::pg::hooks`]: the hook's own frame holds nothing that needs dropping.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::ffi::{c_int, c_void};

use pgrx::pg_sys::NodeTag::{T_LockStmt, T_Query, T_RangeTblEntry};
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::{PgList, pg_guard, pg_sys};

use crate::pg::error::reported;
use crate::pg::hooks::utility_hook;
use crate::pg::{Local, memory, relations, rights, unguarded};

static NEXT: Local<pg_sys::ProcessUtility_hook_type> = Local::new(None);

pub fn install() {
    // SAFETY: called once, from _PG_init.
    unsafe {
        *NEXT.get() = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

utility_hook!(process_utility, NEXT, |statement| {
    let command = (*statement).utilityStmt;
    if (*command).type_ == T_LockStmt {
        let command = command.cast::<pg_sys::LockStmt>();
        if (*command).mode > pg_sys::RowExclusiveLock as c_int {
            check(command);
        }
    }
});

#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn check(command: *mut pg_sys::LockStmt) {
    memory::with_room(|| {
        // SAFETY: a command that names relations. Nothing is locked but views: nobody waits who may not, nor for a table that
        // the command has nothing to do with.
        let is_own = unsafe {
            let named = PgList::<pg_sys::RangeVar>::from_pg((*command).relations)
                .iter_ptr()
                .map(|name| {
                    pg_sys::RangeVarGetRelidExtended(
                        name,
                        pg_sys::NoLock as pg_sys::LOCKMODE,
                        pg_sys::RVROption::RVR_MISSING_OK,
                        None,
                        std::ptr::null_mut(),
                    )
                })
                .collect();
            reach_own(named)
        };
        reported(|| match is_own && relations::extension_owner().is_some() {
            true => rights::require_trusted("lock the extension's tables"),
            false => Ok(()),
        })
    })
    .unwrap_or_report();
}

/// Whether one of some relations is in the extension's schema, or a view of something in it, by way of other views too.
/// Views stay locked to the end of the transaction, so that they are the same when Postgres looks at them.
unsafe fn reach_own(mut found: Vec<pg_sys::Oid>) -> bool {
    // SAFETY: look-ups in the system caches. A view is read under a lock, and has a query; one that is gone is null.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"pat".as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            return false;
        }
        let mut seen = HashSet::new();
        while let Some(relation) = found.pop() {
            if !seen.insert(relation) {
                continue;
            }
            if pg_sys::get_rel_namespace(relation) == schema {
                return true;
            }
            if pg_sys::get_rel_relkind(relation) as u8 == pg_sys::RELKIND_VIEW {
                let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
                let view = pg_sys::try_relation_open(relation, lock);
                if !view.is_null() {
                    let query = pg_sys::get_view_query(view).cast();
                    let read = std::ptr::from_mut(&mut found).cast();
                    pg_sys::ffi::pg_guard_ffi_boundary(|| collect(query, read));
                    pg_sys::relation_close(view, pg_sys::NoLock as pg_sys::LOCKMODE);
                }
            }
        }
        false
    }
}

/// Collects the relations that a query reads, subqueries included.
unsafe extern "C-unwind" fn collect(node: *mut pg_sys::Node, read: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: Postgres's walkers pass nodes of the tree, and the context.
    unsafe {
        match (*node).type_ {
            T_Query => {
                let flags = pg_sys::QTW_EXAMINE_RTES_BEFORE as c_int;
                unguarded::query_tree_walker(node.cast(), collect, read, flags)
            }
            T_RangeTblEntry => {
                let entry = node.cast::<pg_sys::RangeTblEntry>();
                if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION {
                    (*read.cast::<Vec<pg_sys::Oid>>()).push((*entry).relid);
                }
                // The walker goes into the entry by itself.
                false
            }
            _ => unguarded::expression_tree_walker(node, collect, read),
        }
    }
}
