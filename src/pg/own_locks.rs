//! To lock the extension's own tables is for trusted roles.
//!
//! The view `api_keys` deletes with the rights of who asks, so users have DELETE on `pat.api_keys`, and for Postgres
//! whoever has that may take any lock of the table. Then each check of a token waits, and so it does while the lock is
//! only being waited for. So what is named is looked at before Postgres locks anything, through views as Postgres locks
//! what is behind them.
//!
//! Some other commands lock a table before Postgres looks whether the role may do what they do: CREATE RULE, a partition,
//! ALTER MATERIALIZED VIEW … DEPENDS, with a lock that checks wait for; CREATE TRIGGER and a foreign key, with one that
//! revoking waits for. The role needs nothing for it but a schema for a temporary table. They are refused before.
//!
//! The locks that other statements take are no concern: nothing waits for ROW EXCLUSIVE but DDL and VACUUM.
//!
//! # Safety
//! As in [`crate::pg::hooks`]: the hook's own frame holds nothing that needs dropping.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::ffi::{c_int, c_void};

use pgrx::pg_sys::NodeTag::*;
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
    match (*command).type_ {
        T_LockStmt => {
            let command = command.cast::<pg_sys::LockStmt>();
            if (*command).mode > pg_sys::RowExclusiveLock as c_int {
                check(command.cast());
            }
        }
        T_RuleStmt
        | T_CreateTrigStmt
        | T_AlterObjectDependsStmt
        | T_AlterTableStmt
        | T_CreateStmt
        | T_CreateForeignTableStmt => check(command),
        _ => (),
    }
});

#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn check(command: *mut pg_sys::Node) {
    memory::with_room(|| {
        // SAFETY: a command that names relations. Nothing is locked but views: nobody waits who may not, nor for a table that
        // the command has nothing to do with.
        let is_refused = unsafe {
            let (named, needed) = locked_by(command);
            let is_lock = (*command).type_ == T_LockStmt;
            named.into_iter().any(|name| {
                let found = pg_sys::RangeVarGetRelidExtended(
                    name,
                    pg_sys::NoLock as pg_sys::LOCKMODE,
                    pg_sys::RVROption::RVR_MISSING_OK,
                    None,
                    std::ptr::null_mut(),
                );
                reach_own(found, is_lock) && !needed.is_some_and(|needed| has_any(found, needed))
            })
        };
        reported(
            || match is_refused && relations::extension_owner().is_some() {
                true => rights::require_trusted("lock the extension's tables"),
                false => Ok(()),
            },
        )
    })
    .unwrap_or_report();
}

/// The relations that a command locks before Postgres looks at the role's privileges, and the privilege with which the
/// role need not be trusted.
unsafe fn locked_by(
    command: *mut pg_sys::Node,
) -> (Vec<*mut pg_sys::RangeVar>, Option<pg_sys::AclMode>) {
    // SAFETY: nodes of the types that their tags say; the lists are of what Postgres's grammar puts into them.
    unsafe {
        let all = |list| {
            PgList::<pg_sys::RangeVar>::from_pg(list)
                .iter_ptr()
                .collect()
        };
        match (*command).type_ {
            T_LockStmt => (all((*command.cast::<pg_sys::LockStmt>()).relations), None),
            T_RuleStmt => (vec![(*command.cast::<pg_sys::RuleStmt>()).relation], None),
            T_AlterObjectDependsStmt => {
                let name = (*command.cast::<pg_sys::AlterObjectDependsStmt>()).relation;
                (name_of(name), None)
            }
            T_CreateTrigStmt => {
                let name = (*command.cast::<pg_sys::CreateTrigStmt>()).relation;
                (vec![name], Some(pg_sys::ACL_TRIGGER as pg_sys::AclMode))
            }
            T_AlterTableStmt => {
                let commands = (*command.cast::<pg_sys::AlterTableStmt>()).cmds;
                let commands = PgList::<pg_sys::AlterTableCmd>::from_pg(commands);
                let definitions = commands.iter_ptr().map(|command| (*command).def);
                let mut partitions = Vec::new();
                let mut referenced = Vec::new();
                for definition in definitions.filter(|definition| !definition.is_null()) {
                    match (*definition).type_ {
                        T_PartitionCmd => partitions
                            .extend(name_of((*definition.cast::<pg_sys::PartitionCmd>()).name)),
                        T_Constraint => referenced
                            .extend(name_of((*definition.cast::<pg_sys::Constraint>()).pktable)),
                        T_ColumnDef => {
                            let constraints = (*definition.cast::<pg_sys::ColumnDef>()).constraints;
                            let constraints = PgList::<pg_sys::Constraint>::from_pg(constraints);
                            let names = constraints.iter_ptr().map(|it| (*it).pktable);
                            referenced.extend(names.flat_map(name_of));
                        }
                        _ => (),
                    }
                }
                match partitions.is_empty() {
                    true => (referenced, Some(pg_sys::ACL_REFERENCES as pg_sys::AclMode)),
                    false => {
                        partitions.append(&mut referenced);
                        (partitions, None)
                    }
                }
            }
            // A foreign key in it comes as an ALTER TABLE of its own.
            _ => (
                all((*command.cast::<pg_sys::CreateStmt>()).inhRelations),
                None,
            ),
        }
    }
}

fn name_of(name: *mut pg_sys::RangeVar) -> Vec<*mut pg_sys::RangeVar> {
    match name.is_null() {
        true => Vec::new(),
        false => vec![name],
    }
}

/// Whether the role in force has a privilege on a relation, or on one of its columns.
unsafe fn has_any(relation: pg_sys::Oid, privilege: pg_sys::AclMode) -> bool {
    // SAFETY: look-ups in the system caches.
    unsafe {
        let (role, any) = (pg_sys::GetUserId(), pg_sys::AclMaskHow::ACLMASK_ANY);
        let ok = pg_sys::AclResult::ACLCHECK_OK;
        pg_sys::pg_class_aclcheck(relation, role, privilege) == ok
            || pg_sys::pg_attribute_aclcheck_all(relation, role, privilege, any) == ok
    }
}

/// Whether a relation is in the extension's schema, or with `by_views` a view of something in it, by way of other views
/// too. Views stay locked to the end of the transaction, so that they are the same when Postgres looks at them.
unsafe fn reach_own(relation: pg_sys::Oid, by_views: bool) -> bool {
    // SAFETY: look-ups in the system caches. A view is read under a lock, and has a query; one that is gone is null.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"pat".as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            return false;
        }
        let mut found = vec![relation];
        let mut seen = HashSet::new();
        while let Some(relation) = found.pop() {
            if !seen.insert(relation) {
                continue;
            }
            if pg_sys::get_rel_namespace(relation) == schema {
                return true;
            }
            if by_views && pg_sys::get_rel_relkind(relation) as u8 == pg_sys::RELKIND_VIEW {
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
