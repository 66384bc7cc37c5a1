//! The password hash in a row of `auth.users`.

use supabase_pat_core::account::Holder;
use supabase_pat_core::error::Error;
use zeroize::Zeroizing;

use crate::pg::clock::Instant;
use crate::pg::relations;
use crate::pg::secret_argument::SecretArgument;
use crate::pg::statement::run_once;
use crate::pg::uuid::pg_uuid;
use crate::users::state;

/// Sets a new password hash, as Supabase Auth does after a recovery: it also confirms the address and clears the tokens
/// in the row. False, without a change, if the user no longer has the password hash of `holder`.
///
/// # Errors
/// [`Error::NoUsersTable`].
pub fn set_password(holder: &Holder, hash: &str, now: Instant) -> Result<bool, Error> {
    let users = state::table().ok_or(Error::NoUsersTable)?.table;
    let has = |column| relations::find_column(users.oid, column, None).is_some();
    // The hashes are compared here: a condition in the statement would be in the log if plans are logged.
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
        // A user who has had the code has shown that the address is theirs.
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
        // Supabase Auth gives a session of this user to whoever knows the code of a change of the phone number that was
        // begun before, and looks for it here if there is none in `auth.one_time_tokens`.
        (c"phone_change_token", ", phone_change_token = ''"),
        (c"phone_change", ", phone_change = ''"),
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

static PENDING: SecretArgument = SecretArgument::new();

/// Runs `write`, in which the statement calls [`take_password_hash`].
pub(super) fn with_hash<R>(hash: &str, write: impl FnOnce() -> R) -> R {
    PENDING.with(Zeroizing::new(hash.to_owned()), write)
}

/// The hash that is being written, for the SQL function `pat.take_password_hash`. `None` at any other time.
pub fn take_password_hash() -> Option<Zeroizing<String>> {
    PENDING.secret()
}
