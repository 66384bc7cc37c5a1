//! People in `auth.users`: their rows, passwords, and whether they may log in.
//!
//! These tables are Supabase's, so only the columns that are there are used. Everything runs with the rights of each
//! table's own owner and not of the extension's: on Supabase the extension's owner is a superuser, and roles that are
//! not may put triggers on `auth.users`.

pub mod accounts;
mod locked;
mod newcomers;
mod password;
pub mod sign_ups;
pub mod state;

use pgrx::datum::Uuid as PgUuid;
use pgrx::extension_sql_file;
use supabase_pat_core::account::{Address, Holder};
use supabase_pat_core::error::Error;
use supabase_pat_core::session::User;
use uuid::Uuid;

pub use locked::{MayLogIn, lock, lock_row, lock_untouched};
pub use newcomers::{NewUser, confirm, create, sign_up_again};
pub use password::{set_password, take_password_hash};

use crate::pg::clock::Instant;
use crate::pg::relations;
use crate::pg::rights;
use crate::pg::settings;
use crate::pg::statement::{read_once, run_once};
use crate::pg::uuid::pg_uuid;

extension_sql_file!("../../sql/users.sql", name = "users");

/// The user who logs in with that address. `None` if there is no such user, and for one who is deleted or banned at
/// `now`, logs in with an identity provider (SSO), or is a service account that somebody has given an address.
///
/// # Errors
/// [`Error::NoUsersTable`], and [`Error::NoPasswords`] if `auth.users` has no column for addresses or for passwords.
pub fn by_address(address: &Address, now: Instant) -> Result<Option<Holder>, Error> {
    let users = state::table().ok_or(Error::NoUsersTable)?.table;
    let has = |column| relations::find_column(users.oid, column, None).is_some();
    if !has(c"email") || !has(c"encrypted_password") {
        return Err(Error::NoPasswords);
    }
    let is_confirmed = match has(c"email_confirmed_at") {
        true => "email_confirmed_at is not null",
        false => "true",
    };
    let mut sql = format!(
        "select id, encrypted_password::text, {is_confirmed} from auth.users where \
         pg_catalog.lower(email::text) operator(pg_catalog.=) $1"
    );
    for (column, condition) in [
        // Supabase has an index on this column and the address.
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
    // Supabase Auth writes addresses in lower case, so a user who has it so is preferred.
    sql += " order by email::text operator(pg_catalog.=) $1 desc limit 1";
    let arguments = [address.as_str().into(), now.to_timestamp()?.into()];
    let holder = run_once(users, &sql, &arguments, |rows| {
        let row = rows.first();
        if row.is_empty() {
            return Ok(None);
        }
        let user = row.get::<PgUuid>(1)?;
        Ok(match user.map(|id| Uuid::from_bytes(*id.as_bytes())) {
            Some(user) => Some(Holder {
                user,
                password_hash: row.get::<String>(2)?,
                is_confirmed: row.get::<bool>(3)?.unwrap_or(false),
            }),
            None => None,
        })
    })?;
    Ok(holder.filter(|holder| !accounts::is_account(holder.user)))
}

/// Deletes the refresh tokens and one-time tokens that Supabase Auth has given a user.
///
/// # Errors
/// Those of [`run_once`].
pub fn forget_supabase_tokens(user: Uuid) -> Result<(), Error> {
    let id = user.to_string();
    for (name, sql) in [
        (
            c"refresh_tokens",
            "delete from auth.refresh_tokens where user_id::text operator(pg_catalog.=) $1",
        ),
        (
            c"one_time_tokens",
            "delete from auth.one_time_tokens where user_id::text operator(pg_catalog.=) $1",
        ),
    ] {
        if let Some(table) = relations::find_table(c"auth", name) {
            run_once(table, sql, &[id.as_str().into()], |_| Ok(()))?;
        }
    }
    Ok(())
}

/// The row of a user, as the claims of a session need it. `None` if there is no such user.
///
/// # Errors
/// [`Error::NoUsersTable`].
pub fn row(user: Uuid) -> Result<Option<User>, Error> {
    let users = state::table().ok_or(Error::NoUsersTable)?.table;
    let sql = "select pg_catalog.to_jsonb(u)::text from auth.users as u \
         where u.id operator(pg_catalog.=) $1";
    let text = read_once(users, sql, &[pg_uuid(user).into()], |rows| {
        match rows.is_empty() {
            true => Ok(None),
            false => rows.first().get_one::<String>(),
        }
    })?;
    Ok(text.and_then(|text| User::from_row(&text)))
}

/// Notes in `auth.users` that a user has signed in at `now`, if there is a column for it.
///
/// # Errors
/// [`Error::NoUsersTable`].
pub fn note_sign_in(user: Uuid, now: Instant) -> Result<(), Error> {
    let users = state::table().ok_or(Error::NoUsersTable)?.table;
    if relations::find_column(users.oid, c"last_sign_in_at", None).is_none() {
        return Ok(());
    }
    let sql = "update auth.users set last_sign_in_at = $2 where id operator(pg_catalog.=) $1";
    run_once(
        users,
        sql,
        &[pg_uuid(user).into(), now.to_timestamp()?.into()],
        |_| Ok(()),
    )
}

/// The role that a row of `auth.users` gives its user: the one that it names, or else the one of logged-in users.
///
/// # Errors
/// [`Error::RoleNotAllowed`] for a role that is or can become trusted: a role that may write this row must not be able
/// to make a user trusted.
pub fn role_of_user(named: Option<&str>) -> Result<String, Error> {
    match named {
        None | Some("") => Ok(settings::authenticated_role()),
        Some(role) if rights::named_role_can_become_trusted(role) => {
            Err(Error::RoleNotAllowed(role.to_owned()))
        }
        Some(role) => Ok(role.to_owned()),
    }
}
