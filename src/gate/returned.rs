//! A request that may write and not read is shown nothing of the rows that it writes.
//!
//! A REST server writes with `RETURNING`, and the client chooses what of it comes back. The gate cannot go by what the
//! client asks for, since PostgREST reads all headers `Prefer` and shows the last. So the statement is looked at,
//! before it runs. With `Prefer: return=minimal` servers return a constant for each row, to count the rows. An INSERT
//! may return the primary key too, from which they make the header `Location`.
//!
//! Only the client's own statements are looked at, and only if the gate has said that a scope is missing: for all
//! others this is one comparison. What a function or a trigger does with the rows is left to it. Triggers run when the
//! statement itself has ended, so the destination of the rows tells whether a statement is the client's.
#![allow(unsafe_code)]

use std::ffi::c_void;

use pgrx::{PgList, pg_guard, pg_sys};
use supabase_pat_core::claims::Credential;
use supabase_pat_core::refusal::Refusal;

use crate::gate::raise::{self, Decision, Raised};
use crate::gate::usage::{self, Bearer};
use crate::pg::unguarded;
use crate::request::admitted;
use crate::request::http::Origin;
use crate::request::run;

/// Raises an error if the statement returns more than it may.
///
/// # Safety
/// Called in the frame of a hook, without a guard and without anything that needs dropping.
#[inline(always)]
pub unsafe fn check(query: *mut pg_sys::QueryDesc) {
    if admitted::has_admitted_any() {
        // SAFETY: as the caller promises.
        unsafe { raise::carry_out(judge(query)) };
    }
}

#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn judge(query: *mut pg_sys::QueryDesc) -> Decision {
    let admitted = Decision::Admitted(pg_sys::InvalidOid);
    let Some(scope) = admitted::scope_to_be_shown() else {
        return admitted;
    };
    // SAFETY: Postgres passes a query with its plan and its destination.
    let is_concerned = unsafe {
        let destination = (*(*query).dest).mydest;
        destination != pg_sys::CommandDest::DestSPI
            && destination != pg_sys::CommandDest::DestSQLFunction
            && returns_rows(&*(*query).plannedstmt, (*query).planstate)
    };
    if !is_concerned {
        return admitted;
    }
    let refusal = Refusal::ReadingMissing(scope);
    let bearer = run::with_request(|request| match &request.identity.credential {
        Credential::Token(token) => Some(Bearer {
            token: token.id,
            user: token.user,
        }),
        _ => None,
    });
    usage::count_refusal(refusal.reason(), bearer, Origin::of_request().address);
    Decision::Refused(Raised::by(&refusal))
}

/// Whether a part of the plan that writes returns something of the rows. If the rest of the plan reads tables, to embed
/// what belongs to a row, the primary key counts too, since with it the row itself could be read back.
unsafe fn returns_rows(statement: &pg_sys::PlannedStmt, state: *mut pg_sys::PlanState) -> bool {
    // SAFETY: the executor's, initialized.
    let may_have_key = !unsafe { reads_tables(state, std::ptr::null_mut()) };
    // SAFETY: the lists and nodes are the planner's. What writes is the top of the plan, or of a common table
    // expression, which is a subplan.
    unsafe {
        PgList::<pg_sys::Plan>::from_pg(statement.subplans)
            .iter_ptr()
            .chain([statement.planTree])
            .filter(|&plan| pgrx::is_a(plan.cast(), pg_sys::NodeTag::T_ModifyTable))
            .any(|plan| writer_returns_rows(statement, &*plan.cast(), may_have_key))
    }
}

unsafe fn writer_returns_rows(
    statement: &pg_sys::PlannedStmt,
    writer: &pg_sys::ModifyTable,
    may_have_key: bool,
) -> bool {
    // SAFETY: as above. There is a list of expressions for each of the tables.
    unsafe {
        let lists = PgList::<pg_sys::Node>::from_pg(writer.returningLists);
        let tables = PgList::<pg_sys::Node>::from_pg(writer.resultRelations);
        lists.iter_ptr().enumerate().any(|(number, list)| {
            let table = pg_sys::list_nth_int(tables.as_ptr(), number as i32);
            let returned = |varno: i32| {
                let mut columns = std::ptr::null_mut();
                pg_sys::pull_varattnos(list, varno as pg_sys::Index, &mut columns);
                columns
            };
            let key = match writer.operation {
                pg_sys::CmdType::CMD_INSERT if may_have_key => {
                    let entry: *mut pg_sys::RangeTblEntry =
                        pg_sys::list_nth(statement.rtable, table - 1).cast();
                    let mut constraint = pg_sys::InvalidOid;
                    unguarded::get_primary_key_attnos((*entry).relid, true, &mut constraint)
                }
                _ => std::ptr::null_mut(),
            };
            // Columns of the row itself have the number of the table; columns of the plan below have OUTER_VAR.
            !returned(pg_sys::OUTER_VAR).is_null() || has_others(returned(table), key)
        })
    }
}

/// Whether the plan reads a table, apart from the nodes that write and all below those.
unsafe extern "C-unwind" fn reads_tables(
    state: *mut pg_sys::PlanState,
    context: *mut c_void,
) -> bool {
    use pg_sys::NodeTag::*;
    if state.is_null() {
        return false;
    }
    // SAFETY: a node of the executor's, which is walked with a function of this type.
    unsafe {
        match (*state.cast::<pg_sys::Node>()).type_ {
            T_ModifyTableState => false,
            T_SeqScanState
            | T_SampleScanState
            | T_IndexScanState
            | T_IndexOnlyScanState
            | T_BitmapHeapScanState
            | T_TidScanState
            | T_TidRangeScanState
            | T_ForeignScanState
            | T_CustomScanState => true,
            _ => unguarded::walk_plan_states(state, reads_tables, context),
        }
    }
}

/// Whether there is a column that is neither one of Postgres's own nor in `key`.
unsafe fn has_others(columns: *mut pg_sys::Bitmapset, key: *mut pg_sys::Bitmapset) -> bool {
    let mut member = -1;
    loop {
        // SAFETY: both are sets, of which null is the empty one.
        member = unsafe { pg_sys::bms_next_member(columns, member) };
        if member < 0 {
            return false;
        }
        // Column 0 is the whole row.
        let is_own = member + pg_sys::FirstLowInvalidHeapAttributeNumber < 0;
        // SAFETY: as above.
        if !is_own && !unsafe { pg_sys::bms_is_member(member, key) } {
            return true;
        }
    }
}
