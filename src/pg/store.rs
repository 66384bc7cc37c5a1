//! The statements on keys and signing keys.

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::{pg_sys, spi};
use supabase_pat_core::error::Error;
use supabase_pat_core::key_ring::Status;
use supabase_pat_core::scope::Scopes;
use supabase_pat_core::signing_key::SigningKey;
use uuid::Uuid;

use super::clock::Instant;
use super::statement::Statement;
use super::{lock, relations, ring};

/// A row to be added to `pat.api_keys`.
pub struct NewKey<'a> {
    pub id: Uuid,
    pub user: Uuid,
    pub name: &'a str,
    pub scopes: &'a Scopes,
    pub hint: &'a str,
    pub created_at: Instant,
    pub expires_at: Instant,
    /// The id of the signing key, if it is one of the ring.
    pub signing_key: Option<&'a str>,
}

/// What a rotation takes over from the key that it replaces.
pub struct RotatedKey {
    pub name: String,
    pub scopes: Scopes,
    /// Seconds from creation to expiry.
    pub lifetime: i64,
}

use pg_sys::BuiltinOid::{TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, UUIDOID};

thread_local! {
    static INSERT: Statement = const { Statement::new(
        "insert into pat.api_keys (id, user_id, name, scopes, hint, created_at, expires_at, signing_key) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[UUIDOID, UUIDOID, TEXTOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID],
    ) };

    static REVOKE: Statement = const { Statement::new(
        "update pat.api_keys set revoked_at = $2 \
         where id operator(pg_catalog.=) $1 and revoked_at is null \
         and expires_at operator(pg_catalog.>) $2 \
         and ($3 is null or user_id operator(pg_catalog.=) $3) returning 1",
        &[UUIDOID, TIMESTAMPTZOID, UUIDOID],
    ) };

    static REVOKE_ALL: Statement = const { Statement::new(
        "update pat.api_keys set revoked_at = $2 \
         where user_id operator(pg_catalog.=) $1 and revoked_at is null \
         and expires_at operator(pg_catalog.>) $2 returning 1",
        &[UUIDOID, TIMESTAMPTZOID],
    ) };

    // With a grace, the key lives on until its end, but is not rotated again.
    static REPLACE: Statement = const { Statement::new(
        "update pat.api_keys as key set replaced_by = $4, \
         revoked_at = case when $5 is null then $2 end, \
         expires_at = case when $5 operator(pg_catalog.<) key.expires_at then $5 else key.expires_at end \
         from pat.api_keys as old \
         where key.id operator(pg_catalog.=) $1 and old.id operator(pg_catalog.=) key.id \
         and key.revoked_at is null and key.replaced_by is null \
         and key.expires_at operator(pg_catalog.>) $2 \
         and key.user_id operator(pg_catalog.=) $3 \
         returning old.name, old.scopes, old.created_at, old.expires_at",
        &[UUIDOID, TIMESTAMPTZOID, UUIDOID, UUIDOID, TIMESTAMPTZOID],
    ) };

    static ADD_SIGNING_KEY: Statement = const { Statement::new(
        "with key as (insert into pat.signing_keys (kid, algorithm) \
         values ($1, $2) on conflict (kid) do nothing returning kid) \
         insert into pat.private_keys (kid, jwk) select kid, pat.take_private_jwk() from key returning 1",
        &[TEXTOID, TEXTOID],
    ) };

    static SIGNING_KEY_STATUS: Statement = const { Statement::new(
        "select status from pat.signing_keys where kid operator(pg_catalog.=) $1",
        &[TEXTOID],
    ) };

    static ROTATE_SIGNING_KEY: Statement = const { Statement::new(
        "update pat.signing_keys set \
         status = case when kid operator(pg_catalog.=) $1 then 'current' else 'previous' end, \
         activated_at = case when kid operator(pg_catalog.=) $1 then $2 else activated_at end \
         where kid operator(pg_catalog.=) $1 or status operator(pg_catalog.=) 'current'",
        &[TEXTOID, TIMESTAMPTZOID],
    ) };

    static REVOKE_SIGNING_KEY: Statement = const { Statement::new(
        "update pat.signing_keys set status = 'revoked', revoked_at = $2 \
         where kid operator(pg_catalog.=) $1",
        &[TEXTOID, TIMESTAMPTZOID],
    ) };

    static REVOKE_SIGNED_WITH: Statement = const { Statement::new(
        "update pat.api_keys set revoked_at = $2 \
         where signing_key operator(pg_catalog.=) $1 and revoked_at is null \
         and expires_at operator(pg_catalog.>) $2",
        &[TEXTOID, TIMESTAMPTZOID],
    ) };
}

pub fn insert(key: &NewKey) -> Result<(), Error> {
    let arguments = [
        uuid(key.id),
        uuid(key.user),
        key.name.into(),
        key.scopes.to_texts().into(),
        key.hint.into(),
        key.created_at.to_timestamp()?.into(),
        key.expires_at.to_timestamp()?.into(),
        key.signing_key.into(),
    ];
    INSERT.with(|statement| statement.run(&arguments, |_| Ok(())))
}

/// Revokes a live key, of `owner` if one is given, and tells whether there was one.
pub fn revoke(id: Uuid, owner: Option<Uuid>, now: Instant) -> Result<bool, Error> {
    let arguments = [
        uuid(id),
        now.to_timestamp()?.into(),
        owner.map(pg_uuid).into(),
    ];
    REVOKE.with(|statement| statement.run(&arguments, |rows| Ok(!rows.is_empty())))
}

/// Revokes all live keys of a user, and tells how many there were.
pub fn revoke_all(user: Uuid, now: Instant) -> Result<usize, Error> {
    let arguments = [uuid(user), now.to_timestamp()?.into()];
    REVOKE_ALL.with(|statement| statement.run(&arguments, |rows| Ok(rows.len())))
}

/// Ends a live key of `owner` in favour of `successor`: at once, or at the end of a grace. `None` if
/// there is no such key, or it has been replaced before.
pub fn replace(
    id: Uuid,
    owner: Uuid,
    successor: Uuid,
    now: Instant,
    grace_ends: Option<Instant>,
) -> Result<Option<RotatedKey>, Error> {
    let grace_ends = grace_ends.map(Instant::to_timestamp).transpose()?;
    let arguments = [
        uuid(id),
        now.to_timestamp()?.into(),
        uuid(owner),
        uuid(successor),
        grace_ends.into(),
    ];
    REPLACE.with(|statement| {
        statement.run(&arguments, |rows| {
            let row = rows.first();
            if row.is_empty() {
                return Ok(None);
            }
            let time = |column| -> spi::Result<Option<Instant>> {
                let time = row.get::<TimestampWithTimeZone>(column)?;
                Ok(time.map(Instant::from_timestamp))
            };
            let (Some(name), Some(created), Some(expires)) =
                (row.get::<String>(1)?, time(3)?, time(4)?)
            else {
                return Ok(None); // no column of these is null
            };
            let scopes = match row.get::<Vec<Option<String>>>(2)? {
                Some(texts) => Scopes::known(texts.iter().flatten().map(String::as_str)),
                None => Scopes::Unlimited,
            };
            Ok(Some(RotatedKey {
                name,
                scopes,
                lifetime: expires.seconds_since(created),
            }))
        })
    })
}

/// Adds a signing key on standby. False if there is one of that id.
pub fn add_signing_key(id: &str, key: &SigningKey) -> Result<bool, Error> {
    let arguments = [id.into(), key.algorithm().as_str().into()];
    ring::with_private_jwk(key, || {
        ADD_SIGNING_KEY.with(|statement| statement.run(&arguments, |rows| Ok(!rows.is_empty())))
    })
}

pub fn signing_key_status(id: &str) -> Result<Option<Status>, Error> {
    SIGNING_KEY_STATUS.with(|statement| {
        statement.run(&[id.into()], |rows| {
            if rows.is_empty() {
                return Ok(None);
            }
            let status = rows.first().get_one::<String>()?;
            Ok(status.and_then(|status| status.parse().ok()))
        })
    })
}

/// Makes a key the current one, and the current one a previous one.
pub fn rotate_signing_key(id: &str, now: Instant) -> Result<(), Error> {
    let arguments = [id.into(), now.to_timestamp()?.into()];
    ROTATE_SIGNING_KEY.with(|statement| statement.run(&arguments, |_| Ok(())))
}

/// Revokes a key, and the tokens that were minted with it.
pub fn revoke_signing_key(id: &str, now: Instant) -> Result<(), Error> {
    let arguments = [id.into(), now.to_timestamp()?.into()];
    REVOKE_SIGNING_KEY.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    REVOKE_SIGNED_WITH.with(|statement| statement.run(&arguments, |_| Ok(())))
}

/// Makes transactions that give `user` a key, or revoke all of them, wait for each other: none
/// counts, or revokes, without the others' keys. Held to the end of the transaction; taken before
/// any lock on a row, so that nobody waits in a circle. Readers are not concerned.
pub fn lock_keys_of(user: Uuid) {
    let Some(keys) = relations::keys() else {
        return;
    };
    lock::bucket(keys.table, &user);
}

fn uuid(value: Uuid) -> DatumWithOid<'static> {
    pg_uuid(value).into()
}

pub fn pg_uuid(value: Uuid) -> PgUuid {
    PgUuid::from_bytes(value.into_bytes())
}
