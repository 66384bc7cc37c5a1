//! Service accounts: users of `auth.users` who do not log in, and whose tokens machines use. Which users are such is known
//! by the table `pat.service_accounts`, which nobody but the extension's owner writes, and by nothing that stands in
//! `auth.users`: an ordinary user does not become one, whatever others write there.

use std::ops::ControlFlow;

use pgrx::datum::Uuid as PgUuid;
use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid::{TEXTOID, UUIDOID};
use supabase_pat_core::error::Error;
use supabase_pat_core::service_account::APP_METADATA;
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::column::{Column, Id};
use crate::pg::relations::{self, Rows, Table, layout};
use crate::pg::scan::{expect, look};
use crate::pg::statement::{Statement, read_once, run_once, run_once_on_latest};
use crate::pg::uuid::pg_uuid;
use crate::users::state::{self, UserState};

/// `pat.service_accounts`. Version 0.1.0 does not have it.
#[derive(Clone, Copy)]
pub struct Accounts {
    pub table: Table,
    pub by_id: pg_sys::Oid,
    pub by_creator: pg_sys::Oid,
    pub user_id: Column<Id>,
    pub created_by: Column<Id>,
}

layout!(Accounts, ACCOUNTS, c"pat".c"service_accounts", |open| {
    let (user_id, created_by) = (open.column(c"user_id")?, open.column(c"created_by")?);
    Some(Accounts {
        table: open.table,
        by_id: open.index(user_id, Rows::All),
        by_creator: open.index(created_by, Rows::AllOrSome),
        user_id,
        created_by,
    })
});

thread_local! {
    static INSERT: Statement = const { Statement::new(
        "insert into pat.service_accounts (user_id, name, description, created_by) values ($1, $2, $3, $4)",
        &[UUIDOID, TEXTOID, TEXTOID, UUIDOID],
    ) };

    static DELETE: Statement = const { Statement::new(
        "delete from pat.service_accounts where user_id operator(pg_catalog.=) $1",
        &[UUIDOID],
    ) };

    static NAME: Statement = const { Statement::new(
        "select name from pat.service_accounts where user_id operator(pg_catalog.=) $1",
        &[UUIDOID],
    ) };

    static ALL: Statement = const { Statement::new(
        "select pg_catalog.array_agg(user_id) from pat.service_accounts",
        &[],
    ) };
}

/// Whether a user is a service account, by what has committed by now.
pub fn is_account(user: Uuid) -> bool {
    creator_of(user).is_some()
}

/// Who has created a service account: `Some(None)` if that was a trusted role. `None` if the user is none.
pub fn creator_of(account: Uuid) -> Option<Option<Uuid>> {
    let found = look::<Accounts, _>(|accounts| {
        let layout = &accounts.layout;
        let mut found = None;
        accounts.rows_with(layout.user_id, layout.by_id, &account, |row| {
            found = Some(row.get(layout.created_by));
            ControlFlow::Break(())
        });
        found
    });
    // A table that cannot be read must not make accounts users who may log in.
    expect::<Accounts, _>(found).flatten()
}

/// How many service accounts a user has created that are still there.
pub fn count_of(creator: Uuid) -> usize {
    let found = look::<Accounts, _>(|accounts| {
        let layout = &accounts.layout;
        let mut count = 0;
        accounts.rows_with(layout.created_by, layout.by_creator, &creator, |_| {
            count += 1;
            ControlFlow::Continue(())
        });
        count
    });
    expect::<Accounts, _>(found).unwrap_or_default()
}

/// What is known of a service account that is to be created.
pub struct NewAccount<'a> {
    pub id: Uuid,
    pub name: &'a str,
    pub description: Option<&'a str>,
    pub role: &'a str,
    /// `None` for a trusted role that stands for no user.
    pub created_by: Option<Uuid>,
}

/// # Errors
/// [`Error::OldSchema`].
pub fn require_table() -> Result<(), Error> {
    match relations::find_table(c"pat", c"service_accounts") {
        Some(_) => Ok(()),
        None => Err(Error::OldSchema),
    }
}

/// Adds a service account, as a user whom Supabase Auth can read, and who has nothing to log in with.
///
/// # Errors
/// [`Error::NoUsersTable`], [`Error::UserNotAdded`].
pub fn create(account: &NewAccount, now: Instant) -> Result<(), Error> {
    let users = state::table().ok_or(Error::NoUsersTable)?.table;
    let (mut columns, mut values) = (String::from("id"), String::from("$1"));
    for (column, value) in [
        // Without it Supabase Auth does not find the row.
        (c"instance_id", "'00000000-0000-0000-0000-000000000000'"),
        (c"aud", "'authenticated'"),
        (c"role", "$2"),
        (c"raw_app_meta_data", "$3::pg_catalog.jsonb"),
        (
            c"raw_user_meta_data",
            "pg_catalog.jsonb_build_object('name', $4)",
        ),
        (c"created_at", "$5"),
        (c"updated_at", "$5"),
        // What Supabase Auth itself writes for a user without a password. No hash is empty.
        (c"encrypted_password", "''"),
        // Supabase Auth cannot read a row where one of these is null.
        (c"confirmation_token", "''"),
        (c"recovery_token", "''"),
        (c"email_change_token_new", "''"),
        (c"email_change", "''"),
    ] {
        if relations::find_column(users.oid, column, None).is_some() {
            columns += &format!(", {}", column.to_string_lossy());
            values += &format!(", {value}");
        }
    }
    let sql = format!("insert into auth.users ({columns}) values ({values})");
    let arguments = [
        pg_uuid(account.id).into(),
        account.role.into(),
        APP_METADATA.into(),
        account.name.into(),
        now.to_timestamp()?.into(),
    ];
    run_once(users, &sql, &arguments, |_| Ok(()))?;
    // A trigger may keep a row from being added, or give it another id.
    if state::state_of_user(account.id)? == UserState::Gone {
        return Err(Error::UserNotAdded);
    }
    let arguments = [
        pg_uuid(account.id).into(),
        account.name.into(),
        account.description.into(),
        account.created_by.map(pg_uuid).into(),
    ];
    INSERT.with(|statement| statement.run(&arguments, |_| Ok(())))
}

/// Deletes a service account and its user, and returns its name. `None` if there is no such account. The lock on its
/// tokens must be held.
///
/// # Errors
/// [`Error::UserNotDeleted`], and those of [`run_once_on_latest`].
pub fn delete(account: Uuid) -> Result<Option<String>, Error> {
    if !is_account(account) {
        return Ok(None);
    }
    let id = [pg_uuid(account).into()];
    let name = NAME.with(|statement| {
        statement.run(&id, |rows| match rows.is_empty() {
            true => Ok(None),
            false => rows.first().get_one::<String>(),
        })
    })?;
    if DELETE.with(|statement| statement.run_on_latest(&id))? == 0 {
        return Ok(None);
    }
    if let Some(users) = state::table() {
        let sql = "delete from auth.users where id operator(pg_catalog.=) $1";
        run_once_on_latest(users.table, sql, &id)?;
        // A trigger may keep the row, or only note that the user is deleted. Without its account, a user who is still
        // there would be one of those who log in.
        if state::state_of_user(account)? != UserState::Gone {
            return Err(Error::UserNotDeleted);
        }
    }
    Ok(Some(name.unwrap_or_default()))
}

/// What is wrong with service accounts: what somebody has given them to log in with, and users who are gone. `None` if
/// nothing is.
///
/// # Errors
/// Those of [`read_once`].
pub fn problem() -> Result<Option<String>, Error> {
    let all = match relations::find_table(c"pat", c"service_accounts") {
        Some(_) => ALL.with(|statement| {
            statement.read(&[], |rows| rows.first().get_one::<Vec<Option<PgUuid>>>())
        })?,
        None => None,
    };
    let (Some(all), Some(users)) = (all, state::table()) else {
        return Ok(None);
    };
    let total = all.len();
    let mut sql = String::from("select count(*)");
    let mut conditions = String::from("false");
    for (column, condition) in [
        (
            c"encrypted_password",
            "nullif(encrypted_password::text, '') is not null",
        ),
        (c"email", "nullif(email::text, '') is not null"),
        (c"phone", "nullif(phone::text, '') is not null"),
    ] {
        if relations::find_column(users.table.oid, column, None).is_some() {
            conditions += &format!(" or {condition}");
        }
    }
    sql += &format!(
        ", count(*) filter (where {conditions}), min(id::text) filter (where {conditions}) \
         from auth.users where id operator(pg_catalog.=) any ($1)"
    );
    let counted = |rows: pgrx::spi::SpiTupleTable| {
        let row = rows.first();
        Ok((
            row.get::<i64>(1)?.unwrap_or(0) as usize,
            row.get::<i64>(2)?.unwrap_or(0),
            row.get::<String>(3)?,
        ))
    };
    let (there, can_log_in, first) = read_once(users.table, &sql, &[all.clone().into()], counted)?;
    let (with_identity, first_with_identity) = match relations::find_table(c"auth", c"identities") {
        Some(identities) => read_once(
            identities,
            "select count(distinct user_id), min(user_id::text) from auth.identities \
                 where user_id operator(pg_catalog.=) any ($1)",
            &[all.into()],
            |rows| {
                let row = rows.first();
                Ok((row.get::<i64>(1)?.unwrap_or(0), row.get::<String>(2)?))
            },
        )?,
        None => (0, None),
    };
    let mut found = Vec::new();
    if can_log_in > 0 {
        let first = first.unwrap_or_default();
        found.push(format!(
            "{can_log_in} have got a password, an e-mail address or a phone, and may be able to log in at Supabase Auth \
             ({first}): remove it from auth.users"
        ));
    }
    if with_identity > 0 {
        let first = first_with_identity.unwrap_or_default();
        found.push(format!(
            "{with_identity} have got an identity ({first}): delete it from auth.identities"
        ));
    }
    if there < total {
        found.push(format!(
            "{} have no user in auth.users any more: call delete_service_account()",
            total - there
        ));
    }
    Ok((!found.is_empty()).then(|| found.join("; ")))
}
