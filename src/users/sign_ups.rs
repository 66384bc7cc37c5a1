//! Users whom `sign_up` has made, and who have shown nothing yet: the table `pat.pending_sign_ups`.
//!
//! Only such a user is given another password by whoever signs up with the same address again. What there is
//! besides in `auth.users` without a confirmed address, made by Supabase Auth, an administrator or an
//! invitation, is nobody else's to change.
#![allow(unsafe_code)]

use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid::{BYTEAOID, UUIDARRAYOID, UUIDOID};
use supabase_pat_core::error::Error;
use supabase_pat_core::password;
use uuid::Uuid;

use crate::pg::random;
use crate::pg::relations;
use crate::pg::statement::Statement;
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

    // Whoever signs up waits for nobody who is at the same rows.
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

/// A user whom `sign_up` has made, with the digest of the password hash that it has given them last. `None` for
/// a digest that is not known: version 0.1.0 did not note it.
pub struct Pending(Option<[u8; 32]>);

impl Pending {
    pub fn has_hash(&self, hash: Option<&str>) -> bool {
        match self.0 {
            Some(digest) => hash.is_some_and(|hash| password::digest_of_hash(hash) == digest),
            None => true,
        }
    }
}

/// Not there while the SQL is that of an older version.
pub fn is_there() -> bool {
    relations::find_table(c"pat", c"pending_sign_ups").is_some()
}

/// Takes note of a user whom `sign_up` has made or given another password.
pub fn note(user: Uuid, hash: &str) -> Result<(), Error> {
    if !is_there() {
        return Ok(());
    }
    let digest = password::digest_of_hash(hash).to_vec();
    let arguments = [pg_uuid(user).into(), digest.into()];
    NOTE.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    forget_some_that_are_gone()
}

/// `None` for everybody else. To be asked when the user's row is locked, so that it stays so.
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

/// The user has shown that they are the address's, or has come in by another road.
pub fn forget(user: Uuid) -> Result<(), Error> {
    match is_there() {
        true => FORGET.with(|statement| statement.run(&[pg_uuid(user).into()], |_| Ok(()))),
        false => Ok(()),
    }
}

/// No foreign key leaves the extension, so a user who is deleted leaves a row here. Each new one looks at four at a
/// random place: there are never many more than users who wait.
fn forget_some_that_are_gone() -> Result<(), Error> {
    // SAFETY: it only reads.
    if unsafe { pg_sys::XactIsoLevel } >= pg_sys::XACT_REPEATABLE_READ as i32 {
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
