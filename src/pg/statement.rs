//! Statements. Those on the extension's own tables run as its owner.
//!
//! Names and operators are written with their schema, so that no search path can replace them, and
//! nothing secret is a parameter: extensions that log statements log those too.

use std::cell::OnceCell;
use std::panic::AssertUnwindSafe;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::spi::{self, OwnedPreparedStatement, Spi, SpiTupleTable};
use pgrx::{PgBuiltInOids, PgLogLevel, PgOid, PgSqlErrorCode, PgTryBuilder, pg_sys};
use supabase_pat_core::error::Error;

use super::relations::Table;
use super::{caller, relations};

/// A statement that is planned once in a backend. Postgres replans it if the tables change.
pub struct Statement {
    sql: &'static str,
    parameters: &'static [PgBuiltInOids],
    prepared: OnceCell<OwnedPreparedStatement>,
}

impl Statement {
    pub const fn new(sql: &'static str, parameters: &'static [PgBuiltInOids]) -> Self {
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
        let keys = relations::keys()
            .ok_or_else(|| Error::Internal("the table pat.api_keys is missing".into()))?;
        as_owner(keys.table.owner, || {
            Spi::connect_mut(|client| {
                let prepared = match self.prepared.get() {
                    Some(prepared) => prepared,
                    None => {
                        let types: Vec<PgOid> =
                            self.parameters.iter().map(|&oid| oid.into()).collect();
                        let prepared = client.prepare_mut(self.sql, &types)?.keep();
                        self.prepared.get_or_init(|| prepared)
                    }
                };
                read(client.update(prepared, None, arguments)?)
            })
        })
    }
}

impl Statement {
    /// Runs a statement that removes what nobody needs any more, unless the transaction lives in the past
    /// (REPEATABLE READ, SERIALIZABLE), where it would fail if another one has removed the same meanwhile.
    pub fn sweep(&self, arguments: &[DatumWithOid]) -> Result<(), Error> {
        // SAFETY: it only reads.
        match unsafe { pg_sys::XactIsoLevel } >= pg_sys::XACT_REPEATABLE_READ as i32 {
            true => Ok(()),
            false => self.run(arguments, |_| Ok(())),
        }
    }
}

/// Runs a statement on a table of Supabase's with the rights of the table's own owner.
pub fn run_once<R>(
    table: Table,
    sql: &str,
    arguments: &[DatumWithOid],
    read: impl FnOnce(SpiTupleTable) -> spi::Result<R>,
) -> Result<R, Error> {
    without_rows(|| {
        as_owner(table.owner, || {
            Spi::connect_mut(|client| read(client.update(sql, None, arguments)?))
        })
    })
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

/// As [`run_once`] for a query that only reads, so that it works on a standby too.
pub fn read_once<R>(
    table: Table,
    sql: &str,
    arguments: &[DatumWithOid],
    read: impl FnOnce(SpiTupleTable) -> spi::Result<R>,
) -> Result<R, Error> {
    as_owner(table.owner, || {
        Spi::connect(|client| read(client.select(sql, None, arguments)?))
    })
}

fn as_owner<R>(owner: pg_sys::Oid, body: impl FnOnce() -> spi::Result<R>) -> Result<R, Error> {
    caller::as_owner(owner, body).map_err(|error| Error::Internal(error.to_string()))
}
