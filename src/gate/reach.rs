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
//! field of the entry that means something for other kinds of entries alone ([`Mark`]), which is carried into the plan,
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
//! Marks are made from the first token with scopes on that a backend sees. Others never pay for them.
//!
//! # Safety
//! As in [`crate::request::run`]: errors of other people's statements pass through the hooks as they are, so these have
//! no guard of pgrx's and hold nothing that needs dropping. The walk calls what may raise an error, and has neither.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};

use pgrx::pg_sys::NodeTag::{self, *};
use pgrx::{PgList, pg_guard, pg_sys};
use supabase_pat_core::claims::Credential;
use supabase_pat_core::refusal::Refusal;
use supabase_pat_core::route::{Access, Needed};
use supabase_pat_core::scope::Scopes;

use super::raise::{self, Decision, Raised};
use super::row_errors;
use super::usage::{self, Bearer};
use crate::pg::{Local, settings};
use crate::request::admitted;
use crate::request::http::Origin;
use crate::request::run;

/// In `ctelevelsup`, which counts for references to common table expressions alone.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Mark {
    /// Only a policy reads it.
    Policy = 0x7061_7401,
    /// It is written, and nothing of it is returned but the key of what is inserted.
    Target = 0x7061_7402,
    /// It is written, and returned.
    Returned = 0x7061_7403,
}

/// Whether marks are made.
static IS_WATCHING: Local<bool> = Local::new(false);

static NEXT_PLANNER: Local<pg_sys::planner_hook_type> = Local::new(None);
static NEXT_CHECK: Local<pg_sys::ExecutorCheckPerms_hook_type> = Local::new(None);
static NEXT_UTILITY: Local<pg_sys::ProcessUtility_hook_type> = Local::new(None);

const WRITING: pg_sys::AclMode = (pg_sys::ACL_INSERT | pg_sys::ACL_UPDATE) as pg_sys::AclMode;
const DELETING: pg_sys::AclMode = (pg_sys::ACL_DELETE | pg_sys::ACL_TRUNCATE) as pg_sys::AclMode;
const READING: pg_sys::AclMode = pg_sys::ACL_SELECT as pg_sys::AclMode;

pub fn install() {
    // SAFETY: called once, from _PG_init.
    unsafe {
        *NEXT_PLANNER.get() = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(planner);
        *NEXT_CHECK.get() = pg_sys::ExecutorCheckPerms_hook;
        pg_sys::ExecutorCheckPerms_hook = Some(check_permissions);
        *NEXT_UTILITY.get() = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
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
        // functions that the worker calls.
        let is_asked_for = pg_sys::ParallelWorkerNumber >= 0 && run::is_outermost();
        // The owner of a table is whose rights a foreign key has. That may be the role of the request, whose triggers
        // are nothing of the foreign key's.
        let is_of_foreign_key = unguarded::InNoForceRLSOperation() && !run::is_inside_foreign_key();
        is_user_of_request() && !is_asked_for && !is_of_foreign_key
    }
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

/// Puts functions in FROM in place of their calls, and marks what is touched. Returns what the plan rests on besides.
unsafe fn mark(
    query: *mut pg_sys::Query,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannerGlobal {
    // SAFETY: nodes of their types, as far as the functions that are called look at them.
    unsafe {
        let global = new_node::<pg_sys::PlannerGlobal>(T_PlannerGlobal);
        (*global).boundParams = parameters;
        let root = new_node::<pg_sys::PlannerInfo>(T_PlannerInfo);
        (*root).glob = global;
        (*root).query_level = 1;
        let mut walk = Walk {
            root,
            is_in_policy: false,
            skipped: std::ptr::null_mut(),
            explained: std::ptr::null_mut(),
        };
        visit_query(query, &mut walk);
        global
    }
}

/// What a statement would be asked for, if the role in force made it for a token.
#[derive(Default)]
pub(super) struct Explained {
    pub tables: Vec<Asked>,
    /// That are called by the statement itself, and not by a policy.
    pub functions: Vec<pg_sys::Oid>,
    entries: Vec<(*mut pg_sys::RangeTblEntry, Permissions)>,
}

/// A table or view that is touched in some way, and what that needs.
pub(super) struct Asked {
    /// With its schema.
    pub table: String,
    pub access: Access,
    pub scope: String,
    pub is_in_scopes: bool,
    /// Whether Postgres itself lets the role in force do it.
    pub is_privileged: bool,
}

/// Marks a query as it would be marked before it is planned, and asks it as it would be asked when it starts. Functions
/// in FROM stay calls: putting them in their place would call immutable ones.
///
/// # Safety
/// A query that was rewritten for the role in force, and that is not used for anything else.
pub(super) unsafe fn explain(query: *mut pg_sys::Query, scopes: &Scopes) -> Explained {
    let mut explained = Explained::default();
    // SAFETY: as in `mark`. An error on the way leaves no more behind than the memory of the lists.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            let mut walk = Walk {
                root: new_node(T_PlannerInfo),
                is_in_policy: false,
                skipped: std::ptr::null_mut(),
                explained: &mut explained,
            };
            visit_query(query, &mut walk);
        });
        for (entry, permissions) in std::mem::take(&mut explained.entries) {
            let Some(wanted) = wanted_by(entry, permissions) else {
                continue;
            };
            let mark = (*entry).ctelevelsup;
            if mark == Mark::Policy as u32 || !is_of_role_in_force(&wanted) {
                continue;
            }
            let is_privileged = may_touch(entry, permissions);
            explained.tables.extend(
                accesses(wanted.permissions, mark)
                    .filter_map(|access| asked(wanted.relation, access, is_privileged, scopes)),
            );
        }
    }
    explained
}

/// What it takes to touch a table in a way. `None` for what needs no scope.
pub(super) fn asked(
    table: pg_sys::Oid,
    access: Access,
    is_privileged: bool,
    scopes: &Scopes,
) -> Option<Asked> {
    let table = Table::of(table)?;
    let needed = table.needed(access);
    let is_in_scopes = needed.is_granted_by(scopes);
    let Needed::Scope(scope, _) = needed else {
        return None;
    };
    Some(Asked {
        table: table.full_name(),
        access,
        scope: scope.to_string(),
        is_in_scopes,
        is_privileged,
    })
}

/// Whether Postgres itself allows what an entry asks for.
#[cfg(feature = "pg15")]
unsafe fn may_touch(entry: *mut pg_sys::RangeTblEntry, _: Permissions) -> bool {
    // SAFETY: a list of one entry.
    unsafe {
        let entries = pg_sys::lappend(std::ptr::null_mut(), entry.cast());
        pg_sys::ExecCheckRTPerms(entries, false)
    }
}

/// Whether Postgres itself allows what an entry asks for.
#[cfg(not(feature = "pg15"))]
unsafe fn may_touch(entry: *mut pg_sys::RangeTblEntry, permissions: Permissions) -> bool {
    // SAFETY: a list of one entry, and of what it asks for.
    unsafe {
        let info: *mut c_void = element(permissions, (*entry).perminfoindex as c_int);
        let permissions = pg_sys::lappend(std::ptr::null_mut(), info);
        let entries = pg_sys::lappend(std::ptr::null_mut(), entry.cast());
        pg_sys::ExecCheckPermissions(entries, permissions, false)
    }
}

unsafe fn new_node<T>(tag: NodeTag) -> *mut T {
    // SAFETY: memory of that size, filled with zeros, whose first field is the tag.
    unsafe {
        let node: *mut T = unguarded::palloc0(size_of::<T>()).cast();
        (*node.cast::<pg_sys::Node>()).type_ = tag;
        node
    }
}

struct Walk {
    root: *mut pg_sys::PlannerInfo,
    is_in_policy: bool,
    /// The conditions that policies have added to the entry that is being visited.
    skipped: *mut pg_sys::List,
    /// Where what is found is noted, if it is asked for now. Null for what is only marked.
    explained: *mut Explained,
}

unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, walk: *mut c_void) -> bool {
    // SAFETY: Postgres's walkers pass nodes of the tree, and the context.
    unsafe {
        let context = &mut *walk.cast::<Walk>();
        if node.is_null() || node == context.skipped.cast() {
            return false;
        }
        match (*node).type_ {
            T_Query => visit_query(node.cast(), context),
            T_FuncExpr if !context.explained.is_null() && !context.is_in_policy => {
                let function = (*node.cast::<pg_sys::FuncExpr>()).funcid;
                (*context.explained).functions.push(function);
                return unguarded::walk_expression(node, visit, walk);
            }
            T_WithCheckOption
                if (*node.cast::<pg_sys::WithCheckOption>()).kind
                    != pg_sys::WCOKind::WCO_VIEW_CHECK =>
            {
                let was_in_policy = std::mem::replace(&mut context.is_in_policy, true);
                unguarded::walk_expression(node, visit, walk);
                context.is_in_policy = was_in_policy;
            }
            _ => return unguarded::walk_expression(node, visit, walk),
        }
        false
    }
}

unsafe fn visit_query(query: *mut pg_sys::Query, walk: &mut Walk) {
    // SAFETY: a query, in whose range table are range table entries.
    unsafe {
        let outer = (*walk.root).parse;
        (*walk.root).parse = query;
        let entries = (*query).rtable;
        let is_function =
            |entry: *mut pg_sys::RangeTblEntry| (*entry).rtekind == pg_sys::RTEKind::RTE_FUNCTION;
        if walk.explained.is_null() && elements(entries).any(is_function) {
            unguarded::preprocess_function_rtes(walk.root);
        }
        (*walk.root).parse = outer;
        let written = match walk.is_in_policy || (*query).commandType == pg_sys::CmdType::CMD_SELECT
        {
            true => None,
            false => Some(mark_of_target(query)),
        };
        for entry in elements(entries) {
            visit_entry(query, entry, written, walk);
        }
        unguarded::walk_query(
            query,
            visit,
            std::ptr::from_mut(walk).cast(),
            pg_sys::QTW_IGNORE_RANGE_TABLE as c_int,
        );
    }
}

unsafe fn visit_entry(
    query: *mut pg_sys::Query,
    entry: *mut pg_sys::RangeTblEntry,
    written: Option<Mark>,
    walk: &mut Walk,
) {
    // SAFETY: an entry of the query's.
    unsafe {
        let context = std::ptr::from_mut(walk).cast();
        if let Some(wanted) = wanted_by(entry, permissions_of(query)) {
            let mark = match walk.is_in_policy {
                true => Some(Mark::Policy),
                // EXCLUDED is what was to be inserted.
                false => written.filter(|_| {
                    wanted.permissions & (WRITING | DELETING) != 0
                        || (*entry).relkind as u8 == pg_sys::RELKIND_COMPOSITE_TYPE
                }),
            };
            if let Some(mark) = mark {
                (*entry).ctelevelsup = mark as pg_sys::Index;
            }
            if !walk.explained.is_null() {
                (*walk.explained)
                    .entries
                    .push((entry, permissions_of(query)));
            }
        }
        let outer = walk.skipped;
        if (*query).hasRowSecurity && !(*entry).securityQuals.is_null() {
            let policies = count_policies(query, entry);
            let was_in_policy = walk.is_in_policy;
            for (place, condition) in elements((*entry).securityQuals).enumerate() {
                walk.is_in_policy = was_in_policy || place < policies;
                visit(condition, context);
            }
            walk.is_in_policy = was_in_policy;
            walk.skipped = (*entry).securityQuals;
        }
        unguarded::walk_entry(entry, visit, context, 0);
        walk.skipped = outer;
    }
}

/// How many of the conditions of an entry are those of policies. These come first. Behind them are those of views with
/// a barrier that are written through, and are the views' own.
unsafe fn count_policies(query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry) -> usize {
    // SAFETY: as the caller promises. Policies are looked up as they were when they were added.
    unsafe {
        let entries = (*query).rtable;
        let is_view =
            |entry: *mut pg_sys::RangeTblEntry| (*entry).relkind as u8 == pg_sys::RELKIND_VIEW;
        let target = (*query).resultRelation;
        let is_behind_view =
            target != 0 && element(entries, target) == entry && elements(entries).any(is_view);
        if !is_behind_view {
            return usize::MAX;
        }
        let (mut conditions, mut checks) = (std::ptr::null_mut(), std::ptr::null_mut());
        let (mut has_policies, mut has_sublinks) = (false, false);
        unguarded::get_row_security_policies(
            query,
            entry,
            target,
            &mut conditions,
            &mut checks,
            &mut has_policies,
            &mut has_sublinks,
        );
        elements::<pg_sys::Node>(conditions).count()
    }
}

/// Whether a query that writes returns something of the rows. A server returns the primary key of what it has inserted,
/// to tell where it is.
unsafe fn mark_of_target(query: *mut pg_sys::Query) -> Mark {
    // SAFETY: a query that writes has a target among its entries.
    unsafe {
        let returned: *mut pg_sys::Node = (*query).returningList.cast();
        if returned.is_null() {
            return Mark::Target;
        }
        // The columns in a subquery are not found.
        if unguarded::checkExprHasSubLink(returned) {
            return Mark::Returned;
        }
        let target = (*query).resultRelation;
        let mut columns = std::ptr::null_mut();
        unguarded::pull_varattnos(returned, target as pg_sys::Index, &mut columns);
        if columns.is_null() {
            return Mark::Target;
        }
        let key = match (*query).commandType {
            pg_sys::CmdType::CMD_INSERT => key_of_inserted(query),
            _ => std::ptr::null_mut(),
        };
        match has_others(columns, key) {
            true => Mark::Returned,
            false => Mark::Target,
        }
    }
}

/// The columns of the primary key of what is inserted. None if it may take the place of a row that was found by
/// something else: whoever inserts did not know the key of that one.
unsafe fn key_of_inserted(query: *mut pg_sys::Query) -> *mut pg_sys::Bitmapset {
    // SAFETY: as the caller promises.
    unsafe {
        let target = (*query).resultRelation;
        let entry = element::<pg_sys::RangeTblEntry>((*query).rtable, target);
        let mut constraint = pg_sys::InvalidOid;
        let key = unguarded::get_primary_key_attnos((*entry).relid, true, &mut constraint);
        let conflict = (*query).onConflict;
        if conflict.is_null() || (*conflict).action != pg_sys::OnConflictAction::ONCONFLICT_UPDATE {
            return key;
        }
        let mut found_by = std::ptr::null_mut();
        unguarded::pull_varattnos(
            (*conflict).arbiterElems.cast(),
            target as pg_sys::Index,
            &mut found_by,
        );
        let is_found_by_key = unguarded::bms_equal(found_by, key)
            || (*conflict).constraint != pg_sys::InvalidOid && (*conflict).constraint == constraint;
        match is_found_by_key {
            true => key,
            false => std::ptr::null_mut(),
        }
    }
}

/// Whether there is a column that is neither one of Postgres's own nor in `key`.
unsafe fn has_others(columns: *mut pg_sys::Bitmapset, key: *mut pg_sys::Bitmapset) -> bool {
    let mut member = -1;
    loop {
        // SAFETY: both are sets, of which null is the empty one.
        member = unsafe { unguarded::bms_next_member(columns, member) };
        if member < 0 {
            return false;
        }
        // Column 0 is the whole row.
        let is_own = member + pg_sys::FirstLowInvalidHeapAttributeNumber < 0;
        // SAFETY: as above.
        if !is_own && !unsafe { unguarded::bms_is_member(member, key) } {
            return true;
        }
    }
}

/// What Postgres asks for an entry.
struct Wanted {
    relation: pg_sys::Oid,
    permissions: pg_sys::AclMode,
    /// Who must have them, if it is not the user in force.
    user: pg_sys::Oid,
}

/// From Postgres 16 on, what the entries of a range table ask for is in a list of its own.
type Permissions = *mut pg_sys::List;

#[cfg(feature = "pg15")]
unsafe fn permissions_of(_query: *mut pg_sys::Query) -> Permissions {
    std::ptr::null_mut()
}

/// `None` for what is no table or view, and for what asks for nothing.
#[cfg(feature = "pg15")]
unsafe fn wanted_by(entry: *mut pg_sys::RangeTblEntry, _: Permissions) -> Option<Wanted> {
    // SAFETY: as the caller promises.
    let entry = unsafe { &*entry };
    (entry.rtekind == pg_sys::RTEKind::RTE_RELATION && entry.requiredPerms != 0).then_some(Wanted {
        relation: entry.relid,
        permissions: entry.requiredPerms,
        user: entry.checkAsUser,
    })
}

#[cfg(not(feature = "pg15"))]
unsafe fn permissions_of(query: *mut pg_sys::Query) -> Permissions {
    // SAFETY: as the caller promises.
    unsafe { (*query).rteperminfos }
}

/// `None` for what is no table or view, and for what asks for nothing.
#[cfg(not(feature = "pg15"))]
unsafe fn wanted_by(entry: *mut pg_sys::RangeTblEntry, permissions: Permissions) -> Option<Wanted> {
    // SAFETY: as the caller promises; the index counts from one in the list that belongs to the entry's.
    unsafe {
        let place = (*entry).perminfoindex;
        if place == 0 {
            return None;
        }
        let info = &*element::<pg_sys::RTEPermissionInfo>(permissions, place as c_int);
        (info.requiredPerms != 0).then_some(Wanted {
            relation: info.relid,
            permissions: info.requiredPerms,
            user: info.checkAsUser,
        })
    }
}

/// Counted from one.
unsafe fn element<T>(list: *mut pg_sys::List, place: c_int) -> *mut T {
    // SAFETY: the list is one of pointers, and long enough.
    unsafe { (*(*list).elements.add(place as usize - 1)).ptr_value.cast() }
}

/// The elements of a list, without anything that needs dropping.
unsafe fn elements<T>(list: *mut pg_sys::List) -> impl Iterator<Item = *mut T> {
    let length = match list.is_null() {
        true => 0,
        // SAFETY: a list.
        false => unsafe { (*list).length },
    };
    // SAFETY: it is as long as it says.
    (1..=length).map(move |place| unsafe { element(list, place) })
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
    let Some(scopes) = admitted::scopes() else {
        return ADMITTED;
    };
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
    wanted.user == pg_sys::InvalidOid || wanted.user == unsafe { unguarded::GetUserId() }
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
        let schema = Some(self.schema.as_str()).filter(|&name| name != settings::default_schema());
        Needed::of_table(schema, &self.name, access)
    }

    /// The scope that the token lacks to do that.
    fn missing(&self, scopes: &Scopes, access: Access) -> Option<String> {
        match self.needed(access) {
            needed if needed.is_granted_by(scopes) => None,
            Needed::Scope(scope, _) => Some(scope.to_string()),
            _ => None,
        }
    }

    fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn refusal(&self, scope: String) -> Refusal {
        Refusal::ScopeMissing {
            scope,
            table: Some(self.full_name()),
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
        if is_limited() {
            raise::carry_out(judge_command((*statement).utilityStmt));
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

#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn judge_command(command: *mut pg_sys::Node) -> Decision {
    let Some(scopes) = admitted::scopes() else {
        return ADMITTED;
    };
    // SAFETY: a command, which is the struct that its tag says.
    decision(unsafe { refusal_of_command(&scopes, command) })
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

/// Without pgrx's guard: what raises an error here must raise it as it is, and the others are called for each
/// statement.
mod unguarded {
    use super::{c_char, c_int, c_void, pg_sys};

    type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

    unsafe extern "C-unwind" {
        pub fn GetUserId() -> pg_sys::Oid;
        pub fn GetOuterUserId() -> pg_sys::Oid;
        pub fn InNoForceRLSOperation() -> bool;
        pub fn palloc0(size: usize) -> *mut c_void;
        pub fn list_concat(list: *mut pg_sys::List, other: *mut pg_sys::List) -> *mut pg_sys::List;
        pub fn bms_next_member(set: *const pg_sys::Bitmapset, member: c_int) -> c_int;
        pub fn bms_equal(set: *const pg_sys::Bitmapset, other: *const pg_sys::Bitmapset) -> bool;
        pub fn bms_is_member(member: c_int, set: *const pg_sys::Bitmapset) -> bool;
        pub fn checkExprHasSubLink(node: *mut pg_sys::Node) -> bool;
        pub fn pull_varattnos(
            node: *mut pg_sys::Node,
            entry: pg_sys::Index,
            columns: *mut *mut pg_sys::Bitmapset,
        );
        pub fn get_primary_key_attnos(
            table: pg_sys::Oid,
            deferrable: bool,
            constraint: *mut pg_sys::Oid,
        ) -> *mut pg_sys::Bitmapset;
        pub fn find_all_inheritors(
            table: pg_sys::Oid,
            lock: pg_sys::LOCKMODE,
            parents: *mut *mut pg_sys::List,
        ) -> *mut pg_sys::List;
        pub fn preprocess_function_rtes(root: *mut pg_sys::PlannerInfo);
        pub fn get_row_security_policies(
            query: *mut pg_sys::Query,
            entry: *mut pg_sys::RangeTblEntry,
            place: c_int,
            conditions: *mut *mut pg_sys::List,
            checks: *mut *mut pg_sys::List,
            has_policies: *mut bool,
            has_sublinks: *mut bool,
        );
        #[cfg_attr(feature = "pg15", link_name = "expression_tree_walker")]
        #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
        pub fn walk_expression(
            node: *mut pg_sys::Node,
            walker: Walker,
            context: *mut c_void,
        ) -> bool;
        #[cfg_attr(feature = "pg15", link_name = "query_tree_walker")]
        #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_walker_impl")]
        pub fn walk_query(
            query: *mut pg_sys::Query,
            walker: Walker,
            context: *mut c_void,
            flags: c_int,
        ) -> bool;
        #[cfg_attr(feature = "pg15", link_name = "range_table_entry_walker")]
        #[cfg_attr(not(feature = "pg15"), link_name = "range_table_entry_walker_impl")]
        pub fn walk_entry(
            entry: *mut pg_sys::RangeTblEntry,
            walker: Walker,
            context: *mut c_void,
            flags: c_int,
        ) -> bool;
        pub fn standard_planner(
            query: *mut pg_sys::Query,
            text: *const c_char,
            options: c_int,
            parameters: pg_sys::ParamListInfo,
        ) -> *mut pg_sys::PlannedStmt;
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
