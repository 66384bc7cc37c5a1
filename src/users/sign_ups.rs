//! Users whom `sign_up` has made, and who have not confirmed their address yet: the table `pat.pending_sign_ups`.
//!
//! Only such a user gets another password if somebody signs up with the same address again. `auth.users` may have other
//! users without a confirmed address, whom Supabase Auth, an administrator or an invitation has made: a sign-up changes
//! none of these.

use pgrx::pg_sys::BuiltinOid::{BYTEAOID, UUIDARRAYOID, UUIDOID};
use supabase_pat_core::error::Error;
use supabase_pat_core::password;
use uuid::Uuid;

use crate::pg::random;
use crate::pg::relations;
use crate::pg::statement::{Statement, uses_transaction_snapshot};
use crate::pg::uuid::pg_uuid;
use crate::users::state::{UserState, state_of_user};

thread_local! {
    static NOTE: Statement = const { Statement::new(
        "insert into pat.pending_sign_ups as known (user_id, password_digest) values ($1, $2) \
         on conflict (user_id) do update set password_digest = $2",
        &[UUIDOID, BYTEAOID],
    ) };

    static FIND: Statement = const { Statement::new(
        "select password_digest from pat.pending_sign_ups where user_id operator(pg_catalog.=) $1 \
         and not exists (select from pat.sessions where user_id operator(pg_catalog.=) $1) \
         and not exists (select from pat.api_keys where user_id operator(pg_catalog.=) $1)",
        &[UUIDOID],
    ) };

    static FORGET: Statement = const { Statement::new(
        "delete from pat.pending_sign_ups where user_id operator(pg_catalog.=) $1",
        &[UUIDOID],
    ) };

    // A sign-up does not wait for others that lock the same rows.
    static FORGET_SOME: Statement = const { Statement::new(
        "delete from pat.pending_sign_ups where user_id operator(pg_catalog.=) any (array(\
             select user_id from pat.pending_sign_ups where user_id operator(pg_catalog.=) any ($1) \
             for update skip locked))",
        &[UUIDARRAYOID],
    ) };

    static SOME: Statement = const { Statement::new(
        "with after as (select user_id from pat.pending_sign_ups \
             where user_id operator(pg_catalog.>=) $1 order by user_id limit 4), \
         before as (select user_id from pat.pending_sign_ups \
             where user_id operator(pg_catalog.<) $1 order by user_id limit 4) \
         select user_id from after union all select user_id from before limit 4",
        &[UUIDOID],
    ) };
}

/// A user whom `sign_up` has made, with the digest of the password hash that it has set last. `None` if the digest is
/// not known: version 0.1.0 did not note it.
pub struct Pending(Option<[u8; 32]>);

impl Pending {
    /// Whether `hash` is the password hash that `sign_up` has set last. True if that is not known.
    pub fn has_hash(&self, hash: Option<&str>) -> bool {
        match self.0 {
            Some(digest) => hash.is_some_and(|hash| password::digest_of_hash(hash) == digest),
            None => true,
        }
    }
}

/// Whether the table exists. It does not while the installed SQL is that of an older version.
pub fn is_there() -> bool {
    relations::find_table(c"pat", c"pending_sign_ups").is_some()
}

/// Notes a user whom `sign_up` has made or given another password, of which `hash` is the hash.
///
/// # Errors
/// Those of [`Statement::run`].
pub fn note(user: Uuid, hash: &str) -> Result<(), Error> {
    if !is_there() {
        return Ok(());
    }
    let digest = password::digest_of_hash(hash).to_vec();
    let arguments = [pg_uuid(user).into(), digest.into()];
    NOTE.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    forget_some_that_are_gone()
}

/// Looks for a user in the table. `None` for one who is not in it, or has a session or a token. To be called while the
/// user's row is locked, so that the answer stays right.
///
/// # Errors
/// Those of [`Statement::run`].
pub fn find(user: Uuid) -> Result<Option<Pending>, Error> {
    if !is_there() {
        return Ok(None);
    }
    FIND.with(|statement| {
        statement.run(&[pg_uuid(user).into()], |rows| {
            if rows.is_empty() {
                return Ok(None);
            }
            let digest = rows.first().get_one::<Vec<u8>>()?;
            Ok(Some(Pending(
                digest.and_then(|digest| digest.try_into().ok()),
            )))
        })
    })
}

/// Removes a user from the table, who has confirmed the address or signed in by other means.
///
/// # Errors
/// Those of [`Statement::run`].
pub fn forget(user: Uuid) -> Result<(), Error> {
    match is_there() {
        true => FORGET.with(|statement| statement.run(&[pg_uuid(user).into()], |_| Ok(()))),
        false => Ok(()),
    }
}

/// No foreign key of the extension refers to other tables, so the row of a deleted user stays here. Each new row has
/// four rows at a random place checked and removed if their users are gone. So there are never many more rows than
/// users who have not confirmed yet.
fn forget_some_that_are_gone() -> Result<(), Error> {
    if uses_transaction_snapshot() {
        return Ok(());
    }
    let place = Uuid::from_bytes(random::bytes()?);
    let some: Vec<Uuid> = SOME.with(|statement| {
        statement.run(&[pg_uuid(place).into()], |rows| {
            let mut some = Vec::new();
            for row in rows {
                let user = row.get::<pgrx::datum::Uuid>(1)?;
                some.extend(user.map(|user| Uuid::from_bytes(*user.as_bytes())));
            }
            Ok(some)
        })
    })?;
    let mut gone = Vec::new();
    for user in some {
        if state_of_user(user)? == UserState::Gone {
            gone.push(pg_uuid(user));
        }
    }
    match gone.is_empty() {
        true => Ok(()),
        false => FORGET_SOME.with(|statement| statement.run(&[gone.into()], |_| Ok(()))),
    }
}
