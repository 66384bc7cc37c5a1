//! Our functions in the place of Supabase's, when a query is planned.
//!
//! `auth.uid()` is a function in SQL. Written plainly into a policy it is evaluated once a row, which reads two
//! settings and parses the claims each time. Supabase's advice is to rewrite each policy, with `(select
//! auth.uid())`. Here the planner is handed the same query with another function in it, which costs a row what a
//! literal does, and which may run in parallel workers. Stored is nothing: neither the policy nor the function of
//! Supabase's is touched.
//!
//! # What is replaced
//! A call of a function `auth.….()` that says what it does: in SQL, STABLE, with a body that is known, without
//! SECURITY DEFINER, support function or settings (but an empty search path, which changes nothing), and which
//! everybody may execute, so that no privilege is lost or needed. The names in a body are taken for those of
//! `pg_catalog`, as they are with an empty search path: whoever puts operators of their own before those gets no
//! other user by it. Ours must be the extension's own function of this library, which everybody may execute.
//!
//! Calls that Postgres makes of a query's text later, when it inlines a function in SQL, stay as they are.
//!
//! # What is kept, under what key, and what ends it
//! Which function stands for which, until Postgres tells of a change of any function or schema; to find out takes
//! 20 look-ups in the system caches. A plan is kept with the names of the functions that were replaced in it, so
//! that it is thrown away as if it called them: with a new body, owner or privilege, or without the function, it is
//! planned anew.
//!
//! # What it costs
//! A comparison for each planning, if the setting is off. Else a walk through the query, and another if there is
//! something to replace.
//!
//! # Safety
//! As in [`crate::request::run`]: errors of other people's queries must pass through the hook as they are, so it has no
//! guard of pgrx's and holds nothing that needs dropping. What may raise an error of ours is in a guarded function.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use pgrx::prelude::*;
use pgrx::{FromDatum, pg_sys};
use supabase_pat_core::auth_functions::AuthFunction;

use super::symbol;
use crate::pg::error::{SqlResult, reported};
use crate::pg::{Local, changes, memory, rights, settings, unguarded};

const COUNT: usize = AuthFunction::ALL.len();

/// Two functions of the same answer.
#[derive(Clone, Copy)]
struct Pair {
    theirs: pg_sys::Oid,
    ours: pg_sys::Oid,
    /// By which the messages of changes know `theirs`.
    hash: u32,
}

type Pairs = [Option<Pair>; COUNT];

/// With the number of changes that there had been.
static KNOWN: Local<Option<(u64, Pairs)>> = Local::new(None);
static NEXT: Local<pg_sys::planner_hook_type> = Local::new(None);

/// Called once, from _PG_init.
pub fn install() {
    // SAFETY: as said.
    unsafe {
        *NEXT.get() = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(planner);
    }
}

unsafe extern "C-unwind" fn planner(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: Postgres passes what it would pass to the planner, which may change the query.
    unsafe {
        let replaced = match settings::fast_auth_functions() {
            true => replace(query),
            false => [None; COUNT],
        };
        let plan = match *NEXT.get() {
            Some(next) => next(query, text, options, parameters),
            None => unguarded::standard_planner(query, text, options, parameters),
        };
        for pair in replaced.into_iter().flatten() {
            let item = unguarded::palloc0(size_of::<pg_sys::PlanInvalItem>())
                .cast::<pg_sys::PlanInvalItem>();
            (*item).type_ = pg_sys::NodeTag::T_PlanInvalItem;
            (*item).cacheId = pg_sys::SysCacheIdentifier::PROCOID as _;
            (*item).hashValue = pair.hash;
            (*plan).invalItems = unguarded::lappend((*plan).invalItems, item.cast());
        }
        plan
    }
}

/// Replaces what can be, and says what was.
unsafe fn replace(query: *mut pg_sys::Query) -> Pairs {
    // SAFETY: the query is walked through as Postgres does.
    unsafe {
        if known().is_none() {
            find_all();
        }
        let Some(pairs) = known() else {
            return [None; COUNT];
        };
        if pairs.iter().all(Option::is_none) {
            return pairs;
        }
        let mut walk = Walk {
            pairs: &pairs,
            found: [None; COUNT],
            replaces: false,
        };
        walk_through(query.cast(), (&raw mut walk).cast());
        let found = walk.found;
        if found.iter().all(Option::is_none) {
            return found;
        }
        walk.replaces = true;
        walk_through(query.cast(), (&raw mut walk).cast());
        found
    }
}

struct Walk<'a> {
    pairs: &'a Pairs,
    found: Pairs,
    replaces: bool,
}

unsafe extern "C-unwind" fn walk_through(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: Postgres passes nodes of the query, null among them, and our context.
    unsafe {
        if node.is_null() {
            return false;
        }
        match (*node).type_ {
            pg_sys::NodeTag::T_Query => {
                return unguarded::query_tree_walker(node.cast(), walk_through, context, 0);
            }
            pg_sys::NodeTag::T_FuncExpr => {
                let call = node.cast::<pg_sys::FuncExpr>();
                let walk = &mut *context.cast::<Walk>();
                for (pair, found) in walk.pairs.iter().zip(&mut walk.found) {
                    if let Some(pair) = pair
                        && pair.theirs == (*call).funcid
                    {
                        *found = Some(*pair);
                        if walk.replaces {
                            (*call).funcid = pair.ours;
                        }
                        return false;
                    }
                }
            }
            _ => (),
        }
        unguarded::expression_tree_walker(node, walk_through, context)
    }
}

/// Why a function is left as it is.
#[derive(Clone, Copy)]
enum Problem {
    Missing,
    Unknown,
    NotForEverybody,
    OursMissing,
}

/// What stands for what, as far as this backend has been told.
#[inline(always)]
fn known() -> Option<Pairs> {
    // SAFETY: the reference is gone at the end of the line.
    let (messages, pairs) = (*unsafe { KNOWN.get() })?;
    (messages == changes::of_functions()).then_some(pairs)
}

#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn find_all() {
    memory::with_room(|| {
        changes::listen();
        // While it is being found out there may be news of it, which do not come again for the plan that is to be made.
        for _ in 0..8 {
            let messages = changes::of_functions();
            let pairs = AuthFunction::ALL.map(|function| find(function).ok());
            // SAFETY: as above.
            unsafe { *KNOWN.get() = Some((messages, pairs)) };
            if known().is_some() {
                return;
            }
        }
    })
}

fn find(function: AuthFunction) -> Result<Pair, Problem> {
    let name = |prefix: &str| {
        CString::new(format!("{prefix}{}", function.name())).map_err(|_| Problem::Missing)
    };
    let result = match function {
        AuthFunction::Uid => pg_sys::UUIDOID,
        AuthFunction::Role | AuthFunction::Email => pg_sys::TEXTOID,
        AuthFunction::Jwt => pg_sys::JSONBOID,
    };
    // First, since a database without the extension may have texts that are not in UTF-8.
    let ours = Procedure::find(c"pat", &name("auth_")?)
        .filter(|ours| ours.is_of_this_library(symbol(function), result) && ours.is_for_everybody())
        .ok_or(Problem::OursMissing)?;
    let theirs = Procedure::find(c"auth", &name("")?).ok_or(Problem::Missing)?;
    if !theirs.does_no_more_than_its_body(result) || !function.is_known(&theirs.source()) {
        return Err(Problem::Unknown);
    }
    if !theirs.is_for_everybody() {
        return Err(Problem::NotForEverybody);
    }
    Ok(Pair {
        theirs: theirs.oid(),
        ours: ours.oid(),
        hash: theirs.hash(),
    })
}

/// A row of `pg_proc`, held in the system cache.
struct Procedure(pg_sys::HeapTuple);

impl Drop for Procedure {
    fn drop(&mut self) {
        // SAFETY: it was found there.
        unsafe { pg_sys::ReleaseSysCache(self.0) };
    }
}

const PROCEDURES: c_int = pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as c_int;

impl Procedure {
    /// A function without arguments.
    fn find(schema: &CStr, name: &CStr) -> Option<Self> {
        // SAFETY: look-ups in the system caches, with a checked result.
        unsafe {
            let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
            if schema == pg_sys::InvalidOid {
                return None;
            }
            let no_arguments = pg_sys::buildoidvector(std::ptr::null(), 0);
            let tuple = pg_sys::SearchSysCache3(
                PROCEDURES,
                pg_sys::Datum::from(name.as_ptr()),
                pg_sys::Datum::from(no_arguments),
                schema.into(),
            );
            pg_sys::pfree(no_arguments.cast());
            (!tuple.is_null()).then(|| Self(tuple))
        }
    }

    fn row(&self) -> &pg_sys::FormData_pg_proc {
        // SAFETY: a tuple of pg_proc, which begins with these columns, for as long as it is held.
        unsafe { &*pg_sys::GETSTRUCT(self.0).cast() }
    }

    fn oid(&self) -> pg_sys::Oid {
        self.row().oid
    }

    fn hash(&self) -> u32 {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as c_int;
        let none = pg_sys::Datum::from(0);
        // SAFETY: it computes a number.
        unsafe { pg_sys::GetSysCacheHashValue(cache, self.oid().into(), none, none, none) }
    }

    /// Null if there is none.
    fn attribute<T: FromDatum>(&self, number: u32) -> Option<T> {
        let mut is_null = false;
        // SAFETY: a column of pg_proc, of the type that the caller takes it for.
        unsafe {
            let value = pg_sys::SysCacheGetAttr(PROCEDURES, self.0, number as i16, &mut is_null);
            T::from_datum(value, is_null)
        }
    }

    fn source(&self) -> String {
        self.attribute(pg_sys::Anum_pg_proc_prosrc)
            .unwrap_or_default()
    }

    fn is_function_returning(&self, result: pg_sys::Oid) -> bool {
        let row = self.row();
        row.prokind as u8 == pg_sys::PROKIND_FUNCTION
            && row.prorettype == result
            && !row.proretset
            && row.pronargs == 0
            && row.provolatile as u8 == pg_sys::PROVOLATILE_STABLE
            && !row.prosecdef
    }

    fn does_no_more_than_its_body(&self, result: pg_sys::Oid) -> bool {
        let settings = self.attribute::<Vec<String>>(pg_sys::Anum_pg_proc_proconfig);
        self.is_function_returning(result)
            && self.row().prolang == SQL_LANGUAGE
            && self.row().prosupport == pg_sys::InvalidOid
            && settings.is_none_or(|settings| settings == ["search_path=\"\""])
    }

    /// Only superusers make functions in C.
    fn is_of_this_library(&self, symbol: &CStr, result: pg_sys::Oid) -> bool {
        // SAFETY: look-ups in the system caches and in pg_depend.
        let is_of_the_extension = || unsafe {
            let extension = pg_sys::get_extension_oid(c"supabase_pat".as_ptr(), true);
            extension != pg_sys::InvalidOid
                && pg_sys::getExtensionOfObject(pg_sys::ProcedureRelationId, self.oid())
                    == extension
        };
        self.is_function_returning(result)
            && self.row().prolang == C_LANGUAGE
            && self.source().as_bytes() == symbol.to_bytes()
            && is_of_the_extension()
    }

    fn is_for_everybody(&self) -> bool {
        let everybody = pg_sys::Oid::from(pg_sys::ACL_ID_PUBLIC);
        let execute = pg_sys::AclMode::from(pg_sys::ACL_EXECUTE);
        // SAFETY: it reads the row of the function.
        let result = unsafe {
            #[cfg(feature = "pg15")]
            {
                pg_sys::pg_proc_aclcheck(self.oid(), everybody, execute)
            }
            #[cfg(not(feature = "pg15"))]
            {
                let catalog = pg_sys::ProcedureRelationId;
                pg_sys::object_aclcheck(catalog, self.oid(), everybody, execute)
            }
        };
        result == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// `INTERNALlanguageId` and the like are in a header that pgrx does not read.
const C_LANGUAGE: pg_sys::Oid = pg_sys::Oid::from_u32(13);
const SQL_LANGUAGE: pg_sys::Oid = pg_sys::Oid::from_u32(14);

/// For `pat.status()`: what keeps a function of Supabase's from being replaced; null if nothing does.
#[pg_extern(stable, requires = ["schema"])]
fn auth_function_problem(name: &str) -> SqlResult<Option<String>> {
    reported(|| {
        rights::require_trusted("see the state of the installation")?;
        let function = AuthFunction::ALL
            .into_iter()
            .find(|function| function.name() == name);
        let problem = match function {
            Some(function) => find(function).err(),
            None => Some(Problem::Missing),
        };
        Ok(problem.map(|problem| match problem {
            Problem::Missing => format!("there is no auth.{name}()"),
            Problem::Unknown => format!("auth.{name}() is not as Supabase Auth makes it"),
            Problem::NotForEverybody => format!("not everybody may execute auth.{name}()"),
            Problem::OursMissing => {
                format!("pat.auth_{name}() is missing, or not everybody may execute it")
            }
        }))
    })
}
