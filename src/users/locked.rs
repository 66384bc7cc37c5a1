//! Rows of `auth.users` that are locked, so that what they say stays so until the end of the transaction.

use supabase_pat_core::error::Error;
use uuid::Uuid;

use crate::pg::relations;
use crate::pg::statement::run_once;
use crate::pg::uuid::pg_uuid;
use crate::users::accounts;
use crate::users::role_of_user;
use crate::users::state::{self, UserState, state_of_user};

/// A user who may have a session, by a row that is locked until the end of the transaction. A transaction that bans or
/// deletes the user, sets another password or ends all sessions of the user changes or locks the same row. So it either
/// waits for the session that is begun here, or this one has waited for it.
pub struct MayLogIn {
    user: Uuid,
    password_hash: Option<String>,
}

impl MayLogIn {
    /// The id of the user.
    pub fn id(&self) -> Uuid {
        self.user
    }

    /// Whether the password hash is still `hash`, the one that was read before the lock.
    pub fn has_hash(&self, hash: Option<&str>) -> bool {
        self.password_hash.as_deref() == hash
    }
}

/// Locks the row of a user, and judges the user by what has committed then: the ban, the deletion and the role.
///
/// # Errors
/// [`Error::UnknownUser`], [`Error::BannedUser`], [`Error::ServiceAccount`], [`Error::RoleNotAllowed`],
/// [`Error::NoUsersTable`].
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
    if accounts::is_account(user) {
        return Err(Error::ServiceAccount(user));
    }
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

/// Locks the row of a user, if there is one, in whatever state. Until the end of the transaction nobody else can begin
/// a session of this user.
///
/// # Errors
/// Those of [`run_once`].
pub fn lock_row(user: Uuid) -> Result<(), Error> {
    let Some(users) = state::table() else {
        return Ok(());
    };
    let sql = "select from auth.users where id operator(pg_catalog.=) $1 for no key update";
    run_once(users.table, sql, &[pg_uuid(user).into()], |_| Ok(()))
}

/// Locks the row of a user who has confirmed no address, and has never signed in, has no phone and was not invited.
/// `None` if the user is not such a one; else the password hash, which may be null.
///
/// # Errors
/// [`Error::NoUsersTable`].
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
