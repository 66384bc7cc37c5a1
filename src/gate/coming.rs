//! What is about to happen in a connection, as far as the [guard](super::guard) has to know.
#![allow(unsafe_code)]

use pgrx::{PgList, pg_sys};

/// What is about to happen.
#[derive(Clone, Copy)]
#[repr(C)]
pub enum Coming {
    Query(*mut pg_sys::Query),
    Plan(*mut pg_sys::PlannedStmt),
    /// Something else than a query.
    Other,
}

/// Whether it is a SELECT of `set_config` alone, with constants and parameters: that is another way to write SET, and a
/// server may need several of them to announce a request.
///
/// # Safety
/// What is passed is Postgres's own.
pub unsafe fn only_announces(coming: Coming) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: nodes of the types that their tags say.
    unsafe {
        let targets = match coming {
            Coming::Other => return false,
            Coming::Query(query) => {
                let query = &*query;
                let is_bare = query.commandType == pg_sys::CmdType::CMD_SELECT
                    && query.rtable.is_null()
                    && query.cteList.is_null()
                    && query.setOperations.is_null()
                    && query.havingQual.is_null()
                    && query.limitOffset.is_null()
                    && query.limitCount.is_null()
                    && (*query.jointree).quals.is_null();
                match is_bare {
                    true => query.targetList,
                    false => return false,
                }
            }
            Coming::Plan(plan) => {
                let top = (*plan).planTree;
                let is_bare = (*plan).commandType == pg_sys::CmdType::CMD_SELECT
                    && (*plan).subplans.is_null()
                    && (*top).type_ == T_Result
                    && (*top).lefttree.is_null()
                    && (*top).qual.is_null()
                    && (*top.cast::<pg_sys::Result>()).resconstantqual.is_null();
                match is_bare {
                    true => (*top).targetlist,
                    false => return false,
                }
            }
        };
        let is_given = |value: *mut pg_sys::Node| matches!((*value).type_, T_Const | T_Param);
        let is_set = |target: *mut pg_sys::TargetEntry| {
            let call = (*target).expr.cast::<pg_sys::FuncExpr>();
            (*call).xpr.type_ == T_FuncExpr
                && (*call).funcid == pg_sys::Oid::from(pg_sys::F_SET_CONFIG)
                && PgList::<pg_sys::Node>::from_pg((*call).args)
                    .iter_ptr()
                    .all(is_given)
        };
        PgList::<pg_sys::TargetEntry>::from_pg(targets)
            .iter_ptr()
            .all(is_set)
    }
}

/// Whether a command executes statements of its own, which are not the client's.
///
/// # Safety
/// What is passed is Postgres's own.
pub unsafe fn executes(statement: *mut pg_sys::PlannedStmt) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: Postgres passes a statement with a node of the command.
    let tag = unsafe { (*(*statement).utilityStmt).type_ };
    matches!(tag, T_CallStmt | T_DoStmt)
}

/// Whether a command only begins, ends or sets up what may follow, and shows nothing of a table.
///
/// # Safety
/// What is passed is Postgres's own.
pub unsafe fn only_prepares(statement: *mut pg_sys::PlannedStmt) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: Postgres passes a statement with a node of the command.
    let tag = unsafe { (*(*statement).utilityStmt).type_ };
    matches!(
        tag,
        T_TransactionStmt
            | T_VariableSetStmt
            | T_VariableShowStmt
            | T_DiscardStmt
            | T_DeallocateStmt
            | T_ClosePortalStmt
    )
}
