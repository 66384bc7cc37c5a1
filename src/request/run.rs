//! Knows which statement is being executed, so that an answer can be kept for exactly as long as the statement runs.
//!
//! # What is cached, under what key, and what ends it
//! A policy calls `pat.uid()` and `is_valid_api_token()` once for each row. Reading and parsing the claims
//! and looking up the token and its user takes about 3 µs, a row of a sequential scan about 50 ns: a
//! million rows must not pay for a million checks. So the first call in a run of the executor keeps
//! the parsed claims and the verdict in the [`Run`], and every later call in that run returns them,
//! which takes about 3 ns.
//!
//! - **Key.** The run itself: a stack of runs follows the nesting of `ExecutorRun`, and a call
//!   belongs to the top one only if the active snapshot is the one that the run was given. A
//!   PL/pgSQL expression that is evaluated without a query (`if is_valid_api_token() then`) runs
//!   under a snapshot of its own in a volatile function, so it never sees an answer from the
//!   statement around it, and is checked anew each time. In a STABLE function it shares the snapshot
//!   of the statement that calls it, and its answer.
//! - **Claims.** Each call also checks that no setting of claims has been given a value, or been created, since they
//!   were read ([`crate::request::Request::is_current`]), so that a statement that changes them midway gets the new
//!   identity.
//! - **End.** The answer is dropped at the end of the run, by return or by error. `fn_extra` is the usual
//!   place for such an answer, but PL/pgSQL keeps the `FmgrInfo` of an expression from statement to
//!   statement, and under REPEATABLE READ nothing else would tell the second statement from the first.
//!
//! The verdict itself is reached on a snapshot of its own, which is taken when it is asked for. So the
//! next statement sees a revocation that has committed, in every isolation level. A second level, in
//! request/mod.rs, keeps the verdict from one statement to the next as long as Postgres counts no
//! transaction that has written anything.
//!
//! # Safety
//! Every query of the backend runs inside the hook, so errors must pass through it unchanged. pgrx's guard
//! would rebuild them from the fields that it knows, and lose the names of constraints and any SQLSTATE
//! outside its list. So the hook calls the executor without a guard and holds nothing that needs dropping:
//! an error jumps over it, and the callbacks for aborted (sub)transactions drop the runs that it ended.
#![allow(unsafe_code)]

use std::ffi::c_void;

use pgrx::pg_sys;

use crate::pg::Local;
use crate::pg::unguarded;
use crate::request::Request;

/// One run of the executor.
pub struct Run {
    snapshot: pg_sys::Snapshot,
    /// Nesting level of the subtransaction that the run began in.
    nest_level: i32,
    /// Whether it is a query of a foreign key's own, or runs inside of one.
    is_of_foreign_key: bool,
    /// Whether it is no run, but a command that executes statements.
    is_command: bool,
    request: Option<Box<Request>>,
}

static RUNS: Local<Vec<Run>> = Local::new(Vec::new());
static AROUND: Local<Option<Around>> = Local::new(None);
static PREVIOUS_HOOK: Local<pg_sys::ExecutorRun_hook_type> = Local::new(None);

/// The request that an earlier call in this run has read, if it still holds.
///
/// # Safety
/// The reference must be dropped before anything else in this module is called.
#[inline(always)]
pub unsafe fn known_request<'a>() -> Option<&'a Request> {
    // SAFETY: the caller promises that the reference is gone before another one is taken.
    let run = unsafe { current() }?;
    run.request
        .as_deref()
        .filter(|request| request.is_current())
}

/// Calls `f` with the request as it is now, and keeps it for the rest of the run.
pub fn with_request<R>(f: impl FnOnce(&mut Request) -> R) -> R {
    // SAFETY: the reference is gone at the end of the line.
    let known = unsafe { current() }.map(|run| run.request.take());
    let depth = depth();
    let mut request = known
        .flatten()
        .filter(|request| request.is_current())
        .unwrap_or_else(|| Box::new(Request::read()));
    let result = f(&mut request);
    if depth == self::depth()
        // SAFETY: the reference is gone at the end of the block, in which nothing is called.
        && let Some(run) = unsafe { current() }
    {
        run.request = Some(request);
    }
    result
}

/// Whether no statement is being executed, so that what begins is the client's own, or that of a trigger at the end of a
/// statement or of the transaction.
pub fn is_outermost() -> bool {
    depth() == 0
}

/// Whether what begins is not the client's own.
pub fn is_nested() -> bool {
    // SAFETY: it returns a number of Postgres's, and looks at no argument.
    depth() > 0
        || unsafe { unguarded::pg_trigger_depth(std::ptr::null_mut()) } != pg_sys::Datum::null()
}

/// Notes that a command begins that executes statements, as CALL and DO do. Returns what is for [`end_command`].
pub fn begin_command() -> usize {
    let depth = depth();
    // SAFETY: the reference is gone at the end of the statement.
    unsafe {
        RUNS.get().push(Run {
            snapshot: std::ptr::null_mut(),
            nest_level: unguarded::GetCurrentTransactionNestLevel(),
            is_of_foreign_key: false,
            is_command: true,
            request: None,
        });
    }
    depth
}

/// Returns whether the command was not inside of anything. If it fails, nobody needs to call this.
pub fn end_command(depth: usize) -> bool {
    // SAFETY: as above.
    unsafe { RUNS.get() }.truncate(depth);
    depth == 0
}

/// Whether what begins now is inside of a query of a foreign key's own, such as a trigger of a table that it cascades
/// to.
pub fn is_inside_foreign_key() -> bool {
    // SAFETY: the reference is gone at the end of the block.
    unsafe { RUNS.get() }
        .last()
        .is_some_and(|run| run.is_of_foreign_key)
}

fn depth() -> usize {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { RUNS.get() }.len()
}

/// The run that the calling expression belongs to, if any.
///
/// # Safety
/// No other reference to the runs is in use until this one is gone.
#[inline(always)]
unsafe fn current<'a>() -> Option<&'a mut Run> {
    // SAFETY: the caller promises that there is no other reference. `GetActiveSnapshot` is called only if there is an
    // active snapshot.
    unsafe {
        let run = RUNS.get().last_mut()?;
        (unguarded::ActiveSnapshotSet() && unguarded::GetActiveSnapshot() == run.snapshot)
            .then_some(run)
    }
}

/// What is called around runs. It may raise an error: it is called in a frame without a guard and without anything that
/// needs dropping.
#[derive(Clone, Copy)]
pub struct Around {
    /// Before each run, of which a cursor has many.
    pub before: unsafe fn(*mut pg_sys::QueryDesc),
    /// After each run that is not inside another one, but perhaps in a command.
    pub after_outermost: unsafe fn(*mut pg_sys::PlannedStmt),
}

/// Installs the hook, once, from `_PG_init`.
pub fn install_hook(around: Option<Around>) {
    // SAFETY: no other code of ours runs yet, and the callback stays valid, since Postgres never unloads a library.
    unsafe {
        *AROUND.get() = around;
        *PREVIOUS_HOOK.get() = pg_sys::ExecutorRun_hook;
        pg_sys::ExecutorRun_hook = Some(executor_run);
        pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(at_subtransaction_end), std::ptr::null_mut());
    }
}

/// Declares the hook with the parameters of the Postgres version: 18 has dropped the last one.
macro_rules! executor_run_hook {
    ($($argument:ident: $type:ty),*) => {
        unsafe extern "C-unwind" {
            fn standard_ExecutorRun(query: *mut pg_sys::QueryDesc, $($argument: $type),*);
        }

        unsafe extern "C-unwind" fn executor_run(query: *mut pg_sys::QueryDesc, $($argument: $type),*) {
            let depth = depth();
            // SAFETY: Postgres passes a valid query. No reference is held across the call, and an
            // error that jumps over this frame skips no destructor.
            unsafe {
                let around = *AROUND.get();
                if let Some(around) = around {
                    (around.before)(query);
                }
                RUNS.get().push(Run {
                    snapshot: (*query).snapshot,
                    nest_level: unguarded::GetCurrentTransactionNestLevel(),
                    is_of_foreign_key: unguarded::InNoForceRLSOperation(),
                    is_command: false,
                    request: None,
                });
                match *PREVIOUS_HOOK.get() {
                    Some(previous) => previous(query, $($argument),*),
                    None => standard_ExecutorRun(query, $($argument),*),
                }
                RUNS.get().truncate(depth);
                if let Some(around) = around
                    && RUNS.get().iter().all(|run| run.is_command)
                {
                    (around.after_outermost)((*query).plannedstmt);
                }
            }
        }
    };
}

#[cfg(not(feature = "pg18"))]
executor_run_hook!(direction: pg_sys::ScanDirection::Type, count: u64, execute_once: bool);
#[cfg(feature = "pg18")]
executor_run_hook!(direction: pg_sys::ScanDirection::Type, count: u64);

unsafe extern "C-unwind" fn at_transaction_end(event: pg_sys::XactEvent::Type, _: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_PARALLEL_ABORT};
    if matches!(event, XACT_EVENT_ABORT | XACT_EVENT_PARALLEL_ABORT) {
        // SAFETY: Postgres calls this from its main loop, where no code of ours runs.
        unsafe { RUNS.get() }.clear();
    }
}

unsafe extern "C-unwind" fn at_subtransaction_end(
    event: pg_sys::SubXactEvent::Type,
    _subtransaction: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        // SAFETY: no code of ours holds a reference while it starts or ends subtransactions.
        unsafe {
            let aborted = unguarded::GetCurrentTransactionNestLevel();
            let runs = RUNS.get();
            while runs.last().is_some_and(|run| run.nest_level >= aborted) {
                runs.pop();
            }
        }
    }
}
