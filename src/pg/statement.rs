//! Statements, of two kinds that cannot be taken for each other.
//!
//! A [`Statement`] is on the extension's own tables and runs with the rights of the extension's owner, a superuser as
//! a rule. Planning alone runs code: it folds the predicates and expressions of indexes, and functions that are
//! declared immutable with them. So such a statement names no relation, type, function or operator that somebody else
//! can define, which is checked when the library is compiled: see [`own_sql::check`].
//!
//! What is asked of tables of others, Supabase's, is asked by [`run_once`] and [`read_once`] with the rights of the
//! table's own owner. Whatever that role has put there, triggers, policies, defaults, indexes, runs as that role, as
//! it does whenever the owner writes.
//!
//! Names and operators are written with their schema, so that no search path can replace them, and
//! nothing secret is a parameter: extensions that log statements log those too.
#![allow(unsafe_code)]

use std::cell::OnceCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::AssertUnwindSafe;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::spi::{self, OwnedPreparedStatement, Spi, SpiTupleTable};
use pgrx::{PgBuiltInOids, PgLogLevel, PgOid, PgSqlErrorCode, PgTryBuilder, pg_sys};
use supabase_pat_core::error::Error;
use supabase_pat_core::own_sql;

use crate::pg::Local;
use crate::pg::relations;
use crate::pg::relations::Table;
use crate::pg::rights;

/// A statement on the extension's own tables, which is planned once in a backend. Postgres replans it if the tables
/// change.
pub struct Statement {
    sql: &'static str,
    parameters: &'static [PgBuiltInOids],
    prepared: OnceCell<OwnedPreparedStatement>,
}

impl Statement {
    /// To be called in a constant: what is not our own is an error of the compiler's then.
    pub const fn new(sql: &'static str, parameters: &'static [PgBuiltInOids]) -> Self {
        own_sql::check(sql);
        Self {
            sql,
            parameters,
            prepared: OnceCell::new(),
        }
    }

    /// Runs the statement as the extension's owner and hands its rows to `read`.
    pub fn run<R>(
        &self,
        arguments: &[DatumWithOid],
        read: impl FnOnce(SpiTupleTable) -> spi::Result<R>,
    ) -> Result<R, Error> {
        let owner = relations::extension_owner()
            .ok_or_else(|| Error::Internal("the table pat.api_keys is missing".into()))?;
        as_role(owner, false, || {
            Spi::connect_mut(|client| {
                let prepared = self.prepared(|types| client.prepare_mut(self.sql, types))?;
                read(client.update(prepared, None, arguments)?)
            })
        })
    }

    /// Runs a statement that must miss nothing which has committed by now, and tells how many rows it returns: in a
    /// transaction that lives in the past too, whose own snapshot would not show a token that was minted since.
    /// What somebody changes at the same moment fails there with 40001, as any change does.
    pub fn run_on_latest(&self, arguments: &[DatumWithOid]) -> Result<usize, Error> {
        if !lives_in_the_past() {
            return self.run(arguments, |rows| Ok(rows.len()));
        }
        let owner = relations::extension_owner()
            .ok_or_else(|| Error::Internal("the table pat.api_keys is missing".into()))?;
        as_role(owner, false, || on_latest_snapshot(self.sql, arguments))
    }

    /// As [`Self::run`] for a query that only reads, so that it works on a standby too.
    pub fn read<R>(
        &self,
        arguments: &[DatumWithOid],
        read: impl FnOnce(SpiTupleTable) -> spi::Result<R>,
    ) -> Result<R, Error> {
        let owner = relations::extension_owner()
            .ok_or_else(|| Error::Internal("the table pat.api_keys is missing".into()))?;
        as_role(owner, false, || {
            Spi::connect(|client| {
                let prepared = self.prepared(|types| client.prepare(self.sql, types))?;
                read(client.select(prepared, None, arguments)?)
            })
        })
    }

    fn prepared<'a>(
        &self,
        prepare: impl FnOnce(&[PgOid]) -> spi::Result<spi::PreparedStatement<'a>>,
    ) -> spi::Result<&OwnedPreparedStatement> {
        if let Some(prepared) = self.prepared.get() {
            return Ok(prepared);
        }
        let types: Vec<PgOid> = self.parameters.iter().map(|&oid| oid.into()).collect();
        let prepared = prepare(&types)?.keep();
        Ok(self.prepared.get_or_init(|| prepared))
    }

    /// Runs a statement that removes what nobody needs any more, unless the transaction lives in the past
    /// (REPEATABLE READ, SERIALIZABLE), where it would fail if another one has removed the same meanwhile.
    pub fn sweep(&self, arguments: &[DatumWithOid]) -> Result<(), Error> {
        match lives_in_the_past() {
            true => Ok(()),
            false => self.run(arguments, |_| Ok(())),
        }
    }
}

/// Whether all statements of the transaction see what there was when it began (REPEATABLE READ, SERIALIZABLE).
fn lives_in_the_past() -> bool {
    // SAFETY: it only reads.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Runs a statement on what has committed by now, in whatever transaction, and tells how many rows it returns. Foreign
/// keys are checked in the same way.
fn on_latest_snapshot(sql: &str, arguments: &[DatumWithOid]) -> spi::Result<usize> {
    // No statement of ours has a null byte in it.
    let sql = CString::new(sql).unwrap_or_default();
    let mut types: Vec<pg_sys::Oid> = arguments.iter().map(DatumWithOid::oid).collect();
    let mut nulls: Vec<c_char> = Vec::new();
    let mut values: Vec<pg_sys::Datum> = Vec::new();
    for argument in arguments {
        let value = argument.datum();
        nulls.push(if value.is_some() { b' ' } else { b'n' } as c_char);
        values.push(value.map_or(pg_sys::Datum::from(0), |value| value.sans_lifetime()));
    }
    Spi::connect_mut(|_| {
        // SAFETY: the three arrays are as long as each other, and outlive the call; the plan ends with the
        // connection.
        let (status, count) = unsafe {
            let plan = pg_sys::SPI_prepare(sql.as_ptr(), types.len() as i32, types.as_mut_ptr());
            if plan.is_null() {
                (pg_sys::SPI_result, 0)
            } else {
                let status = pg_sys::SPI_execute_snapshot(
                    plan,
                    values.as_mut_ptr(),
                    nulls.as_ptr(),
                    pg_sys::GetLatestSnapshot(),
                    std::ptr::null_mut(),
                    false,
                    true,
                    0,
                );
                (status, pg_sys::SPI_processed)
            }
        };
        Spi::check_status(status)?;
        Ok(count as usize)
    })
}

/// Runs a statement on a table of Supabase's with the rights of the table's own owner.
pub fn run_once<R>(
    table: Table,
    sql: &str,
    arguments: &[DatumWithOid],
    read: impl FnOnce(SpiTupleTable) -> spi::Result<R>,
) -> Result<R, Error> {
    without_rows(|| {
        as_table_owner(table, sql, || {
            Spi::connect_mut(|client| read(client.update(sql, None, arguments)?))
        })
    })
}

/// As [`run_once`] for a statement that must miss nothing which has committed by now: see
/// [`Statement::run_on_latest`].
pub fn run_once_on_latest(
    table: Table,
    sql: &str,
    arguments: &[DatumWithOid],
) -> Result<usize, Error> {
    without_rows(|| {
        as_table_owner(table, sql, || match lives_in_the_past() {
            true => on_latest_snapshot(sql, arguments),
            false => Spi::connect_mut(|client| Ok(client.update(sql, None, arguments)?.len())),
        })
    })
}

/// As [`run_once`] for a query that only reads, so that it works on a standby too.
pub fn read_once<R>(
    table: Table,
    sql: &str,
    arguments: &[DatumWithOid],
    read: impl FnOnce(SpiTupleTable) -> spi::Result<R>,
) -> Result<R, Error> {
    as_table_owner(table, sql, || {
        Spi::connect(|client| read(client.select(sql, None, arguments)?))
    })
}

/// A view that only superusers and the extension's owner could have made what it is, and all that it rests on too.
pub struct SafeView(());

/// A view, the extension's owner, and how many messages there had been.
static KNOWN_AS_SAFE: Local<Option<(pg_sys::Oid, pg_sys::Oid, u64)>> = Local::new(None);

thread_local! {
    // What a view reads and calls, the views beneath it included, and whose that is.
    static OWNERS_BENEATH: Statement = const { Statement::new(
        "with recursive beneath as ( \
             select 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid as class, $1 as object \
             union \
             select next.class, next.object from beneath cross join lateral ( \
                 select 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid as class, rule.oid as object \
                 from pg_catalog.pg_rewrite as rule \
                 where beneath.class operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
                     and rule.ev_class operator(pg_catalog.=) beneath.object \
                 union all \
                 select needed.refclassid, needed.refobjid from pg_catalog.pg_depend as needed \
                 where beneath.class operator(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
                     and needed.classid operator(pg_catalog.=) beneath.class \
                     and needed.objid operator(pg_catalog.=) beneath.object \
                 union all \
                 select 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid, sign.oprcode::pg_catalog.oid \
                 from pg_catalog.pg_operator as sign \
                 where beneath.class operator(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass \
                     and sign.oid operator(pg_catalog.=) beneath.object \
             ) as next) \
         select coalesce( \
             (select r.relowner from pg_catalog.pg_class as r \
                 where beneath.class operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
                     and r.oid operator(pg_catalog.=) beneath.object), \
             (select f.proowner from pg_catalog.pg_proc as f \
                 where beneath.class operator(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
                     and f.oid operator(pg_catalog.=) beneath.object), \
             (select t.typowner from pg_catalog.pg_type as t \
                 where beneath.class operator(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass \
                     and t.oid operator(pg_catalog.=) beneath.object)) \
         from beneath",
        &[pg_sys::BuiltinOid::OIDOID],
    ) };
}

impl SafeView {
    /// `None` if there is no such view, if it is not safe, or if the extension's owner may not read it.
    ///
    /// To find that out takes 20 µs, more than all else in signing a token. So it is kept which view of which owner's was
    /// safe for whom, until Postgres tells of a change of any relation, function, operator, type or role.
    pub fn find(schema: &CStr, name: &CStr) -> Result<Option<Self>, Error> {
        let Some(owner) = relations::extension_owner() else {
            return Ok(None);
        };
        let Some(view) = relations::find_relation(schema, name) else {
            return Ok(None);
        };
        // SAFETY: takes a lock like any other.
        unsafe { pg_sys::LockRelationOid(view.oid, pg_sys::AccessShareLock as i32) };
        let is_it = relations::find_relation(schema, name)
            .is_some_and(|found| found.oid == view.oid && found.owner == view.owner);
        if !is_it || !rights::may_select(view, owner) {
            return Ok(None);
        }
        let present = (view.oid, owner, relations::messages_of_makers());
        // SAFETY: the reference is gone at the end of the line.
        if *unsafe { KNOWN_AS_SAFE.get() } == Some(present) {
            return Ok(Some(Self(())));
        }
        let is_safe = OWNERS_BENEATH.with(|statement| {
            statement.read(&[view.oid.into()], |rows| {
                let mut is_safe = true;
                for row in rows {
                    // Rules, schemas and operators have none of their own that would matter.
                    let found = row.get::<pg_sys::Oid>(1)?;
                    is_safe &= found.is_none_or(|found| rights::is_safe_for_owner(found, owner));
                }
                Ok(is_safe)
            })
        })?;
        if is_safe {
            // SAFETY: as above.
            unsafe { *KNOWN_AS_SAFE.get() = Some(present) };
        }
        Ok(is_safe.then_some(Self(())))
    }

    /// Reads it as the extension's owner.
    pub fn read<R>(
        &self,
        sql: &'static str,
        read: impl FnOnce(SpiTupleTable) -> spi::Result<R>,
    ) -> Result<R, Error> {
        let owner = relations::extension_owner()
            .ok_or_else(|| Error::Internal("the table pat.api_keys is missing".into()))?;
        as_role(owner, true, || {
            Spi::connect(|client| read(client.select(sql, Some(1), &[])?))
        })
    }
}

/// Passes on errors whose detail shows the row that they are about, which has a password hash in it, without
/// that.
fn without_rows<R>(run: impl FnOnce() -> R) -> R {
    use PgSqlErrorCode::{ERRCODE_CHECK_VIOLATION, ERRCODE_NOT_NULL_VIOLATION};
    PgTryBuilder::new(AssertUnwindSafe(run))
        .catch_others(|cause| {
            if let CaughtError::PostgresError(error) = &cause
                && let code @ (ERRCODE_CHECK_VIOLATION | ERRCODE_NOT_NULL_VIOLATION) =
                    error.sql_error_code()
            {
                let message = error.message().to_owned();
                ErrorReport::new(code, message, "supabase_pat").report(PgLogLevel::ERROR);
            }
            cause.rethrow()
        })
        .execute()
}

/// Runs `body`, a statement on one table of somebody else's, with the rights of whoever owns the table while it runs.
///
/// What the owner has put there may put something off until the end of the transaction, a deferred trigger, a cursor
/// WITH HOLD, when the caller's rights are in force again, or leave a temporary table behind that stands in
/// the way of the caller's. Where the caller is trusted that is forbidden (SECURITY_RESTRICTED_OPERATION): such a thing
/// is an error. So it is where the session is one that may become trusted by SET ROLE, as the REST server's login may:
/// what is put off would do that, and a prepared statement of the server's that is replaced runs in the next request.
/// To sessions that are API roles and no more it is allowed, since who owns the users can take their rights anyway.
fn as_table_owner<R>(
    table: Table,
    sql: &str,
    body: impl FnOnce() -> spi::Result<R>,
) -> Result<R, Error> {
    // SAFETY: takes a lock like any other, so that nobody gives the table another name or owner; then look-ups in the
    // system caches, with checked results.
    let owner = unsafe {
        pg_sys::LockRelationOid(table.oid, pg_sys::AccessShareLock as i32);
        relations::name_of(table.oid)
            .filter(|name| sql.contains(name.as_str()))
            .and_then(|_| relations::owner_of(table.oid))
    };
    let owner = owner.ok_or(Error::EverChanging)?;
    as_role(owner, is_restricted(owner), body)
}

/// Whether code of `owner` must not outlast the statement.
fn is_restricted(owner: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the system caches.
    unsafe {
        let (role, session) = (pg_sys::GetUserId(), pg_sys::GetSessionUserId());
        let exceeds = |role| !pg_sys::has_privs_of_role(owner, role);
        exceeds(role) && rights::is_trusted() || exceeds(session) && rights::can_rise(session)
    }
}

fn as_role<R>(
    role: pg_sys::Oid,
    is_restricted: bool,
    body: impl FnOnce() -> spi::Result<R>,
) -> Result<R, Error> {
    let _raised = Raised::to(role, is_restricted);
    body().map_err(|error| Error::Internal(error.to_string()))
}

/// Another role's rights, without the caller's search path, until it is dropped. If an error gets past it, the end of
/// the (sub)transaction restores the same state.
struct Raised {
    role: pg_sys::Oid,
    context: i32,
    settings_level: i32,
}

impl Raised {
    fn to(role: pg_sys::Oid, is_restricted: bool) -> Self {
        let mut raised = Self {
            role: pg_sys::InvalidOid,
            context: 0,
            settings_level: 0,
        };
        // SAFETY: the state is put back in `drop`.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut raised.role, &mut raised.context);
            let mut context = raised.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
            if is_restricted || rights::distrusts_triggers() {
                context |= pg_sys::SECURITY_RESTRICTED_OPERATION as i32;
            }
            pg_sys::SetUserIdAndSecContext(role, context);
            raised.settings_level = pg_sys::NewGUCNestLevel();
            pg_sys::set_config_option(
                c"search_path".as_ptr(),
                c"pg_catalog, pg_temp".as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        raised
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        // SAFETY: it restores what `to` saved.
        unsafe {
            pg_sys::AtEOXact_GUC(false, self.settings_level);
            pg_sys::SetUserIdAndSecContext(self.role, self.context);
        }
    }
}
