//! People in `auth.users`, by their address, and their passwords and sessions.
//!
//! These tables are Supabase's, so only the columns that are there are used, and everything is done with
//! the rights of each table's own owner, not of the extension's: on Supabase that is a superuser, and
//! roles that are none may put triggers on `auth.users`.

use std::ffi::CStr;

use pgrx::datum::{DatumWithOid, Uuid as PgUuid};
use pgrx::spi::{self, Spi, SpiTupleTable};
use supabase_pat_core::error::Error;
use supabase_pat_core::reset_code::{Address, Holder};
use uuid::Uuid;

use super::caller;
use super::clock::Instant;
use super::relations::{self, Table};
use super::store::pg_uuid;

/// Who logs in with that address and may do so: neither deleted nor banned, nor somebody whom an
/// identity provider logs in.
pub fn by_address(address: &Address, now: Instant) -> Result<Option<Holder>, Error> {
    let users = relations::users().ok_or(Error::NoUsersTable)?.table;
    let has = |column| relations::find_column(users.oid, column, None).is_some();
    if !has(c"email") || !has(c"encrypted_password") {
        return Err(Error::NoUsersTable);
    }
    let mut sql = String::from(
        "select id, encrypted_password::text from auth.users where \
         pg_catalog.lower(email::text) operator(pg_catalog.=) $1",
    );
    for (column, condition) in [
        // For the index that Supabase has on it.
        (
            c"instance_id",
            " and instance_id operator(pg_catalog.=) '00000000-0000-0000-0000-000000000000'",
        ),
        (c"is_sso_user", " and not is_sso_user"),
        (c"deleted_at", " and deleted_at is null"),
        (
            c"banned_until",
            " and (banned_until is null or banned_until operator(pg_catalog.<=) $2)",
        ),
    ] {
        if has(column) {
            sql += condition;
        }
    }
    // Whoever has it in small letters, as Supabase Auth writes them, goes first.
    sql += " order by email::text operator(pg_catalog.=) $1 desc limit 1";
    run(
        users,
        &sql,
        &[address.as_str().into(), now.to_timestamp()?.into()],
        |rows| {
            if rows.is_empty() {
                return Ok(None);
            }
            let row = rows.first();
            let user = row
                .get::<PgUuid>(1)?
                .map(|id| Uuid::from_bytes(*id.as_bytes()));
            Ok(match user {
                Some(user) => Some(Holder {
                    user,
                    password_hash: row.get::<String>(2)?,
                }),
                None => None,
            })
        },
    )
}

/// Gives somebody a new password hash, as Supabase Auth does it after a recovery, and tells whether they
/// still had the old one.
pub fn set_password(holder: &Holder, hash: &str, now: Instant) -> Result<bool, Error> {
    let users = relations::users().ok_or(Error::NoUsersTable)?.table;
    let has = |column| relations::find_column(users.oid, column, None).is_some();
    let mut sql = String::from("update auth.users set encrypted_password = $2");
    for (column, change) in [
        (c"updated_at", ", updated_at = $3"),
        // Having had the code shows that the address is theirs.
        (
            c"email_confirmed_at",
            ", email_confirmed_at = coalesce(email_confirmed_at, $3)",
        ),
        (c"confirmation_token", ", confirmation_token = ''"),
        (c"recovery_token", ", recovery_token = ''"),
        (c"recovery_sent_at", ", recovery_sent_at = null"),
        (c"email_change_token_new", ", email_change_token_new = ''"),
        (
            c"email_change_token_current",
            ", email_change_token_current = ''",
        ),
        (c"email_change", ", email_change = ''"),
        (c"reauthentication_token", ", reauthentication_token = ''"),
    ] {
        if has(column) {
            sql += change;
        }
    }
    sql += " where id operator(pg_catalog.=) $1 \
            and encrypted_password::text is not distinct from $4 returning 1";
    let arguments = [
        pg_uuid(holder.user).into(),
        hash.into(),
        now.to_timestamp()?.into(),
        holder.password_hash.as_deref().into(),
    ];
    run(users, &sql, &arguments, |rows| Ok(!rows.is_empty()))
}

/// Ends all logins of a user, and forgets what Supabase Auth has sent them to prove who they are.
pub fn end_sessions(user: Uuid) -> Result<(), Error> {
    let id: DatumWithOid = pg_uuid(user).into();
    let text = user.to_string();
    let ends: [(&CStr, &str, DatumWithOid); 3] = [
        (
            c"refresh_tokens",
            "delete from auth.refresh_tokens where user_id::text operator(pg_catalog.=) $1",
            text.as_str().into(),
        ),
        (
            c"sessions",
            "delete from auth.sessions where user_id operator(pg_catalog.=) $1",
            id,
        ),
        (
            c"one_time_tokens",
            "delete from auth.one_time_tokens where user_id::text operator(pg_catalog.=) $1",
            text.as_str().into(),
        ),
    ];
    for (name, sql, argument) in ends {
        if let Some(table) = relations::find_table(c"auth", name) {
            run(table, sql, &[argument], |_| Ok(()))?;
        }
    }
    Ok(())
}

fn run<R>(
    table: Table,
    sql: &str,
    arguments: &[DatumWithOid],
    read: impl FnOnce(SpiTupleTable) -> spi::Result<R>,
) -> Result<R, Error> {
    caller::as_owner(table.owner, || {
        Spi::connect_mut(|client| read(client.update(sql, None, arguments)?))
    })
    .map_err(|error| Error::Internal(error.to_string()))
}
