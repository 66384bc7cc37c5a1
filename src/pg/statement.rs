//! Statements, of two kinds that cannot be taken for each other.
//!
//! A [`Statement`] is on the extension's own tables and runs with the rights of the extension's owner, a superuser as
//! a rule. Planning alone can run code: Postgres folds the predicates and expressions of indexes, and calls functions
//! that are declared immutable. So such a statement names no relation, type, function or operator that somebody else
//! can define. The compiler checks this: see [`own_sql::check`].
//!
//! Statements on tables of others, Supabase's, run by [`run_once`] and [`read_once`] with the rights of the table's own
//! owner. The triggers, policies, defaults and indexes that this role has put there run as this role, as they do
//! whenever it writes itself.
//!
//! Names and operators are written with their schema, so that no search path can replace them. No secret is a
//! parameter, since extensions that log statements log parameters too: see [`crate::pg::secret_argument`].
#![allow(unsafe_code)]

use std::cell::OnceCell;
use std::ffi::{CString, c_char};
use std::panic::AssertUnwindSafe;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::spi::{self, OwnedPreparedStatement, Spi, SpiTupleTable};
use pgrx::{PgBuiltInOids, PgLogLevel, PgOid, PgSqlErrorCode, PgTryBuilder, pg_sys};
use supabase_pat_core::error::Error;
use supabase_pat_core::own_sql;

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
    /// `parameters` are the types of `$1` and so on. To be called in a constant: the compiler then refuses a statement
    /// that names anything outside `pat` and `pg_catalog`.
    pub const fn new(sql: &'static str, parameters: &'static [PgBuiltInOids]) -> Self {
        own_sql::check(sql);
        Self {
            sql,
            parameters,
            prepared: OnceCell::new(),
        }
    }

    /// Runs the statement as the extension's owner and hands its rows to `read`.
    ///
    /// # Errors
    /// [`Error::Internal`] without the extension's tables, and for errors of the SPI or of `read`. What Postgres raises
    /// passes through.
    pub fn run<R>(
        &self,
        arguments: &[DatumWithOid],
        read: impl FnOnce(SpiTupleTable) -> spi::Result<R>,
    ) -> Result<R, Error> {
        let owner = extension_owner()?;
        as_role(owner, false, || {
            Spi::connect_mut(|client| {
                let prepared = self.prepared(|types| client.prepare_mut(self.sql, types))?;
                read(client.update(prepared, None, arguments)?)
            })
        })
    }

    /// Runs a statement that must see all that has committed by now, and returns the number of its rows. It does so in
    /// a transaction with one snapshot too (REPEATABLE READ, SERIALIZABLE), where the snapshot would not show a token
    /// that was minted since it was taken. If another transaction changes the same row at the same moment, it fails
    /// there with 40001, as any change does.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub fn run_on_latest(&self, arguments: &[DatumWithOid]) -> Result<usize, Error> {
        if !uses_transaction_snapshot() {
            return self.run(arguments, |rows| Ok(rows.len()));
        }
        let owner = extension_owner()?;
        as_role(owner, false, || on_latest_snapshot(self.sql, arguments))
    }

    /// As [`Self::run`] for a query that only reads, so that it works on a standby too.
    pub fn read<R>(
        &self,
        arguments: &[DatumWithOid],
        read: impl FnOnce(SpiTupleTable) -> spi::Result<R>,
    ) -> Result<R, Error> {
        let owner = extension_owner()?;
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

    /// Runs a statement that removes rows nobody needs any more, unless the transaction has one snapshot (REPEATABLE
    /// READ, SERIALIZABLE): there it would fail if another transaction has removed the same rows meanwhile.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub fn sweep(&self, arguments: &[DatumWithOid]) -> Result<(), Error> {
        match uses_transaction_snapshot() {
            true => Ok(()),
            false => self.run(arguments, |_| Ok(())),
        }
    }
}

/// Whether all statements of the transaction use the snapshot of the first one (REPEATABLE READ, SERIALIZABLE).
pub fn uses_transaction_snapshot() -> bool {
    // SAFETY: a number that only this backend writes.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Runs a statement on a snapshot that is taken now, whatever the isolation level, and returns the number of its rows.
/// Postgres checks foreign keys in the same way.
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
        // SAFETY: types, values and nulls have one element for each argument, and outlive the call. A plan that is not
        // kept ends with the SPI connection, which is open here.
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

/// Runs a statement on a table of Supabase with the rights of the table's own owner, and hands its rows to `read`.
/// `sql` names the table with its schema.
///
/// # Errors
/// [`Error::EverChanging`] if the table has another name now or is gone; [`Error::Internal`] for errors of the SPI or
/// of `read`. What Postgres raises passes through, without the row in its detail.
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

/// As [`run_once`] for a statement that must see all that has committed by now: see [`Statement::run_on_latest`].
/// Returns the number of its rows.
pub fn run_once_on_latest(
    table: Table,
    sql: &str,
    arguments: &[DatumWithOid],
) -> Result<usize, Error> {
    without_rows(|| {
        as_table_owner(table, sql, || match uses_transaction_snapshot() {
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

/// Runs `run`, and drops the detail of errors that show a whole row in it: a row of `auth.users` has a password hash.
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

/// Runs `body`, the statement `sql` on one table of somebody else, with the rights of the role that owns the table
/// while it runs.
///
/// Code of that role, in a trigger for instance, could put something off until the end of the transaction, when the
/// caller's rights are in force again: by a deferred trigger, or a cursor WITH HOLD. It could also leave a temporary
/// table behind that hides one of the caller's. Such an attempt is an error (SECURITY_RESTRICTED_OPERATION) for:
/// - a caller that is trusted;
/// - a session that may become trusted by SET ROLE, as the REST server's login may. Code put off could SET ROLE to a
///   trusted role, or replace a prepared statement that the server runs in the next request.
///
/// For sessions that can only be API roles it stays allowed, since the owner of `auth.users` can take the rights of
/// users anyway.
fn as_table_owner<R>(
    table: Table,
    sql: &str,
    body: impl FnOnce() -> spi::Result<R>,
) -> Result<R, Error> {
    // SAFETY: Postgres takes the lock or raises an error, here under pgrx's guard. With it, the table keeps its name
    // and its owner.
    let owner = unsafe {
        pg_sys::LockRelationOid(table.oid, pg_sys::AccessShareLock as i32);
        relations::name_of(table.oid)
            .filter(|name| sql.contains(name.as_str()))
            .and_then(|_| relations::owner_of(table.oid))
    };
    let owner = owner.ok_or(Error::EverChanging)?;
    as_role(owner, is_restricted(owner), body)
}

/// Whether nothing that code of `owner` does may be put off until after the statement.
fn is_restricted(owner: pg_sys::Oid) -> bool {
    // SAFETY: two numbers of this backend, and look-ups in the system caches.
    unsafe {
        let (role, session) = (pg_sys::GetUserId(), pg_sys::GetSessionUserId());
        let exceeds = |role| !pg_sys::has_privs_of_role(owner, role);
        exceeds(role) && rights::is_trusted()
            || exceeds(session) && rights::can_become_trusted(session)
    }
}

/// The role that owns the extension's tables.
///
/// # Errors
/// [`Error::Internal`] while there are none.
pub(super) fn extension_owner() -> Result<pg_sys::Oid, Error> {
    relations::extension_owner()
        .ok_or_else(|| Error::Internal("the table pat.api_keys is missing".into()))
}

/// Runs `body` with the rights of `role`, and with a search path that nobody else can put anything into. With
/// `is_restricted` nothing that runs in it can be put off until the end of the transaction.
///
/// # Errors
/// [`Error::Internal`] for those of the SPI itself. What Postgres raises passes through.
pub(super) fn as_role<R>(
    role: pg_sys::Oid,
    is_restricted: bool,
    body: impl FnOnce() -> spi::Result<R>,
) -> Result<R, Error> {
    let _raised = Raised::to(role, is_restricted);
    body().map_err(|error| Error::Internal(error.to_string()))
}

/// Runs `body` with the rights of `role`, which has less of them than the caller, and with the caller's search path.
/// Nothing that runs in it can be put off until the rights of the caller are in force again.
pub fn as_lesser_role<R>(role: pg_sys::Oid, body: impl FnOnce() -> R) -> R {
    let _raised = Raised::to_in_callers_path(role, true);
    body()
}

/// Has the rights of another role in force, and mostly a search path that the caller did not choose, until it is dropped. If
/// an error skips the drop, Postgres restores the same state at the end of the (sub)transaction.
struct Raised {
    role: pg_sys::Oid,
    context: i32,
    settings_level: i32,
}

impl Raised {
    fn to(role: pg_sys::Oid, is_restricted: bool) -> Self {
        let raised = Self::to_in_callers_path(role, is_restricted);
        // SAFETY: the texts end in NUL. `drop` or the end of the (sub)transaction puts back what is set here.
        unsafe {
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

    fn to_in_callers_path(role: pg_sys::Oid, is_restricted: bool) -> Self {
        let mut raised = Self {
            role: pg_sys::InvalidOid,
            context: 0,
            settings_level: 0,
        };
        // SAFETY: the pointers are to fields of a live struct. `drop` or the end of the (sub)transaction puts back what
        // is set here.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut raised.role, &mut raised.context);
            let mut context = raised.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
            if is_restricted || rights::distrusts_triggers() {
                context |= pg_sys::SECURITY_RESTRICTED_OPERATION as i32;
            }
            pg_sys::SetUserIdAndSecContext(role, context);
            raised.settings_level = pg_sys::NewGUCNestLevel();
        }
        raised
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        // SAFETY: the level, the role and the context are those that `to` has saved; nested values are dropped in the
        // reverse order.
        unsafe {
            pg_sys::AtEOXact_GUC(false, self.settings_level);
            pg_sys::SetUserIdAndSecContext(self.role, self.context);
        }
    }
}
