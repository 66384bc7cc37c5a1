//! What a token with a list of scopes reaches: each table and view that is touched with the rights of the request needs
//! the scope for it, wherever the statement comes from.
//!
//! # Whose rights
//! As Postgres asks for privileges. In a SECURITY DEFINER function, in a foreign key's own query and in ours somebody
//! else is the user, and nothing is asked. Behind a view with its owner's rights the entry of each table says whom
//! Postgres asks. What is left is the request's.
//!
//! # What only a policy reads
//! When a statement is executed, Postgres has one flat list of all that it touches, policies' tables included, without
//! a word on where they came from. Before it is planned they stand apart. So they are marked there, by a number in a
//! field of the entry that means something for other kinds of entries alone ([`marks::Mark`]), which is carried into the plan,
//! and with it into every copy that is kept. The planner takes no notice of it. What has no mark needs a scope: so a plan
//! that was made before there were marks is refused rather than let through.
//!
//! A function in FROM may be put in place of its call while planning. Its tables would come in without marks, and
//! those of their policies too; so that is done first, by the planner's own function, which then finds nothing left.
//!
//! # When it is asked
//! At each start of the executor, where Postgres asks for its own privileges, and in COPY: plans are kept while tokens
//! change. For what has no scopes, this is a comparison.
//!
//! # Functions that are called as columns
//! PostgREST and its like call a function with a row as its argument as if it were a column, or a table, of that row's
//! table. One that runs with the rights of its owner may do what it likes, and the path says nothing of it. So it needs
//! the scope that it needs when it is called by its path. What calls it from a view or a policy is its owner's doing.
//!
//! Marks are made from the first token with scopes on that a backend sees. Others never pay for them.
//!
//! # Safety
//! As in [`crate::request::run`]: errors of other people's statements pass through the hooks as they are, so these have
//! no guard of pgrx's and hold nothing that needs dropping. The walk calls what may raise an error, and has neither.
#![allow(unsafe_code)]

mod commands;
pub mod explain;
mod marks;

use std::ffi::{CStr, c_char, c_int};

use pgrx::{pg_guard, pg_sys};
use supabase_pat_core::claims::Credential;
use supabase_pat_core::refusal::{Done, Refusal};
use supabase_pat_core::route::{Access, Needed};
use supabase_pat_core::scope::Scopes;

use super::raise::{self, Decision, Raised};
use super::row_errors;
use super::usage::{self, Bearer};
use crate::pg::{Local, memory, rights, settings, unguarded};
use crate::request::admitted;
use crate::request::http::Origin;
use crate::request::run;
use marks::{Mark, Permissions, Wanted, elements, mark, wanted_by};
/// Whether marks are made.
static IS_WATCHING: Local<bool> = Local::new(false);

static NEXT_PLANNER: Local<pg_sys::planner_hook_type> = Local::new(None);
static NEXT_START: Local<pg_sys::ExecutorStart_hook_type> = Local::new(None);
static NEXT_CHECK: Local<pg_sys::ExecutorCheckPerms_hook_type> = Local::new(None);

/// Beside Postgres's own flags of what is being executed: it started when scopes were asked for.
const ASKED: c_int = 1 << 30;

/// In a parallel worker, how many statements are just being started, one within the other.
static STARTING: Local<u32> = Local::new(0);

const WRITING: pg_sys::AclMode = (pg_sys::ACL_INSERT | pg_sys::ACL_UPDATE) as pg_sys::AclMode;
const DELETING: pg_sys::AclMode = (pg_sys::ACL_DELETE | pg_sys::ACL_TRUNCATE) as pg_sys::AclMode;
const READING: pg_sys::AclMode = pg_sys::ACL_SELECT as pg_sys::AclMode;

pub fn install() {
    // SAFETY: called once, from _PG_init.
    unsafe {
        *NEXT_PLANNER.get() = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(planner);
        *NEXT_START.get() = pg_sys::ExecutorStart_hook;
        pg_sys::ExecutorStart_hook = Some(executor_start);
        *NEXT_CHECK.get() = pg_sys::ExecutorCheckPerms_hook;
        pg_sys::ExecutorCheckPerms_hook = Some(check_permissions);
    }
    commands::install();
}

/// From now on plans have marks; those that are kept have none, and are made anew.
pub fn watch() {
    // SAFETY: nothing is called that could come back here. As at any message that changes what plans rest on.
    unsafe {
        if !std::mem::replace(IS_WATCHING.get(), true) {
            pg_sys::ResetPlanCache();
        }
    }
}

/// Whether what is about to happen is done with the rights of a request that has scopes.
#[inline(always)]
unsafe fn is_limited() -> bool {
    // SAFETY: it only reads.
    admitted::has_scopes() && unsafe { is_of_request() }
}

#[cold]
unsafe fn is_of_request() -> bool {
    // SAFETY: it only reads.
    unsafe {
        // For its part of a statement the leader of a parallel worker has been asked, but not for the statements of
        // functions that the worker calls, be it while its own part starts.
        let is_asked_for =
            pg_sys::ParallelWorkerNumber >= 0 && run::is_outermost() && *STARTING.get() <= 1;
        // The owner of a table is whose rights a foreign key has. That may be the role of the request, whose triggers
        // are nothing of the foreign key's.
        let is_of_foreign_key = unguarded::InNoForceRLSOperation() && !run::is_inside_foreign_key();
        (is_user_of_request() || is_role_of_requests(unguarded::GetUserId()))
            && !is_asked_for
            && !is_of_foreign_key
    }
}

/// Whether requests have that role, if not this one any more: what they have made gives no rights to others.
#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn is_role_of_requests(role: pg_sys::Oid) -> bool {
    // SAFETY: it only reads. In a transaction that has failed nothing can be looked up.
    if !unsafe { pg_sys::IsTransactionState() } {
        return false;
    }
    memory::with_room(|| {
        let roles = [settings::authenticated_role(), settings::anon_role()];
        roles.iter().any(|name| rights::role(name) == Some(role))
    })
}

/// Whether scopes were asked for when the execution started.
///
/// # Safety
/// An execution that has started.
#[inline(always)]
pub unsafe fn was_asked(query: *mut pg_sys::QueryDesc) -> bool {
    // SAFETY: as the caller promises.
    unsafe { (*(*query).estate).es_top_eflags & ASKED != 0 }
}

unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: Postgres passes what it would pass to the executor.
    unsafe {
        let is_worker = pg_sys::ParallelWorkerNumber >= 0;
        let plan = (*query).plannedstmt;
        let calls_for_rows = || marks::functions_in((*plan).invalItems).next().is_some();
        if is_limited() && calls_for_rows() && !is_worker && !run::is_nested() {
            raise::carry_out(judge_calls(plan));
        }
        // An error ends the worker.
        *STARTING.get() += u32::from(is_worker);
        match *NEXT_START.get() {
            Some(next) => next(query, flags),
            None => unguarded::standard_ExecutorStart(query, flags),
        }
        *STARTING.get() -= u32::from(is_worker);
        if admitted::has_scopes() {
            (*(*query).estate).es_top_eflags |= ASKED;
        }
    }
}

/// Asks for the scopes of functions that the client calls as columns.
#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn judge_calls(plan: *mut pg_sys::PlannedStmt) -> Decision {
    memory::with_room(|| {
        let Some(scopes) = admitted::scopes() else {
            return ADMITTED;
        };
        // SAFETY: Postgres passes what it starts.
        let mut called = unsafe { marks::functions_in((*plan).invalItems) };
        decision(called.find_map(|function| {
            let function = Definer::of(function)?;
            Some(function.refusal(function.missing(&scopes)?))
        }))
    })
}

/// Whether the rights in force are those of the request, and not those of the owner of a function, say.
pub fn is_user_of_request() -> bool {
    // SAFETY: it only reads.
    unsafe { unguarded::GetUserId() == unguarded::GetOuterUserId() }
}

/// Whether the scopes in force let a table be read.
pub fn may_read(schema: String, name: String) -> bool {
    let table = Table { schema, name };
    admitted::scopes().is_none_or(|scopes| table.missing(&scopes, Access::Read).is_none())
}

unsafe extern "C-unwind" fn planner(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: Postgres passes what it would pass to the planner.
    unsafe {
        // A parallel worker has never been told to watch.
        let global = match *IS_WATCHING.get() || admitted::has_scopes() {
            true => mark(query, parameters),
            false => std::ptr::null_mut(),
        };
        let plan = match *NEXT_PLANNER.get() {
            Some(next) => next(query, text, options, parameters),
            None => unguarded::standard_planner(query, text, options, parameters),
        };
        if !global.is_null() {
            (*plan).invalItems = unguarded::list_concat((*plan).invalItems, (*global).invalItems);
            (*plan).dependsOnRole |= (*global).dependsOnRole;
        }
        plan
    }
}

macro_rules! check_permissions_hook {
    ($permissions:expr, $($argument:ident: $type:ty),*) => {
        unsafe extern "C-unwind" fn check_permissions(
            entries: *mut pg_sys::List,
            $($argument: $type,)*
            raises: bool,
        ) -> bool {
            // SAFETY: Postgres passes a flat range table.
            unsafe {
                if let Some(next) = *NEXT_CHECK.get()
                    && !next(entries, $($argument,)* raises)
                {
                    return false;
                }
                if !is_limited() {
                    return true;
                }
                match judge_entries(entries, $permissions) {
                    Decision::Refused(_) if !raises => false,
                    decision => {
                        raise::carry_out(decision);
                        true
                    }
                }
            }
        }
    };
}

#[cfg(feature = "pg15")]
check_permissions_hook!(std::ptr::null_mut(),);
#[cfg(not(feature = "pg15"))]
check_permissions_hook!(permissions, permissions: *mut pg_sys::List);

#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn judge_entries(
    entries: *mut pg_sys::List,
    permissions: Permissions,
) -> Decision {
    memory::with_room(|| {
        let Some(scopes) = admitted::scopes() else {
            return ADMITTED;
        };
        row_errors::listen();
        // SAFETY: as the caller promises.
        let refusal = unsafe {
            elements(entries).find_map(|entry| {
                let wanted = wanted_by(entry, permissions)?;
                match is_of_role_in_force(&wanted) {
                    true => refusal_of(&scopes, wanted, (*entry).ctelevelsup),
                    false => {
                        note_blind_write(&scopes, &wanted);
                        None
                    }
                }
            })
        };
        decision(refusal)
    })
}

const ADMITTED: Decision = Decision::Admitted(pg_sys::InvalidOid);

fn decision(refusal: Option<Refusal>) -> Decision {
    let Some(refusal) = refusal else {
        return ADMITTED;
    };
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

/// Whether something is asked of the role in force. What that role has made itself, a view for instance, has no other
/// rights than the request.
fn is_of_role_in_force(wanted: &Wanted) -> bool {
    // SAFETY: it only reads.
    unsafe {
        wanted.user == pg_sys::InvalidOid
            || wanted.user == unguarded::GetUserId()
            || is_role_of_requests(wanted.user)
    }
}

/// Hides what errors would show, if something is written that the token may not read, also behind a view of its owner's.
fn note_blind_write(scopes: &Scopes, wanted: &Wanted) {
    if wanted.permissions & (WRITING | DELETING) != 0
        && Table::of(wanted.relation)
            .is_some_and(|table| table.missing(scopes, Access::Read).is_some())
    {
        row_errors::hide();
    }
}

fn refusal_of(scopes: &Scopes, wanted: Wanted, mark: u32) -> Option<Refusal> {
    let is = |one: Mark| mark == one as u32;
    if is(Mark::Policy) {
        return None;
    }
    let table = Table::of(wanted.relation)?;
    let refusal = accesses(wanted.permissions, mark).find_map(|access| {
        let scope = table.missing(scopes, access)?;
        Some(match access == Access::Read && is(Mark::Returned) {
            true => Refusal::ReadingMissing(scope),
            false => table.refusal(scope),
        })
    });
    if refusal.is_none() {
        note_blind_write(scopes, &wanted);
    }
    refusal
}

/// What is done to a table, reading last if that is for what is returned.
fn accesses(permissions: pg_sys::AclMode, mark: u32) -> impl Iterator<Item = Access> {
    let is = |one: Mark| mark == one as u32;
    let wants = |some| permissions & some != 0;
    // Of what is locked to be changed later Postgres asks for changing too, and of the target of a write for reading.
    let is_target = is(Mark::Target) || is(Mark::Returned);
    [
        (wants(READING) && !is_target, Access::Read),
        (wants(WRITING), Access::Write),
        (wants(DELETING), Access::Delete),
        (is(Mark::Returned), Access::Read),
    ]
    .into_iter()
    .filter_map(|(is_done, access)| is_done.then_some(access))
}

/// A schema that scopes name.
fn unless_default(schema: &str) -> Option<&str> {
    Some(schema).filter(|&name| name != settings::default_schema())
}

/// The scope that a token lacks for what needs one.
fn missing(needed: Needed, scopes: &Scopes) -> Option<String> {
    match needed {
        needed if needed.is_granted_by(scopes) => None,
        Needed::Scope(scope, _) => Some(scope.to_string()),
        _ => None,
    }
}

/// A table or view that needs a scope.
struct Table {
    schema: String,
    name: String,
}

impl Table {
    /// `None` for Postgres's own, but those that show values of other tables, for the extension's, and for what a
    /// session has made for itself.
    fn of(relation: pg_sys::Oid) -> Option<Self> {
        const SHOW_VALUES: [&str; 3] = ["pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"];
        // SAFETY: look-ups in the system caches, whose answers are copied at once.
        let (schema, name) = unsafe {
            let schema = pg_sys::get_rel_namespace(relation);
            if pg_sys::isAnyTempNamespace(schema) {
                return None;
            }
            (
                text(pg_sys::get_namespace_name(schema))?,
                text(pg_sys::get_rel_name(relation))?,
            )
        };
        let is_postgres_own = relation.to_u32() < pg_sys::FirstNormalObjectId;
        let is_free = schema == "pat" || is_postgres_own && !SHOW_VALUES.contains(&name.as_str());
        (!is_free).then_some(Self { schema, name })
    }

    fn needed(&self, access: Access) -> Needed {
        Needed::of_table(unless_default(&self.schema), &self.name, access)
    }

    /// The scope that the token lacks to do that.
    fn missing(&self, scopes: &Scopes, access: Access) -> Option<String> {
        missing(self.needed(access), scopes)
    }

    fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn refusal(&self, scope: String) -> Refusal {
        Refusal::ScopeMissing {
            scope,
            done: Some(Done::Touches(self.full_name())),
        }
    }
}

/// A function that runs with the rights of its owner.
struct Definer {
    schema: String,
    name: String,
}

impl Definer {
    /// `None` for any other function.
    fn of(function: pg_sys::Oid) -> Option<Self> {
        if !rights::is_security_definer(function)? {
            return None;
        }
        // SAFETY: look-ups in the system caches, whose answers are copied at once.
        unsafe {
            let schema = pg_sys::get_func_namespace(function);
            Some(Self {
                schema: text(pg_sys::get_namespace_name(schema))?,
                name: text(pg_sys::get_func_name(function))?,
            })
        }
    }

    fn needed(&self) -> Needed {
        Needed::of_call(unless_default(&self.schema), &self.name)
    }

    /// The scope that the token lacks to call it.
    fn missing(&self, scopes: &Scopes) -> Option<String> {
        missing(self.needed(), scopes)
    }

    fn refusal(&self, scope: String) -> Refusal {
        Refusal::ScopeMissing {
            scope,
            done: Some(Done::Calls(format!("{}.{}", self.schema, self.name))),
        }
    }
}

/// A name of Postgres's.
unsafe fn text(name: *const c_char) -> Option<String> {
    if name.is_null() {
        return None;
    }
    // SAFETY: a C string.
    let name = unsafe { CStr::from_ptr(name) };
    Some(name.to_string_lossy().into_owned())
}
