//! Whether a setting that did not exist may have been created since.
//!
//! Postgres 15 says how many settings there are. Later versions do not, and to look for one by its name takes as
//! long as the rest of a row in a scan. But only three things create a setting while a statement runs, and all can
//! be seen:
//!
//! - `set_config` in a query that is part of the statement, which begins a run of the executor: they are counted;
//! - `set_config` in the statement itself, or in an expression of PL/pgSQL, which is planned, but has no run of its
//!   own;
//! - SET in a function, which is a command in another.
//!
//! Sessions in which the latter two have been seen, as those of a REST server are not, look for the setting each
//! time. A function's own settings need not be seen: when it returns, one that it has created is empty, which is as
//! good as none.
#![allow(unsafe_code)]

/// Never to be taken for the same as before.
pub const UNKNOWN: u64 = 0;

#[cfg(feature = "pg15")]
mod how {
    use crate::pg::unguarded;

    pub fn install() {}

    pub fn may_be_within_runs() {}

    /// As long as this stays the same, no setting has been created.
    #[inline(always)]
    pub fn seen() -> u64 {
        // SAFETY: it only reads.
        unsafe { unguarded::GetNumConfigOptions() as u64 }
    }
}

#[cfg(not(feature = "pg15"))]
mod how {
    use std::ffi::c_char;

    use pgrx::pg_sys;

    use super::UNKNOWN;
    use crate::pg::{Local, unguarded};
    use crate::request::run;

    static WITHIN_RUNS: Local<bool> = Local::new(false);
    static NEXT: Local<pg_sys::ProcessUtility_hook_type> = Local::new(None);

    /// Takes note that runs of this session may create settings.
    pub fn may_be_within_runs() {
        // SAFETY: the reference is gone at the end of the line.
        unsafe { *WITHIN_RUNS.get() = true };
    }

    /// As long as this stays the same, no setting has been created.
    #[inline(always)]
    pub fn seen() -> u64 {
        // SAFETY: as above.
        match unsafe { *WITHIN_RUNS.get() } {
            true => UNKNOWN,
            false => run::begun(),
        }
    }

    pub fn install() {
        // SAFETY: called once.
        unsafe {
            *NEXT.get() = pg_sys::ProcessUtility_hook;
            pg_sys::ProcessUtility_hook = Some(process_utility);
        }
    }

    unsafe extern "C-unwind" fn process_utility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        is_read_only: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        destination: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    ) {
        // SAFETY: Postgres passes a statement with a node of the command. There is no guard of pgrx's, and nothing in
        // this frame that needs dropping.
        unsafe {
            let tag = (*(*statement).utilityStmt).type_;
            if tag == pg_sys::NodeTag::T_VariableSetStmt
                && context != pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL
            {
                may_be_within_runs();
            }
            let next = (*NEXT.get()).unwrap_or(unguarded::standard_ProcessUtility);
            next(
                statement,
                text,
                is_read_only,
                context,
                parameters,
                environment,
                destination,
                completion,
            );
        }
    }
}

pub use how::{install, may_be_within_runs, seen};
