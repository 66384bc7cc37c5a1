//! What a statement touches, marked before it is planned: see [`super`].
//!
//! # Safety
//! Called in the frames of hooks, so nothing here needs dropping. The walk calls what may raise an error.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag::{self, *};

use super::{DELETING, WRITING};
use crate::pg::unguarded;

/// In `ctelevelsup`, which counts for references to common table expressions alone.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Mark {
    /// Only a policy reads it.
    Policy = 0x7061_7401,
    /// It is written, and nothing of it is returned but the key of what is inserted.
    Target = 0x7061_7402,
    /// It is written, and returned.
    Returned = 0x7061_7403,
}

/// In what a plan rests on, for a function that the client calls with a row, as if it were a column of it. Postgres looks
/// there for the caches that it has, of which this is none.
const CALLED_FOR_ROW: c_int = 0x7061_7404;

/// Functions that a statement calls with a row, as far as the client has written it: in what comes from the catalogs,
/// such as views and policies, nothing has a place in the text. A list for what a plan rests on.
///
/// # Safety
/// A query that was rewritten, and in which no function was put in place of its call.
pub(super) unsafe fn called_for_rows(query: *mut pg_sys::Query) -> *mut pg_sys::List {
    let mut found: *mut pg_sys::List = std::ptr::null_mut();
    // SAFETY: as in `mark`.
    unsafe { visit_calls(query.cast(), (&raw mut found).cast()) };
    found
}

unsafe extern "C-unwind" fn visit_calls(node: *mut pg_sys::Node, found: *mut c_void) -> bool {
    // SAFETY: Postgres's walkers pass nodes of the tree, and the context.
    unsafe {
        if node.is_null() {
            return false;
        }
        match (*node).type_ {
            T_Query => return unguarded::query_tree_walker(node.cast(), visit_calls, found, 0),
            T_FuncExpr => note_call(node.cast(), &mut *found.cast()),
            _ => (),
        }
        unguarded::expression_tree_walker(node, visit_calls, found)
    }
}

unsafe fn note_call(call: *mut pg_sys::FuncExpr, found: &mut *mut pg_sys::List) {
    // SAFETY: a call, whose arguments are nodes.
    unsafe {
        let call = &*call;
        let is_clients = call.location >= 0 && call.funcid.to_u32() >= pg_sys::FirstNormalObjectId;
        // A variadic function has its rows in an array.
        let is_row = |argument| {
            let of = unguarded::exprType(argument);
            unguarded::type_is_rowtype(of)
                || unguarded::type_is_rowtype(unguarded::get_base_element_type(of))
        };
        if is_clients && elements::<pg_sys::Node>(call.args).any(|argument| is_row(argument)) {
            let item = new_node::<pg_sys::PlanInvalItem>(T_PlanInvalItem);
            (*item).cacheId = CALLED_FOR_ROW;
            (*item).hashValue = call.funcid.to_u32();
            *found = unguarded::lappend(*found, item.cast());
        }
    }
}

/// The functions in such a list.
pub(super) unsafe fn functions_in(items: *mut pg_sys::List) -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: a list of that type.
    unsafe {
        elements::<pg_sys::PlanInvalItem>(items)
            .filter(|&item| (*item).cacheId == CALLED_FOR_ROW)
            .map(|item| pg_sys::Oid::from((*item).hashValue))
    }
}

/// Puts functions in FROM in place of their calls, and marks what is touched. Returns what the plan rests on besides.
pub(super) unsafe fn mark(
    query: *mut pg_sys::Query,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannerGlobal {
    // SAFETY: nodes of their types, as far as the functions that are called look at them.
    unsafe {
        let global = new_node::<pg_sys::PlannerGlobal>(T_PlannerGlobal);
        (*global).boundParams = parameters;
        (*global).invalItems = called_for_rows(query);
        let root = new_node::<pg_sys::PlannerInfo>(T_PlannerInfo);
        (*root).glob = global;
        (*root).query_level = 1;
        let mut walk = Walk {
            root,
            is_in_policy: false,
            skipped: std::ptr::null_mut(),
            found: std::ptr::null_mut(),
        };
        visit_query(query, &mut walk);
        global
    }
}

/// What a query touches and calls.
#[derive(Default)]
pub(super) struct Found {
    /// With what they ask for.
    pub entries: Vec<(*mut pg_sys::RangeTblEntry, Permissions)>,
    /// What the query itself calls, and not a policy.
    pub functions: Vec<pg_sys::Oid>,
}

/// Marks a query, and tells what is in it. Functions in FROM stay calls: putting them in their place would call
/// immutable ones.
///
/// # Safety
/// A query that was rewritten, and that is not used for anything else.
pub(super) unsafe fn find(query: *mut pg_sys::Query) -> Found {
    let mut found = Found::default();
    // SAFETY: as in `mark`. An error on the way leaves no more behind than the memory of the lists.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            let mut walk = Walk {
                root: new_node(T_PlannerInfo),
                is_in_policy: false,
                skipped: std::ptr::null_mut(),
                found: &mut found,
            };
            visit_query(query, &mut walk);
        });
    }
    found
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
    found: *mut Found,
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
            T_FuncExpr if !context.found.is_null() && !context.is_in_policy => {
                let function = (*node.cast::<pg_sys::FuncExpr>()).funcid;
                (*context.found).functions.push(function);
                return unguarded::expression_tree_walker(node, visit, walk);
            }
            T_WithCheckOption
                if (*node.cast::<pg_sys::WithCheckOption>()).kind
                    != pg_sys::WCOKind::WCO_VIEW_CHECK =>
            {
                let was_in_policy = std::mem::replace(&mut context.is_in_policy, true);
                unguarded::expression_tree_walker(node, visit, walk);
                context.is_in_policy = was_in_policy;
            }
            _ => return unguarded::expression_tree_walker(node, visit, walk),
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
        if walk.found.is_null() && elements(entries).any(is_function) {
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
        unguarded::query_tree_walker(
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
            if !walk.found.is_null() {
                (*walk.found).entries.push((entry, permissions_of(query)));
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
        unguarded::range_table_entry_walker(entry, visit, context, 0);
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
        let is_column = |element: *mut pg_sys::InferenceElem| (*(*element).expr).type_ == T_Var;
        let is_found_by_key = unguarded::bms_equal(found_by, key)
            && elements((*conflict).arbiterElems).all(is_column)
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
pub(super) struct Wanted {
    pub relation: pg_sys::Oid,
    pub permissions: pg_sys::AclMode,
    /// Who must have them, if it is not the user in force.
    pub user: pg_sys::Oid,
}

/// From Postgres 16 on, what the entries of a range table ask for is in a list of its own.
pub(super) type Permissions = *mut pg_sys::List;

#[cfg(feature = "pg15")]
unsafe fn permissions_of(_query: *mut pg_sys::Query) -> Permissions {
    std::ptr::null_mut()
}

/// `None` for what is no table or view, and for what asks for nothing.
#[cfg(feature = "pg15")]
pub(super) unsafe fn wanted_by(
    entry: *mut pg_sys::RangeTblEntry,
    _: Permissions,
) -> Option<Wanted> {
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
pub(super) unsafe fn wanted_by(
    entry: *mut pg_sys::RangeTblEntry,
    permissions: Permissions,
) -> Option<Wanted> {
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
pub(super) unsafe fn element<T>(list: *mut pg_sys::List, place: c_int) -> *mut T {
    // SAFETY: the list is one of pointers, and long enough.
    unsafe { (*(*list).elements.add(place as usize - 1)).ptr_value.cast() }
}

/// The elements of a list, without anything that needs dropping.
pub(super) unsafe fn elements<T>(list: *mut pg_sys::List) -> impl Iterator<Item = *mut T> {
    let length = match list.is_null() {
        true => 0,
        // SAFETY: a list.
        false => unsafe { (*list).length },
    };
    // SAFETY: it is as long as it says.
    (1..=length).map(move |place| unsafe { element(list, place) })
}
