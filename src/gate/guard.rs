//! The guard: in connections of the logins that servers use, each request is judged without anybody asking for it.
//!
//! # When a request is judged
//! A server tells of a request by settings: the role, the claims, the method. PostgREST and its like set all of them in
//! one SELECT. So after each outermost statement that leaves a method behind, what is announced is judged: in time to
//! make the request somebody else's, as an opaque token does.
//!
//! A server may do it otherwise, with one SET each, or without a method. So before each statement that could do
//! anything, when it is planned and when it starts, there is a look whether what is announced by then has been judged.
//! If not, it is judged there; and where that is too late for what the token needs, it is refused.
//!
//! # What was judged
//! The role, the claims and what HTTP says of the request. Which of those that were judged in this transaction holds now
//! is in a setting that nobody else can set, so a savepoint that is rolled back brings the one before back. If anything
//! of it changes, the request is judged again. A token is counted once in a transaction, however often that is.
//!
//! # What it costs
//! Other logins pay for a comparison of two numbers in each hook. The nested statements of guarded ones pay for six
//! addresses: a setting whose value has changed has another address.
//!
//! # Safety
//! As in [`crate::request::run`]: errors of other people's statements must pass through the hooks as they are, so the
//! hooks have no guard of pgrx's and hold nothing that needs dropping.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::rc::Rc;

use pgrx::{pg_guard, pg_sys};
use supabase_pat_core::claims::Identity;
use supabase_pat_core::error::Error;
use uuid::Uuid;

use super::raise::{self, Decision};
use crate::pg::error::reported;
use crate::pg::guc::{self, OwnSetting, Variable};
use crate::pg::{Local, relations, settings};
use crate::request::run;

/// Whether there is still time for all that a judgement may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// What comes is planned for whoever the request becomes.
    InTime,
    /// What is about to run has been planned for the role in force.
    Late,
}

/// What a server has told of a request.
struct Announcement {
    role: pg_sys::Oid,
    identity: Rc<Identity>,
    http: [Option<Box<str>>; HTTP.len()],
}

const HTTP: [&CStr; 3] = [c"request.method", c"request.path", c"request.headers"];
const CLAIMS: &CStr = c"request.jwt.claims";

/// Where the values of the settings are, as they were when the request was last found to have been judged.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Addresses {
    role: pg_sys::Oid,
    values: [*mut c_char; 1 + HTTP.len()],
    judged: *mut c_char,
}

/// The number of the announcement in [`State::judged`] that holds now, counted from one.
static JUDGED: OwnSetting = OwnSetting::new(c"supabase_pat.judged_request");

#[derive(Default)]
struct State {
    /// Those of this transaction, each as it was after it had been judged.
    judged: Vec<Announcement>,
    settled: Option<Addresses>,
    counted: Vec<Uuid>,
    is_judging: bool,
}

static STATE: Local<Option<State>> = Local::new(None);

/// For which session user it is known whether it is guarded, and by which value of the setting.
static KNOWN: Local<(pg_sys::Oid, u64, bool)> = Local::new((pg_sys::InvalidOid, 0, false));

static NEXT_PLANNER: Local<pg_sys::planner_hook_type> = Local::new(None);
static NEXT_START: Local<pg_sys::ExecutorStart_hook_type> = Local::new(None);
static NEXT_UTILITY: Local<pg_sys::ProcessUtility_hook_type> = Local::new(None);
static NEXT_ACCESS: Local<pg_sys::object_access_hook_type> = Local::new(None);

pub fn define() {
    JUDGED.define(c"Which request has been judged in this transaction. Nobody can set it.");
}

/// Called once, while the library is preloaded.
pub fn install() {
    // SAFETY: called once, before there is any backend.
    unsafe {
        *NEXT_PLANNER.get() = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(planner);
        *NEXT_START.get() = pg_sys::ExecutorStart_hook;
        pg_sys::ExecutorStart_hook = Some(executor_start);
        *NEXT_UTILITY.get() = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility);
        *NEXT_ACCESS.get() = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(object_access);
        pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(at_subtransaction_end), std::ptr::null_mut());
    }
}

/// Whether this session is that of a guarded login.
#[inline(always)]
pub fn is_guarded() -> bool {
    // SAFETY: numbers of this backend.
    unsafe {
        let user = pg_sys::GetSessionUserId();
        let (known, generation, is_guarded) = *KNOWN.get();
        if known == user && generation == settings::guarded_logins_generation() {
            return is_guarded;
        }
        find_out(user)
    }
}

#[cold]
fn find_out(user: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system caches, in a transaction; else it is found out later.
    unsafe {
        if !pg_sys::IsTransactionState() || pg_sys::ParallelWorkerNumber >= 0 {
            return false;
        }
        let name = pg_sys::GetUserNameFromId(user, true);
        let is_guarded = !name.is_null()
            && settings::guarded_logins()
                .iter()
                .any(|login| login.as_c_str() == CStr::from_ptr(name));
        *KNOWN.get() = (user, settings::guarded_logins_generation(), is_guarded);
        is_guarded
    }
}

/// Whether the present request has been judged by the guard.
pub fn has_judged() -> bool {
    is_guarded() && is_settled(true)
}

/// Whether a request of the token was admitted before in this transaction.
pub fn was_counted(token: Uuid) -> bool {
    // SAFETY: the reference is gone at the end of the line.
    is_guarded() && unsafe { state() }.counted.contains(&token)
}

/// Notes that a request of the token was admitted. One that was refused is counted again: its transaction may go on
/// behind a savepoint.
pub fn note_counted(token: Uuid) {
    if is_guarded() {
        // SAFETY: the reference is gone at the end of the line.
        unsafe { state() }.counted.push(token);
    }
}

/// # Safety
/// The reference must be dropped before Postgres is called.
unsafe fn state<'a>() -> &'a mut State {
    // SAFETY: as the caller promises.
    unsafe { STATE.get() }.get_or_insert_default()
}

impl Announcement {
    fn present() -> Self {
        Self {
            // SAFETY: it only reads.
            role: unsafe { pg_sys::GetOuterUserId() },
            identity: run::with_request(|request| Rc::clone(&request.identity)),
            http: HTTP.map(|name| guc::setting(name).map(String::into_boxed_str)),
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.role == other.role
            && Rc::ptr_eq(&self.identity, &other.identity)
            && self.http == other.http
    }
}

impl Addresses {
    fn present() -> Self {
        Self {
            // SAFETY: it only reads.
            role: unsafe { pg_sys::GetOuterUserId() },
            values: values(),
            judged: JUDGED.address(),
        }
    }
}

/// Where the settings are, as far as they exist: to find one takes a search, for 40 ns and more.
static VARIABLES: Local<[Option<Variable>; 1 + HTTP.len()]> = Local::new([None; 1 + HTTP.len()]);

fn values() -> [*mut c_char; 1 + HTTP.len()] {
    const NAMES: [&CStr; 1 + HTTP.len()] = [CLAIMS, HTTP[0], HTTP[1], HTTP[2]];
    // SAFETY: nothing is called that could come back here.
    let variables = unsafe { VARIABLES.get() };
    std::array::from_fn(|place| {
        let variable = &mut variables[place];
        if variable.is_none() {
            *variable = Variable::find(NAMES[place]);
        }
        variable.map_or(std::ptr::null_mut(), Variable::value)
    })
}

/// Whether there is nothing to judge: nothing is announced, or what is announced has been judged. `is_exact` is for
/// statements of the client's own: there the values count, and not where they are.
fn is_settled(is_exact: bool) -> bool {
    let addresses = Addresses::present();
    // SAFETY: the references are gone at the end of each line.
    if unsafe { state() }.is_judging {
        return true;
    }
    // SAFETY: as above.
    if !is_exact && unsafe { state() }.settled == Some(addresses) {
        return true;
    }
    if !is_announced(&addresses) || relations::extension_owner().is_none() {
        return true;
    }
    let Some(number) = JUDGED.text().and_then(|text| text.parse::<usize>().ok()) else {
        return false;
    };
    let present = Announcement::present();
    // SAFETY: nothing is called that could come back here.
    let state = unsafe { state() };
    let is_judged = state
        .judged
        .get(number.wrapping_sub(1))
        .is_some_and(|judged| judged.is(&present));
    if is_judged {
        state.settled = Some(addresses);
    }
    is_judged
}

/// Whether anything tells of a request: a role that is not the login's, claims, or a method.
fn is_announced(addresses: &Addresses) -> bool {
    let has_value = |value: *mut c_char| {
        // SAFETY: null, or a C string of Postgres's.
        !value.is_null() && unsafe { *value } != 0
    };
    // SAFETY: it only reads.
    addresses.role != unsafe { pg_sys::GetSessionUserId() }
        || has_value(addresses.values[0])
        || has_value(addresses.values[1])
        || guc::setting(c"request.jwt.claim.sub").is_some()
}

/// Notes that what is announced now has been judged.
pub fn note_judged() -> Result<(), Error> {
    let present = Announcement::present();
    let number = {
        // SAFETY: nothing is called that could come back here.
        let judged = &mut unsafe { state() }.judged;
        judged.push(present);
        judged.len()
    };
    JUDGED.set(&number.to_string())
}

/// Judges what is announced, and raises an error if the request is refused.
///
/// # Safety
/// Called in the frame of a hook, without a guard and without anything that needs dropping.
unsafe fn judge(when: When) {
    // SAFETY: as the caller promises.
    unsafe { raise::carry_out(judged(when as c_int)) };
}

#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn judged(when: c_int) -> Decision {
    use pgrx::pg_sys::panic::ErrorReportable;
    /// Also if an error gets past it.
    struct Judging;
    impl Drop for Judging {
        fn drop(&mut self) {
            // SAFETY: nothing is called that could come back here.
            unsafe { state() }.is_judging = false;
        }
    }
    let when = match when == When::Late as c_int {
        true => When::Late,
        false => When::InTime,
    };
    reported(|| {
        // SAFETY: as above.
        unsafe { state() }.is_judging = true;
        let _judging = Judging;
        match super::judge(when)? {
            Some(raised) => Ok(Decision::Refused(raised)),
            None => {
                note_judged()?;
                Ok(Decision::Admitted(pg_sys::InvalidOid))
            }
        }
    })
    .unwrap_or_report()
}

/// After each outermost statement.
///
/// # Safety
/// Called in the frame of a hook, without a guard and without anything that needs dropping.
#[inline(always)]
pub unsafe fn after_outermost() {
    // SAFETY: as the caller promises.
    unsafe {
        if is_guarded() && is_request() {
            judge(When::InTime);
        }
    }
}

/// Whether there is a request with a method that has not been judged.
#[pg_guard]
unsafe extern "C-unwind" fn is_request() -> bool {
    guc::setting(HTTP[0]).is_some() && !is_settled(true)
}

/// Before a statement. `is_exact` as in [`is_settled`].
#[inline(always)]
unsafe fn before_statement() {
    // SAFETY: called in the frames of hooks without anything that needs dropping.
    unsafe {
        if is_guarded() && !has_been_settled() {
            judge(When::Late);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn has_been_settled() -> bool {
    is_settled(run::is_outermost())
}

unsafe extern "C-unwind" fn planner(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: Postgres passes what it would pass to the planner.
    unsafe {
        before_statement();
        match *NEXT_PLANNER.get() {
            Some(next) => next(query, text, options, parameters),
            None => unguarded::standard_planner(query, text, options, parameters),
        }
    }
}

unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: as above.
    unsafe {
        before_statement();
        match *NEXT_START.get() {
            Some(next) => next(query, flags),
            None => unguarded::standard_ExecutorStart(query, flags),
        }
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
    // SAFETY: as above.
    unsafe {
        if !only_prepares(statement) {
            before_statement();
        }
        match *NEXT_UTILITY.get() {
            Some(next) => next(
                statement,
                text,
                is_read_only,
                context,
                parameters,
                environment,
                destination,
                completion,
            ),
            None => unguarded::standard_ProcessUtility(
                statement,
                text,
                is_read_only,
                context,
                parameters,
                environment,
                destination,
                completion,
            ),
        }
    }
}

/// Whether a command only begins, ends or sets up what may follow, and shows nothing of a table.
unsafe fn only_prepares(statement: *mut pg_sys::PlannedStmt) -> bool {
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

/// For a function that is called by itself, in the fast-path protocol: nothing is planned or started for it.
unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    part: c_int,
    argument: *mut c_void,
) {
    // SAFETY: as above.
    unsafe {
        if access == pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE
            && pg_sys::ActivePortal.is_null()
        {
            before_statement();
        }
        if let Some(next) = *NEXT_ACCESS.get() {
            next(access, class, object, part, argument);
        }
    }
}

unsafe extern "C-unwind" fn at_transaction_end(event: pg_sys::XactEvent::Type, _: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if matches!(event, XACT_EVENT_ABORT | XACT_EVENT_COMMIT | XACT_EVENT_PREPARE)
        // SAFETY: no code of ours that holds a reference ends a transaction.
        && let Some(state) = unsafe { STATE.get() }
    {
        state.judged.clear();
        state.counted.clear();
        state.settled = None;
        state.is_judging = false;
    }
}

unsafe extern "C-unwind" fn at_subtransaction_end(
    event: pg_sys::SubXactEvent::Type,
    _subtransaction: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB
        // SAFETY: as above.
        && let Some(state) = unsafe { STATE.get() }
    {
        state.settled = None;
        state.is_judging = false;
    }
}

mod unguarded {
    use super::{c_char, c_int, pg_sys};

    unsafe extern "C-unwind" {
        pub fn standard_planner(
            query: *mut pg_sys::Query,
            text: *const c_char,
            options: c_int,
            parameters: pg_sys::ParamListInfo,
        ) -> *mut pg_sys::PlannedStmt;
        pub fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
        pub fn standard_ProcessUtility(
            statement: *mut pg_sys::PlannedStmt,
            text: *const c_char,
            is_read_only: bool,
            context: pg_sys::ProcessUtilityContext::Type,
            parameters: pg_sys::ParamListInfo,
            environment: *mut pg_sys::QueryEnvironment,
            destination: *mut pg_sys::DestReceiver,
            completion: *mut pg_sys::QueryCompletion,
        );
    }
}
