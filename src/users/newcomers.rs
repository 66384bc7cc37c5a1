//! Users whom a sign-up adds, and whose address is confirmed later: rows of `auth.users` and `auth.identities`, as
//! Supabase Auth writes them.

use supabase_pat_core::account::Address;
use supabase_pat_core::error::Error;
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::relations;
use crate::pg::statement::run_once;
use crate::pg::uuid::pg_uuid;
use crate::users::password::with_hash;
use crate::users::state;

/// What is known of somebody who signs up.
pub struct NewUser<'a> {
    pub id: Uuid,
    pub address: &'a Address,
    pub password_hash: &'a str,
    pub role: &'a str,
    /// A JSON object, for `raw_user_meta_data`.
    pub metadata: &'a str,
    pub is_confirmed: bool,
}

/// Adds a user, with an identity of the provider `email`, as Supabase Auth does. False if the address is taken.
///
/// # Errors
/// [`Error::NoUsersTable`].
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

/// Gives a user whom [`crate::users::lock_untouched`] has locked the password and the metadata, a JSON object, of the
/// latest sign-up with that address.
///
/// # Errors
/// [`Error::NoUsersTable`].
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

/// Notes that a user has confirmed the address. False if that was noted already.
///
/// # Errors
/// [`Error::NoUsersTable`].
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
