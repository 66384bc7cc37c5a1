//! Knowing which statement is being executed, so that an answer can be kept for exactly as long.
//!
//! # What is cached, under what key, and what ends it
//! A policy calls `pat.uid()` and `is_valid_api_token()` once a row. Reading and parsing the claims
//! and looking the key and its user up costs about 3 µs, a row of a sequential scan about 50 ns: a
//! million rows must not pay for a million checks. So the first call in a run of the executor keeps
//! the parsed claims and the verdict in the [`Run`], and every later call in that run returns them,
//! for about 3 ns.
//!
//! - **Key.** The run itself: a stack of runs follows the nesting of `ExecutorRun`, and a call
//!   belongs to the top one only if the active snapshot is the one that the run was given. A
//!   PL/pgSQL expression that is evaluated without a query (`if is_valid_api_token() then`) runs
//!   under a snapshot of its own in a volatile function, so it never sees an answer from the
//!   statement around it, and is checked anew each time. In a STABLE function it shares the snapshot
//!   of the statement that calls it, and its answer.
//! - **Claims.** Each call also checks that the claims are where they were when they were read
//!   ([`crate::request::Request::is_current`]), so that a statement which changes them midway gets
//!   the new identity. The remaining gap is a statement that sets them twice between two calls in
//!   one row, if the allocator hands the first address out again.
//! - **End.** The end of the run, by return or by error. `fn_extra` would be the usual place, but
//!   PL/pgSQL keeps the `FmgrInfo` of an expression from statement to statement, where under
//!   REPEATABLE READ nothing else would tell the second from the first.
//!
//! The verdict itself is reached with a snapshot of its own, taken when it is asked for, so a
//! revocation that has committed is seen by the next statement in every isolation level. A second
//! level, in request.rs, carries it from one statement to the next for as long as Postgres counts no
//! transaction that has written anything.
//!
//! # Safety
//! The hook is on the way of every query of the backend, so errors must pass through it as they
//! are. pgrx's guard would rebuild them from the fields that it knows, and lose the names of
//! constraints and any SQLSTATE outside its list. So the hook calls on without a guard and holds
//! nothing that needs dropping: an error jumps over it, and the callbacks for aborted
//! (sub)transactions drop the runs that it ended.
#![allow(unsafe_code)]

use std::ffi::c_void;

use pgrx::pg_sys;

use crate::pg::Local;
use crate::pg::unguarded;
use crate::request::Request;

pub struct Run {
    snapshot: pg_sys::Snapshot,
    /// Nesting level of the subtransaction that the run began in.
    nest_level: i32,
    request: Option<Box<Request>>,
}

static RUNS: Local<Vec<Run>> = Local::new(Vec::new());
type Check = unsafe fn(*mut pg_sys::QueryDesc);

static BEFORE_OUTERMOST: Local<Option<Check>> = Local::new(None);
static PREVIOUS_HOOK: Local<pg_sys::ExecutorRun_hook_type> = Local::new(None);

/// What an earlier call in this run has found, if it still holds.
///
/// # Safety
/// The reference must be dropped before anything else in this module is called.
#[inline(always)]
pub unsafe fn known_request<'a>() -> Option<&'a Request> {
    // SAFETY: as the caller promises.
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
        // SAFETY: as above.
        && let Some(run) = unsafe { current() }
    {
        run.request = Some(request);
    }
    result
}

fn depth() -> usize {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { RUNS.get() }.len()
}

/// The run that the calling expression belongs to, if any.
#[inline(always)]
unsafe fn current<'a>() -> Option<&'a mut Run> {
    // SAFETY: the caller holds no other reference. GetActiveSnapshot needs an active snapshot.
    unsafe {
        let run = RUNS.get().last_mut()?;
        (unguarded::ActiveSnapshotSet() && unguarded::GetActiveSnapshot() == run.snapshot)
            .then_some(run)
    }
}

/// `before_outermost` sees each statement before it runs, but for those that run inside another. It may raise an error,
/// and is called in a frame without a guard and without anything that needs dropping.
pub fn install_hook(before_outermost: Check) {
    // SAFETY: called once, from _PG_init.
    unsafe {
        *BEFORE_OUTERMOST.get() = Some(before_outermost);
        *PREVIOUS_HOOK.get() = pg_sys::ExecutorRun_hook;
        pg_sys::ExecutorRun_hook = Some(executor_run);
        pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(at_subtransaction_end), std::ptr::null_mut());
    }
}

/// Declares the hook for the signature of the version at hand: Postgres 18 dropped the last
/// parameter.
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
                if depth == 0 && let Some(check) = *BEFORE_OUTERMOST.get() {
                    check(query);
                }
                RUNS.get().push(Run {
                    snapshot: (*query).snapshot,
                    nest_level: unguarded::GetCurrentTransactionNestLevel(),
                    request: None,
                });
                match *PREVIOUS_HOOK.get() {
                    Some(previous) => previous(query, $($argument),*),
                    None => standard_ExecutorRun(query, $($argument),*),
                }
                RUNS.get().truncate(depth);
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
