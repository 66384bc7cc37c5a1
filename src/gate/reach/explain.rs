//! What a token may touch, told to the operator without doing it.
//!
//! A statement is parsed and rewritten as the role of the token's user, so that views and policies are in it, and then
//! asked of by the very walk and comparison that a request meets ([`super`]). It is neither planned nor run: a
//! plan would call immutable functions.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int, c_void};

use pgrx::datum::Uuid as PgUuid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{PgList, pg_sys, spi};
use supabase_pat_core::error::Error;
use supabase_pat_core::refusal::Refusal;
use supabase_pat_core::route::{Access, Needed};
use supabase_pat_core::scope::Scopes;

use super::commands::refusal_of_command;
use super::marks::{self, Mark, Permissions, wanted_by};
use super::{Definer, Table, accesses, is_of_role_in_force};
use crate::gate::token::check_life;
use crate::pg::error::reported;
use crate::pg::rights;
use crate::pg::settings;
use crate::pg::statement::as_lesser_role;
use crate::pg::uuid::to_uuid;
use crate::tokens::lookup::{self, StoredToken};
use crate::users;

/// What is touched, how, with which scope, whether the token may, and what there is to know besides.
type Row = (String, String, Option<String>, bool, Option<String>);

#[pg_extern(stable, requires = ["schema"])]
#[allow(clippy::type_complexity)]
fn explain_access(
    token: Option<PgUuid>,
    statement: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(object, String),
            name!(access, String),
            name!(scope, Option<String>),
            name!(granted, bool),
            name!(detail, Option<String>),
        ),
    >,
    ErrorReport,
> {
    reported(|| {
        rights::require_trusted("see what a token may touch")?;
        let id = to_uuid(token.ok_or(Error::NullArgument("token"))?);
        let stored = lookup::by_id(id).ok_or(Error::UnknownToken(id))?;
        let user = users::state::live_user(stored.user);
        let named = user.and_then(|user| user.role);
        let role = users::role_of_user(named.as_deref());
        let mut rows = vec![of_token(&stored, &role)];
        if let Some(role) = role.ok().and_then(|role| rights::role(&role)) {
            let scopes = stored.scopes();
            rows.extend(as_lesser_role(role, || match statement {
                Some(statement) => of_statement(statement, &scopes),
                None => of_schema(&scopes),
            })?);
        }
        Ok(TableIterator::new(rows))
    })
}

fn of_token(stored: &StoredToken, role: &Result<String, Error>) -> Row {
    let (is_live, detail) = match (check_life(stored), role) {
        (Err(refusal), _) => (false, refusal.to_string()),
        (Ok(()), Err(error)) => (false, error.to_string()),
        (Ok(()), Ok(role)) => match stored.scopes().to_claim() {
            Some(scopes) => (
                true,
                format!("of the role {role}, with the scopes {scopes}"),
            ),
            None => (
                true,
                format!("of the role {role}, without a list of scopes"),
            ),
        },
    };
    ("token".into(), "use".into(), None, is_live, Some(detail))
}

/// What the token may do with each table and view of the schema that requests are for by default.
fn of_schema(scopes: &Scopes) -> Result<Vec<Row>, Error> {
    let sql = "select c.oid, \
            pg_catalog.has_any_column_privilege(c.oid, 'select'), \
            pg_catalog.has_any_column_privilege(c.oid, 'insert, update'), \
            pg_catalog.has_table_privilege(c.oid, 'delete') \
        from pg_catalog.pg_class c \
        join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace \
        where n.nspname operator(pg_catalog.=) $1 \
            and c.relkind operator(pg_catalog.=) any ('{r,p,v,m,f}'::pg_catalog.\"char\"[]) \
        order by c.relname";
    let schema = settings::default_schema();
    let tables = Spi::connect(|client| {
        let mut tables = Vec::new();
        for row in client.select(sql, None, &[schema.into()])? {
            let Some(table) = row.get::<pg_sys::Oid>(1)? else {
                continue;
            };
            for (place, access) in [(2, Access::Read), (3, Access::Write), (4, Access::Delete)] {
                tables.push((table, access, row.get::<bool>(place)?.unwrap_or(false)));
            }
        }
        Ok::<_, spi::Error>(tables)
    })
    .map_err(|error| Error::Internal(error.to_string()))?;
    Ok(tables
        .into_iter()
        .filter_map(|(table, access, is_privileged)| {
            asked(table, access, is_privileged, scopes).map(row_of)
        })
        .collect())
}

/// What a statement would be asked for.
fn of_statement(statement: &str, scopes: &Scopes) -> Result<Vec<Row>, Error> {
    let statement = CString::new(statement)
        .map_err(|_| Error::Internal("a statement has a NUL in it".into()))?;
    Spi::connect(|_| {
        let mut rows: Vec<Row> = Vec::new();
        let mut add = |row: Row| {
            let (object, access) = (&row.0, &row.1);
            if !rows.iter().any(|one| (&one.0, &one.1) == (object, access)) {
                rows.push(row);
            }
        };
        for query in rewritten(&statement)? {
            // SAFETY: a query that nobody else has, and that lives as long as this connection of the SPI.
            unsafe {
                match (*query).commandType == pg_sys::CmdType::CMD_UTILITY {
                    true => add(of_command((*query).utilityStmt, scopes)),
                    false => {
                        let for_rows: Vec<_> =
                            marks::functions_in(marks::called_for_rows(query)).collect();
                        let found = marks::find(query);
                        tables_of(&found, scopes)
                            .into_iter()
                            .map(row_of)
                            .for_each(&mut add);
                        found
                            .functions
                            .into_iter()
                            .filter_map(|function| {
                                let asked = for_rows.contains(&function).then_some(scopes);
                                of_function(function, asked)
                            })
                            .for_each(&mut add);
                    }
                }
            }
        }
        Ok(rows)
    })
}

/// The queries that Postgres makes of a statement, views and policies of the role in force included.
fn rewritten(statement: &CStr) -> Result<Vec<*mut pg_sys::Query>, Error> {
    let mut parameters = Parameters {
        types: std::ptr::null_mut(),
        count: 0,
    };
    // SAFETY: the parameters outlive the parser, which is the only one to use them. What is prepared lives as long as
    // the SPI's connection.
    unsafe {
        let options = pg_sys::SPIPrepareOptions {
            parserSetup: Some(with_any_parameters),
            parserSetupArg: (&raw mut parameters).cast(),
            ..Default::default()
        };
        let plan = pg_sys::SPI_prepare_extended(statement.as_ptr(), &options);
        if plan.is_null() {
            return Err(Error::Internal("the statement cannot be prepared".into()));
        }
        let sources = pg_sys::SPI_plan_get_plan_sources(plan);
        let sources = PgList::<pg_sys::CachedPlanSource>::from_pg(sources);
        Ok(sources
            .iter_ptr()
            .flat_map(|source| {
                let queries = PgList::<pg_sys::Query>::from_pg((*source).query_list);
                queries.iter_ptr().collect::<Vec<_>>()
            })
            .collect())
    }
}

#[repr(C)]
struct Parameters {
    types: *mut pg_sys::Oid,
    count: c_int,
}

/// `$1` and so on are of whatever type the statement makes of them.
unsafe extern "C-unwind" fn with_any_parameters(
    state: *mut pg_sys::ParseState,
    parameters: *mut c_void,
) {
    unsafe extern "C-unwind" {
        fn setup_parse_variable_parameters(
            state: *mut pg_sys::ParseState,
            types: *mut *mut pg_sys::Oid,
            count: *mut c_int,
        );
    }
    // SAFETY: what `rewritten` has passed.
    unsafe {
        let parameters = &mut *parameters.cast::<Parameters>();
        setup_parse_variable_parameters(state, &mut parameters.types, &mut parameters.count);
    }
}

/// # Safety
/// `command` is one that is not planned.
unsafe fn of_command(command: *mut pg_sys::Node, scopes: &Scopes) -> Row {
    // SAFETY: as the caller promises; the name is static.
    let (name, refusal) = unsafe {
        (
            CStr::from_ptr(pg_sys::GetCommandTagName(pg_sys::CreateCommandTag(command))),
            refusal_of_command(scopes, command),
        )
    };
    let name = name.to_string_lossy().into_owned();
    let (scope, detail) = match refusal {
        None => (
            None,
            Some(
                "the command itself may run; what it touches is asked for when it does".to_owned(),
            ),
        ),
        Some(Refusal::ScopeMissing { ref scope, .. }) => (Some(scope.clone()), None),
        Some(_) => (None, None),
    };
    let is_granted = refusal.is_none();
    let detail = detail.or_else(|| refusal.map(|refusal| refusal.to_string()));
    (name, "run".into(), scope, is_granted, detail)
}

fn row_of(asked: Asked) -> Row {
    let Asked {
        table,
        access,
        scope,
        is_in_scopes,
        is_privileged,
    } = asked;
    let detail = match (is_in_scopes, is_privileged) {
        (false, _) => Some(format!("the token lacks the scope {scope}")),
        (true, false) => Some("its role lacks the privilege".to_owned()),
        (true, true) => None,
    };
    let is_granted = is_in_scopes && is_privileged;
    (
        table,
        access.action().into(),
        Some(scope),
        is_granted,
        detail,
    )
}

/// `None` for a function that is Postgres's own or the extension's. With scopes for one that is called as a column.
fn of_function(function: pg_sys::Oid, asked: Option<&Scopes>) -> Option<Row> {
    // SAFETY: look-ups in the system caches and in pg_depend. The name is in this memory context.
    let (name, is_definer) = unsafe {
        let extension = pg_sys::get_extension_oid(c"supabase_pat".as_ptr(), true);
        if function.to_u32() < pg_sys::FirstNormalObjectId
            || pg_sys::getExtensionOfObject(pg_sys::ProcedureRelationId, function) == extension
        {
            return None;
        }
        let name = CStr::from_ptr(pg_sys::format_procedure_qualified(function));
        (
            name.to_string_lossy().into_owned(),
            rights::is_security_definer(function)?,
        )
    };
    let may_call = rights::may_execute(function);
    let definer = asked.and_then(|scopes| Some((Definer::of(function)?, scopes)));
    if let Some((definer, scopes)) = definer {
        let missing = definer.missing(scopes);
        let scope = match definer.needed() {
            Needed::Scope(scope, _) => Some(scope.to_string()),
            _ => None,
        };
        let detail = match &missing {
            Some(scope) => format!("it is called for a row, and the token lacks the scope {scope}"),
            None if !may_call => "its role lacks the privilege".into(),
            None => "it is called for a row, and runs with the rights of its owner".into(),
        };
        let may_call = may_call && missing.is_none();
        return Some((name, "call".into(), scope, may_call, Some(detail)));
    }
    let detail = match (may_call, is_definer) {
        (false, _) => "its role lacks the privilege",
        (true, true) => "it runs with the rights of its owner, and what it touches needs no scope",
        (true, false) => {
            "it runs with the rights of the request: what it touches is asked for when it does"
        }
    };
    Some((name, "call".into(), None, may_call, Some(detail.into())))
}

/// A table or view that is touched in some way, and what that needs.
struct Asked {
    /// With its schema.
    table: String,
    access: Access,
    scope: String,
    is_in_scopes: bool,
    /// Whether Postgres itself lets the role in force do it.
    is_privileged: bool,
}

/// What a query would be asked for, if the role in force made it for a token: as it would be marked before it is planned,
/// and asked when it starts.
///
/// # Safety
/// As for [`marks::find`].
unsafe fn tables_of(found: &marks::Found, scopes: &Scopes) -> Vec<Asked> {
    let mut tables = Vec::new();
    for &(entry, permissions) in &found.entries {
        // SAFETY: entries of the query, with what belongs to them.
        unsafe {
            let Some(wanted) = wanted_by(entry, permissions) else {
                continue;
            };
            let mark = (*entry).ctelevelsup;
            if mark == Mark::Policy as u32 || !is_of_role_in_force(&wanted) {
                continue;
            }
            let is_privileged = may_touch(entry, permissions);
            tables.extend(
                accesses(wanted.permissions, mark)
                    .filter_map(|access| asked(wanted.relation, access, is_privileged, scopes)),
            );
        }
    }
    tables
}

/// What it takes to touch a table in a way. `None` for what needs no scope.
fn asked(
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
        let info: *mut c_void = marks::element(permissions, (*entry).perminfoindex as c_int);
        let permissions = pg_sys::lappend(std::ptr::null_mut(), info);
        let entries = pg_sys::lappend(std::ptr::null_mut(), entry.cast());
        pg_sys::ExecCheckPermissions(entries, permissions, false)
    }
}
