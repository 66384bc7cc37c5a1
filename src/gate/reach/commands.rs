//! Commands that are not planned, and do not ask for privileges as statements do. COPY does.
#![allow(unsafe_code)]

use std::ffi::c_int;

use pgrx::pg_sys::NodeTag::*;
use pgrx::{PgList, pg_guard, pg_sys};
use supabase_pat_core::refusal::Refusal;
use supabase_pat_core::route::Access;
use supabase_pat_core::scope::Scopes;

use super::{ADMITTED, Table, decision, is_limited};
use crate::gate::raise::{self, Decision};
use crate::gate::row_errors;
use crate::pg::hooks::utility_hook;
use crate::pg::{Local, memory, unguarded};
use crate::request::admitted;

static NEXT: Local<pg_sys::ProcessUtility_hook_type> = Local::new(None);

pub fn install() {
    // SAFETY: called once, from _PG_init.
    unsafe {
        *NEXT.get() = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

utility_hook!(process_utility, NEXT, |statement| {
    // What is deferred fails in COMMIT.
    if admitted::has_scopes() {
        row_errors::listen();
    }
    if is_limited() {
        raise::carry_out(judge_command((*statement).utilityStmt));
    }
});

#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn judge_command(command: *mut pg_sys::Node) -> Decision {
    memory::with_room(|| {
        let Some(scopes) = admitted::scopes() else {
            return ADMITTED;
        };
        // SAFETY: a command, which is the struct that its tag says.
        decision(unsafe { refusal_of_command(&scopes, command) })
    })
}

/// Of commands that are not planned, and do not ask for privileges as statements do. COPY does.
pub(super) unsafe fn refusal_of_command(
    scopes: &Scopes,
    command: *mut pg_sys::Node,
) -> Option<Refusal> {
    // SAFETY: as the caller promises.
    unsafe {
        match (*command).type_ {
            T_TruncateStmt => {
                let command = &*command.cast::<pg_sys::TruncateStmt>();
                let mut tables = found(command.relations);
                if command.behavior == pg_sys::DropBehavior::DROP_CASCADE {
                    tables.extend(referencing(&tables));
                }
                tables.into_iter().find_map(|table| {
                    let table = Table::of(table)?;
                    Some(table.refusal(table.missing(scopes, Access::Delete)?))
                })
            }
            T_LockStmt => {
                let command = &*command.cast::<pg_sys::LockStmt>();
                let is_weak = command.mode == pg_sys::AccessShareLock as c_int;
                found(command.relations).into_iter().find_map(|table| {
                    let table = Table::of(table)?;
                    let missing = |access| table.missing(scopes, access);
                    let scope = missing(Access::Write)?;
                    missing(Access::Delete)?;
                    match is_weak {
                        true => missing(Access::Read).map(|scope| table.refusal(scope)),
                        false => Some(table.refusal(scope)),
                    }
                })
            }
            T_RefreshMatViewStmt => {
                let view = oid_of((*command.cast::<pg_sys::RefreshMatViewStmt>()).relation)?;
                let view = Table::of(view)?;
                Some(view.refusal(view.missing(scopes, Access::Write)?))
            }
            // In a transaction that has failed nothing can be looked up.
            T_TransactionStmt => None,
            // They tell how many rows there are.
            T_VacuumStmt | T_ReindexStmt if !is_about_temporary(command) => {
                Some(Refusal::UnknownRequest)
            }
            _ if pg_sys::GetCommandLogLevel(command) != pg_sys::LogStmtLevel::LOGSTMT_DDL => None,
            _ if is_about_temporary(command) => None,
            _ => Some(Refusal::UnknownRequest),
        }
    }
}

/// Whether a command makes, changes or drops what belongs to the session.
unsafe fn is_about_temporary(command: *mut pg_sys::Node) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let is_made = |table: *mut pg_sys::RangeVar| {
            (*table).relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP
        };
        let is_there = |table: *mut pg_sys::RangeVar| {
            !table.is_null() && oid_of(table).is_some_and(|table| is_temporary(table))
        };
        match (*command).type_ {
            T_CreateStmt => is_made((*command.cast::<pg_sys::CreateStmt>()).relation),
            T_CreateSeqStmt => is_made((*command.cast::<pg_sys::CreateSeqStmt>()).sequence),
            T_CreateTableAsStmt => {
                is_made((*(*command.cast::<pg_sys::CreateTableAsStmt>()).into).rel)
            }
            T_IndexStmt => is_there((*command.cast::<pg_sys::IndexStmt>()).relation),
            T_AlterTableStmt => is_there((*command.cast::<pg_sys::AlterTableStmt>()).relation),
            T_ReindexStmt => is_there((*command.cast::<pg_sys::ReindexStmt>()).relation),
            T_VacuumStmt => {
                let tables = (*command.cast::<pg_sys::VacuumStmt>()).rels;
                let tables = PgList::<pg_sys::VacuumRelation>::from_pg(tables);
                !tables.is_empty() && tables.iter_ptr().all(|table| is_there((*table).relation))
            }
            T_DropStmt => {
                use pg_sys::ObjectType::{OBJECT_INDEX, OBJECT_SEQUENCE, OBJECT_TABLE};
                let command = &*command.cast::<pg_sys::DropStmt>();
                [OBJECT_TABLE, OBJECT_INDEX, OBJECT_SEQUENCE].contains(&command.removeType)
                    && PgList::<pg_sys::List>::from_pg(command.objects)
                        .iter_ptr()
                        // What is not there is dropped by nobody.
                        .all(|name| {
                            oid_of(pg_sys::makeRangeVarFromNameList(name))
                                .is_none_or(|table| is_temporary(table))
                        })
            }
            _ => false,
        }
    }
}

unsafe fn is_temporary(table: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the system caches.
    unsafe { pg_sys::isAnyTempNamespace(pg_sys::get_rel_namespace(table)) }
}

/// The tables of a command, as far as they are there.
unsafe fn found(names: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: a list of names.
    unsafe {
        let names = PgList::<pg_sys::RangeVar>::from_pg(names);
        names.iter_ptr().filter_map(|name| oid_of(name)).collect()
    }
}

unsafe fn oid_of(name: *mut pg_sys::RangeVar) -> Option<pg_sys::Oid> {
    // SAFETY: a name. Nothing is locked, so that nobody waits who may not.
    let table = unsafe {
        pg_sys::RangeVarGetRelidExtended(
            name,
            pg_sys::NoLock as pg_sys::LOCKMODE,
            pg_sys::RVROption::RVR_MISSING_OK,
            None,
            std::ptr::null_mut(),
        )
    };
    (table != pg_sys::InvalidOid).then_some(table)
}

/// The tables that refer to some or to their partitions and children, and those that refer to these. What is a
/// partition or child of one of them is not named besides.
unsafe fn referencing(tables: &[pg_sys::Oid]) -> Vec<pg_sys::Oid> {
    // SAFETY: lists of oids. Nothing is locked, as in `oid_of`.
    unsafe {
        let family = |&table: &pg_sys::Oid| {
            let no_lock = pg_sys::NoLock as pg_sys::LOCKMODE;
            let family = pg_sys::ffi::pg_guard_ffi_boundary(|| {
                unguarded::find_all_inheritors(table, no_lock, std::ptr::null_mut())
            });
            PgList::<pg_sys::Oid>::from_pg(family)
                .iter_oid()
                .collect::<Vec<_>>()
        };
        let own: Vec<pg_sys::Oid> = tables.iter().flat_map(family).collect();
        let mut all = own.clone();
        loop {
            let mut list = std::ptr::null_mut();
            for &table in &all {
                list = pg_sys::lappend_oid(list, table);
            }
            let more = PgList::<pg_sys::Oid>::from_pg(pg_sys::heap_truncate_find_FKs(list));
            if more.is_empty() {
                break;
            }
            all.extend(more.iter_oid());
        }
        let found = all.split_off(own.len());
        let children: Vec<pg_sys::Oid> = found
            .iter()
            .flat_map(|table| family(table).split_off(1))
            .collect();
        found
            .into_iter()
            .filter(|table| !children.contains(table))
            .collect()
    }
}
