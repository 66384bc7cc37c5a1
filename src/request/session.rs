//! The row of the request's session in `auth.sessions`, if the request has one.

use supabase_pat_core::error::Error;
use uuid::Uuid;

use crate::pg::relations;
use crate::pg::statement;
use crate::pg::uuid::pg_uuid;
use crate::request::tables::{self, Sessions};

/// Locks the row of a session: a transaction that ends the session waits until this one has ended. One that refreshes
/// the session does not wait.
///
/// # Errors
/// Those of [`statement::run_once_on_latest`].
pub fn hold(session: Uuid) -> Result<(), Error> {
    let Some(Sessions { table, .. }) = tables::sessions() else {
        return Ok(());
    };
    let sql = "select from auth.sessions where id operator(pg_catalog.=) $1 for key share";
    statement::run_once_on_latest(table, sql, &[pg_uuid(session).into()])?;
    Ok(())
}

/// Whether a session was given to an OAuth application. False if `auth.sessions` has no column for it.
///
/// # Errors
/// Those of [`statement::run_once_on_latest`].
pub fn is_of_a_client(session: Uuid) -> Result<bool, Error> {
    let Some(Sessions { table, .. }) = tables::sessions() else {
        return Ok(false);
    };
    if relations::find_column(table.oid, c"oauth_client_id", None).is_none() {
        return Ok(false);
    }
    let sql = "select from auth.sessions \
         where id operator(pg_catalog.=) $1 and oauth_client_id is not null";
    statement::run_once_on_latest(table, sql, &[pg_uuid(session).into()]).map(|count| count > 0)
}
