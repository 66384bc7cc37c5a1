//! People in `auth.users`, by their address, and their passwords and sessions.
//!
//! These tables are Supabase's, so only the columns that are there are used, and everything is done with
//! the rights of each table's own owner, not of the extension's: on Supabase that is a superuser, and
//! roles that are none may put triggers on `auth.users`.

pub mod sign_ups;
pub mod state;

use pgrx::datum::Uuid as PgUuid;
use pgrx::extension_sql_file;
use supabase_pat_core::codes::{Address, Holder};
use supabase_pat_core::error::Error;
use supabase_pat_core::session::User;
use uuid::Uuid;
use zeroize::Zeroizing;

use state::{UserState, state_of_user};

use crate::pg::clock::Instant;
use crate::pg::pending::Pending;
use crate::pg::relations;
use crate::pg::rights;
use crate::pg::settings;
use crate::pg::statement::{read_once, run_once, run_once_on_latest};
use crate::pg::uuid::pg_uuid;

extension_sql_file!("../../sql/users.sql", name = "users");

/// Who logs in with that address and may do so: neither deleted nor banned, nor somebody whom an
/// identity provider logs in.
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
    let arguments = [address.as_str().into(), now.to_timestamp()?.into()];
    run_once(users, &sql, &arguments, |rows| {
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
    })
}

/// A user who may have a session, as their row says that is locked: it stays so until the end of the transaction.
/// Whoever changes it, who bans or deletes them, gives them another password or ends all of their sessions, waits
/// for what is begun here, or was waited for.
pub struct MayLogIn {
    user: Uuid,
    password_hash: Option<String>,
}

impl MayLogIn {
    pub fn id(&self) -> Uuid {
        self.user
    }

    /// Whether the password is still the one that was looked at.
    pub fn has_hash(&self, hash: Option<&str>) -> bool {
        self.password_hash.as_deref() == hash
    }
}

/// Locks the row of a user, and judges by what is committed then.
///
/// # Errors
/// [`Error::UnknownUser`], [`Error::BannedUser`], [`Error::RoleNotAllowed`].
pub fn lock(user: Uuid) -> Result<MayLogIn, Error> {
    let users = state::table().ok_or(Error::NoUsersTable)?.table;
    let text = |column, name| match relations::find_column(users.oid, column, None) {
        Some(_) => name,
        None => "null",
    };
    let sql = format!(
        "select {}::text, {}::text from auth.users where id operator(pg_catalog.=) $1 \
         for no key update",
        text(c"encrypted_password", "encrypted_password"),
        text(c"role", "role"),
    );
    let row = run_once(users, &sql, &[pg_uuid(user).into()], |rows| {
        let row = rows.first();
        match row.is_empty() {
            true => Ok(None),
            false => Ok(Some((row.get::<String>(1)?, row.get::<String>(2)?))),
        }
    })?;
    let (password_hash, role) = row.ok_or(Error::UnknownUser(user))?;
    match state_of_user(user)? {
        UserState::Active => (),
        UserState::Banned { .. } => return Err(Error::BannedUser(user)),
        UserState::Gone => return Err(Error::UnknownUser(user)),
    }
    role_of_user(role.as_deref())?;
    Ok(MayLogIn {
        user,
        password_hash,
    })
}

/// Locks the row of a user, whoever they are: nobody begins a session of theirs until the end of the transaction.
pub fn lock_row(user: Uuid) -> Result<(), Error> {
    let Some(users) = state::table() else {
        return Ok(());
    };
    let sql = "select from auth.users where id operator(pg_catalog.=) $1 for no key update";
    run_once(users.table, sql, &[pg_uuid(user).into()], |_| Ok(()))
}

/// Locks the row of a user who has not confirmed an address, and for whom nothing else speaks either: no login, no
/// phone, no invitation. `None` for everybody else; else the password hash.
pub fn lock_untouched(user: Uuid) -> Result<Option<Option<String>>, Error> {
    let users = state::table().ok_or(Error::NoUsersTable)?.table;
    let mut sql = String::from(
        "select encrypted_password::text from auth.users where id operator(pg_catalog.=) $1",
    );
    for (column, condition) in [
        (c"email_confirmed_at", " and email_confirmed_at is null"),
        (c"phone_confirmed_at", " and phone_confirmed_at is null"),
        (c"confirmed_at", " and confirmed_at is null"),
        (c"last_sign_in_at", " and last_sign_in_at is null"),
        (c"invited_at", " and invited_at is null"),
        (c"deleted_at", " and deleted_at is null"),
        (c"phone", " and nullif(phone::text, '') is null"),
        (c"is_anonymous", " and is_anonymous is not true"),
        (c"is_sso_user", " and is_sso_user is not true"),
    ] {
        if relations::find_column(users.oid, column, None).is_some() {
            sql += condition;
        }
    }
    sql += " for no key update";
    run_once(users, &sql, &[pg_uuid(user).into()], |rows| {
        match rows.is_empty() {
            true => Ok(None),
            false => rows.first().get_one::<String>().map(Some),
        }
    })
}

/// Somebody who signs up.
pub struct NewUser<'a> {
    pub id: Uuid,
    pub address: &'a Address,
    pub password_hash: &'a str,
    pub role: &'a str,
    /// A JSON object, for `raw_user_meta_data`.
    pub metadata: &'a str,
    pub is_confirmed: bool,
}

/// Adds a user, as Supabase Auth does it. False if the address is taken.
pub fn create(user: &NewUser, now: Instant) -> Result<bool, Error> {
    let users = state::table().ok_or(Error::NoUsersTable)?.table;
    let (mut columns, mut values) = (
        String::from("id, email, encrypted_password"),
        String::from("$1, $2, pat.take_password_hash()"),
    );
    for (column, value) in [
        (c"instance_id", "'00000000-0000-0000-0000-000000000000'"),
        (c"aud", "'authenticated'"),
        (c"role", "$3"),
        (
            c"raw_app_meta_data",
            r#"'{"provider": "email", "providers": ["email"]}'"#,
        ),
        (c"raw_user_meta_data", "$4::pg_catalog.jsonb"),
        (c"email_confirmed_at", "case when $5 then $6 end"),
        (c"created_at", "$6"),
        (c"updated_at", "$6"),
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
    let sql = format!(
        "insert into auth.users ({columns}) values ({values}) on conflict do nothing returning 1"
    );
    let arguments = [
        pg_uuid(user.id).into(),
        user.address.as_str().into(),
        user.role.into(),
        user.metadata.into(),
        user.is_confirmed.into(),
        now.to_timestamp()?.into(),
    ];
    let is_new = with_hash(user.password_hash, || {
        run_once(users, &sql, &arguments, |rows| Ok(!rows.is_empty()))
    });
    if !is_new? {
        return Ok(false);
    }
    let Some(identities) = relations::find_table(c"auth", c"identities") else {
        return Ok(true);
    };
    let sql = "insert into auth.identities \
         (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at) \
         values ($1, $2, pg_catalog.jsonb_build_object('sub', $1, 'email', $3, \
             'email_verified', false, 'phone_verified', false), 'email', $4, $4, $4)";
    let id = user.id.to_string();
    let arguments = [
        id.as_str().into(),
        pg_uuid(user.id).into(),
        user.address.as_str().into(),
        now.to_timestamp()?.into(),
    ];
    run_once(identities, sql, &arguments, |_| Ok(true))
}

/// Gives a user of [`lock_untouched`] the password and metadata of the latest who signed up with the address.
pub fn sign_up_again(user: Uuid, hash: &str, metadata: &str, now: Instant) -> Result<(), Error> {
    let users = state::table().ok_or(Error::NoUsersTable)?.table;
    let mut sql =
        String::from("update auth.users set encrypted_password = pat.take_password_hash()");
    for (column, change) in [
        (
            c"raw_user_meta_data",
            ", raw_user_meta_data = $2::pg_catalog.jsonb",
        ),
        (c"updated_at", ", updated_at = $3"),
    ] {
        if relations::find_column(users.oid, column, None).is_some() {
            sql += change;
        }
    }
    sql += " where id operator(pg_catalog.=) $1";
    let arguments = [
        pg_uuid(user).into(),
        metadata.into(),
        now.to_timestamp()?.into(),
    ];
    with_hash(hash, || run_once(users, &sql, &arguments, |_| Ok(())))
}

/// Notes that the address of a user is theirs. False if it was known already.
pub fn confirm(user: Uuid, now: Instant) -> Result<bool, Error> {
    let users = state::table().ok_or(Error::NoUsersTable)?.table;
    let sql = "update auth.users set email_confirmed_at = $2, updated_at = $2 \
         where id operator(pg_catalog.=) $1 and email_confirmed_at is null returning 1";
    let arguments = [pg_uuid(user).into(), now.to_timestamp()?.into()];
    if !run_once(users, sql, &arguments, |rows| Ok(!rows.is_empty()))? {
        return Ok(false);
    }
    let Some(identities) = relations::find_table(c"auth", c"identities") else {
        return Ok(true);
    };
    let sql = "update auth.identities set updated_at = $2, \
             identity_data = identity_data operator(pg_catalog.||) '{\"email_verified\": true}' \
         where user_id operator(pg_catalog.=) $1 and provider operator(pg_catalog.=) 'email'";
    run_once(identities, sql, &arguments, |_| Ok(true))
}

/// Gives somebody a new password hash, as Supabase Auth does it after a recovery, and tells whether they
/// still had the old one.
pub fn set_password(holder: &Holder, hash: &str, now: Instant) -> Result<bool, Error> {
    let users = state::table().ok_or(Error::NoUsersTable)?.table;
    let has = |column| relations::find_column(users.oid, column, None).is_some();
    // The hashes are compared here, since a filter in the statement would be shown with its plan.
    let sql = "select encrypted_password::text from auth.users where id operator(pg_catalog.=) $1 for update";
    let present = run_once(
        users,
        sql,
        &[pg_uuid(holder.user).into()],
        |rows| match rows.is_empty() {
            true => Ok(None),
            false => rows.first().get_one::<String>().map(Some),
        },
    )?;
    if present.as_ref() != Some(&holder.password_hash) {
        return Ok(false);
    }
    let mut sql =
        String::from("update auth.users set encrypted_password = pat.take_password_hash()");
    for (column, change) in [
        (c"updated_at", ", updated_at = $2"),
        // Having had the code shows that the address is theirs.
        (
            c"email_confirmed_at",
            ", email_confirmed_at = coalesce(email_confirmed_at, $2)",
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
    sql += " where id operator(pg_catalog.=) $1 returning 1";
    let arguments = [pg_uuid(holder.user).into(), now.to_timestamp()?.into()];
    with_hash(hash, || {
        run_once(users, &sql, &arguments, |rows| Ok(!rows.is_empty()))
    })
}

static PENDING: Pending = Pending::new();

/// Runs `write`, in which the statement calls [`take_password_hash`].
fn with_hash<R>(hash: &str, write: impl FnOnce() -> R) -> R {
    PENDING.with(Zeroizing::new(hash.to_owned()), write)
}

/// The hash that is being written.
pub fn take_password_hash() -> Option<Zeroizing<String>> {
    PENDING.secret()
}

/// Forgets what Supabase Auth has given a user, to refresh sessions with or to prove who they are.
pub fn forget_tokens(user: Uuid) -> Result<(), Error> {
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

/// The row of a user, as JSON.
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

/// Whether a user has signed in as nobody in particular. `None` where `auth.users` does not know.
pub fn is_anonymous(user: Uuid) -> Result<Option<bool>, Error> {
    let users = state::table().ok_or(Error::NoUsersTable)?.table;
    let column = relations::find_column(users.oid, c"is_anonymous", Some(pgrx::pg_sys::BOOLOID));
    if column.is_none() {
        return Ok(None);
    }
    let sql = "select from auth.users where id operator(pg_catalog.=) $1 and is_anonymous";
    run_once_on_latest(users, sql, &[pg_uuid(user).into()]).map(|count| Some(count > 0))
}

/// Notes when a user has signed in.
pub fn signed_in(user: Uuid, now: Instant) -> Result<(), Error> {
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

/// The role that a row of `auth.users` gives its user: the one that it names, or else that of logged-in users. Whoever
/// may write that row must not make anybody trusted by it.
///
/// # Errors
/// [`Error::RoleNotAllowed`].
pub fn role_of_user(named: Option<&str>) -> Result<String, Error> {
    match named {
        None | Some("") => Ok(settings::authenticated_role()),
        Some(role) if rights::may_become_trusted(role) => {
            Err(Error::RoleNotAllowed(role.to_owned()))
        }
        Some(role) => Ok(role.to_owned()),
    }
}
