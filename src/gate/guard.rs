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
//! A cursor or portal that has been opened goes on without a start, even at COMMIT, where it is WITH HOLD: so there is
//! a look before each run as well.
//!
//! # What was judged
//! The role, the claims and what HTTP says of the request. Which of those that were judged in this transaction holds now
//! is in a setting that nobody else can set, so a savepoint that is rolled back brings the one before back. If anything
//! of it changes, the request is judged again. A token is counted once in a transaction, however often that is.
//!
//! A function of the database may act for somebody else: it changes the claims within a statement, be it as a trigger at
//! the end of it or as a pre-request function. These are judged as they are, and an opaque token in the headers, which has
//! become claims by then, does not take them back.
//!
//! # What it costs
//! Other logins pay for a comparison of two numbers in each hook. Guarded ones pay for another two: Postgres is made to
//! tell of each change of these settings ([`guc::watch`]), so nothing is compared as long as their number stays.
//! From Postgres 16 on, those that do not exist are looked for: one, where a server announces as PostgREST does.
//!
//! # Safety
//! As in [`crate::request::run`]: errors of other people's statements must pass through the hooks as they are, so the
//! hooks have no guard of pgrx's and hold nothing that needs dropping.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::rc::Rc;

use pgrx::{pg_guard, pg_sys};
use supabase_pat_core::claims::Identity;
use supabase_pat_core::error::Error;
use supabase_pat_core::refusal::Refusal;
use uuid::Uuid;

use super::coming::{Coming, executes, only_announces, only_prepares};
use super::raise::{self, Decision, Raised};
use super::reach;
use crate::pg::error::reported;
use crate::pg::guc::{self, Moment, OwnSetting, Watch};
use crate::pg::hooks::utility_hook;
use crate::pg::{Local, memory, relations, settings, unguarded};
use crate::request::{admitted, run};

/// Whether there is still time for all that a judgement may do.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum When {
    /// What comes is planned for whoever the request becomes.
    InTime,
    /// What is about to run has been planned for the role in force.
    Late,
    /// A function of the database has changed what was announced, in a request that has been judged.
    Within,
}

/// What a server has told of a request.
struct Announcement {
    role: pg_sys::Oid,
    identity: Rc<Identity>,
    http: [Option<Box<str>>; HTTP.len()],
}

const HTTP: [&CStr; 3] = [c"request.method", c"request.path", c"request.headers"];
const HEADERS: usize = 2;

/// What tells of a request, besides the role. The rest of the claims that are settings of their own do not do so alone.
const TELLING: [&CStr; 5] = [
    c"request.jwt.claims",
    HTTP[0],
    HTTP[1],
    HTTP[HEADERS],
    c"request.jwt.claim.sub",
];

/// While this stays the same, so does what is announced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    role: pg_sys::Oid,
    moment: Moment,
}

/// The number of the announcement in [`State::judged`] that holds now, counted from one.
static JUDGED: OwnSetting = OwnSetting::new(c"supabase_pat.judged_request");

/// How many announcements are kept. If a savepoint brings back one that is not, it is judged again.
const KEPT: usize = 8;

#[derive(Default)]
struct State {
    /// The last ones of this transaction, each as it was after it had been judged.
    judged: VecDeque<Announcement>,
    /// How many there were before these.
    forgotten: usize,
    /// When what was announced was last found to have been judged.
    settled: Option<Seen>,
    counted: Vec<Uuid>,
    is_judging: bool,
    /// Whether the request of this transaction has come to have scopes.
    has_scopes: bool,
}

static STATE: Local<Option<State>> = Local::new(None);

/// For which session user it is known whether it is guarded, and by which value of the setting. 0 is that of none.
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
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::AUTHOID as c_int,
            Some(roles_changed),
            pg_sys::Datum::from(0),
        );
    }
}

/// A role may have another name.
unsafe extern "C-unwind" fn roles_changed(_: pg_sys::Datum, _cache: c_int, _hash: u32) {
    // SAFETY: a number of this backend.
    unsafe { KNOWN.get().1 = 0 };
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
#[pg_guard]
unsafe extern "C-unwind" fn find_out(user: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system caches, in a transaction; else it is found out later.
    memory::with_room(|| unsafe {
        if !pg_sys::IsTransactionState() || pg_sys::ParallelWorkerNumber >= 0 {
            return false;
        }
        let name = pg_sys::GetUserNameFromId(user, true);
        let is_guarded = match name.is_null() {
            false => settings::guarded_logins()
                .iter()
                .any(|login| login.as_c_str() == CStr::from_ptr(name)),
            // Sessions outlive a role that is dropped.
            true => *KNOWN.get() == (user, 0, true),
        };
        *KNOWN.get() = (user, settings::guarded_logins_generation(), is_guarded);
        is_guarded
    })
}

/// Whether the present request has been judged by the guard.
pub fn has_judged() -> bool {
    is_guarded() && is_settled()
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
}

/// Which of [`TELLING`] exist, so that each of their changes is counted.
static WATCHED: Local<[bool; TELLING.len()]> = Local::new([false; TELLING.len()]);

/// When those that did not exist were last looked for.
static SEARCHED: Local<Moment> = Local::new(Moment::NEVER);

impl Seen {
    /// `None` where changes could come unseen.
    fn now() -> Option<Self> {
        // SAFETY: the reference is gone at the end of the line.
        if !Moment::now().has_settings_of(unsafe { *SEARCHED.get() }) {
            if !Self::watch_all() {
                return None;
            }
            // SAFETY: as above.
            unsafe { *SEARCHED.get() = Moment::now() };
        }
        Some(Self {
            // SAFETY: it only reads.
            role: unsafe { pg_sys::GetOuterUserId() },
            moment: Moment::now(),
        })
    }

    /// Watches the settings that are there. False if one cannot be watched.
    fn watch_all() -> bool {
        for (place, name) in TELLING.into_iter().enumerate() {
            // SAFETY: the references are gone at the end of each line.
            if unsafe { WATCHED.get()[place] } {
                continue;
            }
            match guc::watch(name) {
                Watch::Missing => (),
                // SAFETY: as above.
                Watch::Watched => unsafe { WATCHED.get()[place] = true },
                Watch::Unwatched => return false,
            }
        }
        true
    }
}

impl State {
    fn judged(&self, number: usize) -> Option<&Announcement> {
        self.judged.get(number.checked_sub(self.forgotten + 1)?)
    }

    /// Keeps an announcement, and returns its number.
    fn keep(&mut self, judged: Announcement) -> usize {
        if self.judged.len() == KEPT {
            self.judged.pop_front();
            self.forgotten += 1;
        }
        self.judged.push_back(judged);
        self.forgotten + self.judged.len()
    }
}

/// The number of the announcement that holds now, if one has been judged.
fn number_judged() -> Option<usize> {
    JUDGED.text()?.parse().ok()
}

/// Whether there is nothing to judge: nothing is announced, or what is announced has been judged.
fn is_settled() -> bool {
    let seen = Seen::now();
    // SAFETY: the references are gone at the end of each line.
    if unsafe { state() }.is_judging {
        return true;
    }
    // SAFETY: as above.
    if seen.is_some() && unsafe { state() }.settled == seen {
        return true;
    }
    let is_settled = !is_announced() || is_judged();
    if is_settled {
        // SAFETY: as above.
        unsafe { state() }.settled = seen;
    }
    is_settled || relations::extension_owner().is_none()
}

/// Whether what is announced is what was judged.
fn is_judged() -> bool {
    let Some(number) = number_judged() else {
        return false;
    };
    let identity = run::with_request(|request| Rc::clone(&request.identity));
    // SAFETY: it only reads.
    let role = unsafe { pg_sys::GetOuterUserId() };
    // SAFETY: nothing is called that could come back here.
    let judged = unsafe { state() }.judged(number);
    judged.is_some_and(|judged| {
        judged.role == role
            && Rc::ptr_eq(&judged.identity, &identity)
            && (HTTP.iter().zip(&judged.http))
                .all(|(name, text)| guc::is_set_to(name, text.as_deref()))
    })
}

/// Whether anything tells of a request: a role that is not the login's, or a setting.
fn is_announced() -> bool {
    // SAFETY: it only reads.
    let has_role = unsafe { pg_sys::GetOuterUserId() != pg_sys::GetSessionUserId() };
    has_role || TELLING.into_iter().any(guc::is_set)
}

/// Notes that what is announced now has been judged.
pub fn note_judged() -> Result<(), Error> {
    // In a parallel plan no setting can be changed, but by a function with settings of its own: what that sets is judged
    // again whenever it is called.
    // SAFETY: it only reads.
    if !unsafe { pg_sys::IsInParallelMode() } {
        let present = Announcement::present();
        // SAFETY: nothing is called that could come back here.
        let number = unsafe { state() }.keep(present);
        JUDGED.set(&number.to_string())?;
    }
    // So that the next statement need not compare it.
    let seen = Seen::now();
    // SAFETY: as above.
    unsafe { state() }.settled = seen;
    Ok(())
}

/// Whether a request has been judged that has the same headers.
fn has_judged_headers() -> bool {
    number_judged().is_some_and(|number| {
        // SAFETY: nothing is called that could come back here.
        let judged = unsafe { state() }.judged(number);
        judged.is_some_and(|judged| guc::is_set_to(HTTP[HEADERS], judged.http[HEADERS].as_deref()))
    })
}

/// Where in the course of a request there is something to judge.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
enum Place {
    /// Before a statement, or a part of it.
    Before,
    /// After a statement that only announces.
    AfterAnnouncement,
    /// After any other.
    After,
}

impl Place {
    fn when(self) -> When {
        use Place::*;
        // Whatever else than an announcement changes what was announced does so as a part of the request.
        let is_within = run::is_nested() || self == After;
        match self {
            _ if is_within && has_judged_headers() => When::Within,
            Before => When::Late,
            AfterAnnouncement | After => When::InTime,
        }
    }
}

/// Judges what is announced, and raises an error if the request is refused.
///
/// # Safety
/// Called in the frame of a hook, without a guard and without anything that needs dropping.
unsafe fn judge(place: Place) {
    // SAFETY: as the caller promises.
    unsafe { raise::carry_out(judged(place)) };
}

#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn judged(place: Place) -> Decision {
    use pgrx::pg_sys::panic::ErrorReportable;
    /// Also if an error gets past it.
    struct Judging;
    impl Drop for Judging {
        fn drop(&mut self) {
            // SAFETY: nothing is called that could come back here.
            unsafe { state() }.is_judging = false;
        }
    }
    reported(|| {
        // SAFETY: as above.
        unsafe { state() }.is_judging = true;
        let _judging = Judging;
        let when = place.when();
        let had_scopes = admitted::has_scopes();
        match super::judge(when)? {
            Some(raised) => Ok(Decision::Refused(raised)),
            None => {
                if admitted::has_scopes() && !had_scopes && when != When::Within {
                    // SAFETY: as above.
                    unsafe { state() }.has_scopes = true;
                }
                note_judged()?;
                Ok(Decision::Admitted(pg_sys::InvalidOid))
            }
        }
    })
    .unwrap_or_report()
}

pub const AROUND: run::Around = run::Around {
    before: before_run,
    after_outermost,
};

/// After each outermost statement.
///
/// # Safety
/// Called in the frame of a hook, without a guard and without anything that needs dropping.
#[inline(always)]
unsafe fn after_outermost(plan: *mut pg_sys::PlannedStmt) {
    // SAFETY: as the caller promises.
    unsafe {
        if is_guarded() && is_request() {
            judge(after(plan));
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn after(plan: *mut pg_sys::PlannedStmt) -> Place {
    // SAFETY: Postgres passes what it has run.
    memory::with_room(|| match unsafe { only_announces(Coming::Plan(plan)) } {
        true => Place::AfterAnnouncement,
        false => Place::After,
    })
}

/// Whether there is a request with a method that has not been judged.
#[pg_guard]
unsafe extern "C-unwind" fn is_request() -> bool {
    memory::with_room(|| !is_settled() && guc::is_set(HTTP[0]))
}

/// Before each run of a plan.
///
/// # Safety
/// As [`after_outermost`].
#[inline(always)]
unsafe fn before_run(query: *mut pg_sys::QueryDesc) {
    // SAFETY: as the caller promises.
    unsafe {
        let plan = (*query).plannedstmt;
        before(Coming::Plan(plan));
        if admitted::has_scopes() && !reach::was_asked(query) && is_guarded() {
            raise::carry_out(not_asked(plan));
        }
    }
}

/// Refuses a cursor or portal that was opened before there were scopes, which are asked for when it starts. What only
/// announces needs none.
#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn not_asked(plan: *mut pg_sys::PlannedStmt) -> Decision {
    // SAFETY: the reference is gone at the end of the line; Postgres passes what it runs.
    memory::with_room(|| unsafe {
        match !state().has_scopes || only_announces(Coming::Plan(plan)) {
            true => Decision::Admitted(pg_sys::InvalidOid),
            false => Decision::Refused(Raised::by(&Refusal::TooLate)),
        }
    })
}

#[inline(always)]
unsafe fn before(coming: Coming) {
    // SAFETY: called in the frames of hooks without anything that needs dropping.
    unsafe {
        if is_guarded() && !may_go_on(coming) {
            judge(Place::Before);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn may_go_on(coming: Coming) -> bool {
    // SAFETY: Postgres passes what it plans and runs.
    memory::with_room(|| is_settled() || unsafe { only_announces(coming) })
}

unsafe extern "C-unwind" fn planner(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: Postgres passes what it would pass to the planner.
    unsafe {
        before(Coming::Query(query));
        match *NEXT_PLANNER.get() {
            Some(next) => next(query, text, options, parameters),
            None => unguarded::standard_planner(query, text, options, parameters),
        }
    }
}

unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: as above.
    unsafe {
        before(Coming::Plan((*query).plannedstmt));
        match *NEXT_START.get() {
            Some(next) => next(query, flags),
            None => unguarded::standard_ExecutorStart(query, flags),
        }
    }
}

utility_hook!(
    process_utility,
    NEXT_UTILITY,
    |statement| {
        if !only_prepares(statement) {
            before(Coming::Other);
        }
        match is_guarded() && executes(statement) {
            true => Some(run::begin_command()),
            false => None,
        }
    },
    |begun| if begun.is_some_and(run::end_command) && is_request() {
        judge(Place::After);
    }
);

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
            before(Coming::Other);
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
        state.forgotten = 0;
        state.counted.clear();
        state.settled = None;
        state.is_judging = false;
        state.has_scopes = false;
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
