//! The messages that wait to be sent, the tries at their codes, and the trail of events.

use pg_sys::BuiltinOid::{BOOLOID, BYTEAOID, INT4OID, TEXTOID, TIMESTAMPTZOID, UUIDOID};
use pgrx::datum::{TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::pg_sys;
use supabase_pat_core::error::Error;
use supabase_pat_core::reset_code::Purpose;
use uuid::Uuid;

use super::attempts::{self, At};
use super::clock::Instant;
use super::statement::Statement;
use super::store::pg_uuid;
use super::{lock, lookup, relations, unguarded};

thread_local! {
    static COUNT_REQUESTS: Statement = const { Statement::new(
        "select count(*)::integer from pat.outbox \
         where address_digest operator(pg_catalog.=) $1 and created_at operator(pg_catalog.>) $2",
        &[BYTEAOID, TIMESTAMPTZOID],
    ) };

    static INSERT: Statement = const { Statement::new(
        "insert into pat.outbox \
         (id, purpose, address_digest, signing_key, sealed, is_deliverable, created_at, expires_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[UUIDOID, TEXTOID, BYTEAOID, TEXTOID, BYTEAOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID],
    ) };

    static FORGET_EXPIRED: Statement = const { Statement::new(
        "update pat.outbox set sealed = null \
         where sealed is not null and expires_at operator(pg_catalog.<=) $1",
        &[TIMESTAMPTZOID],
    ) };

    static SWEEP: Statement = const { Statement::new(
        "delete from pat.outbox where id in (select id from pat.outbox \
         where created_at operator(pg_catalog.<) $1 limit 100 for update skip locked)",
        &[TIMESTAMPTZOID],
    ) };

    static CLAIM: Statement = const { Statement::new(
        "update pat.outbox as message set claimed_until = $2, \
         attempts = message.attempts operator(pg_catalog.+) 1 \
         where message.id operator(pg_catalog.=) any (array(\
             select id from pat.outbox where sealed is not null and is_deliverable \
             and expires_at operator(pg_catalog.>) $1 \
             and (claimed_until is null or claimed_until operator(pg_catalog.<=) $1) \
             order by created_at limit $3 for update skip locked)) \
         returning message.id, message.purpose, message.signing_key, message.sealed, \
             message.expires_at, message.attempts",
        &[TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID],
    ) };

    static SENT: Statement = const { Statement::new(
        "update pat.outbox set sealed = null, sent_at = $2 \
         where id operator(pg_catalog.=) $1 and sealed is not null returning 1",
        &[UUIDOID, TIMESTAMPTZOID],
    ) };

    static FAILED: Statement = const { Statement::new(
        "update pat.outbox set last_error = $3, claimed_until = $2 operator(pg_catalog.+) \
             pg_catalog.make_interval(secs => least(60, pg_catalog.power(2, attempts))) \
         where id operator(pg_catalog.=) $1 and sealed is not null returning 1",
        &[UUIDOID, TIMESTAMPTZOID, TEXTOID],
    ) };

    static DROP_UNREADABLE: Statement = const { Statement::new(
        "update pat.outbox set sealed = null, last_error = 'its signing key is gone' \
         where id operator(pg_catalog.=) $1",
        &[UUIDOID],
    ) };

    static COUNT_ATTEMPT: Statement = const { Statement::new(
        "insert into pat.code_attempts as known (token_id, attempts, expires_at) values ($1, 1, $2) \
         on conflict (token_id) do update set attempts = known.attempts operator(pg_catalog.+) 1",
        &[UUIDOID, TIMESTAMPTZOID],
    ) };

    static SWEEP_ATTEMPTS: Statement = const { Statement::new(
        "delete from pat.code_attempts where token_id in (select token_id from pat.code_attempts \
         where expires_at operator(pg_catalog.<) $1 limit 100 for update skip locked)",
        &[TIMESTAMPTZOID],
    ) };

}

const HOUR: i64 = 3600;

pub struct NewMessage<'a> {
    pub id: Uuid,
    pub purpose: Purpose,
    pub address_digest: &'a [u8],
    pub signing_key: Option<&'a str>,
    /// `None` if somebody else sends it.
    pub sealed: Option<&'a [u8]>,
    /// Whether the address is anybody's.
    pub is_deliverable: bool,
    pub created_at: Instant,
    pub expires_at: Instant,
}

/// A message as it is stored.
pub struct Message {
    pub id: Uuid,
    pub purpose: String,
    pub signing_key: Option<String>,
    pub sealed: Vec<u8>,
    pub expires_at: TimestampWithTimeZone,
    pub attempt: i32,
}

/// How many messages there have been for an address within the hour. Whoever asks for another one in
/// the meantime waits.
pub fn count_requests(address_digest: &[u8], now: Instant) -> Result<usize, Error> {
    if let Some(outbox) = relations::find_table(c"pat", c"outbox") {
        lock::bucket(outbox, &address_digest);
    }
    let arguments = [
        address_digest.to_vec().into(),
        now.plus_seconds(-HOUR).to_timestamp()?.into(),
    ];
    COUNT_REQUESTS.with(|statement| {
        statement.run(&arguments, |rows| {
            let count: Option<i32> = rows.first().get_one()?;
            Ok(count.unwrap_or_default() as usize)
        })
    })
}

/// Adds a message, and tells those who wait for one.
pub fn insert(message: &NewMessage) -> Result<(), Error> {
    let arguments = [
        pg_uuid(message.id).into(),
        message.purpose.as_str().into(),
        message.address_digest.to_vec().into(),
        message.signing_key.into(),
        message.sealed.map(<[u8]>::to_vec).into(),
        message.is_deliverable.into(),
        message.created_at.to_timestamp()?.into(),
        message.expires_at.to_timestamp()?.into(),
    ];
    INSERT.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    if message.sealed.is_some() {
        // SAFETY: takes C strings, and copies them.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                unguarded::Async_Notify(c"supabase_pat_outbox".as_ptr(), c"".as_ptr());
            });
        }
    }
    Ok(())
}

/// Forgets what has expired. Everybody who comes by does a little of it.
pub fn sweep(now: Instant) -> Result<(), Error> {
    let hour_ago = now.plus_seconds(-HOUR).to_timestamp()?;
    FORGET_EXPIRED.with(|statement| statement.sweep(&[now.to_timestamp()?.into()]))?;
    SWEEP.with(|statement| statement.sweep(&[hour_ago.into()]))
}

/// Takes up to `max` messages for `lease` seconds.
pub fn claim(max: i32, lease: i64, now: Instant) -> Result<Vec<Message>, Error> {
    let arguments = [
        now.to_timestamp()?.into(),
        now.plus_seconds(lease).to_timestamp()?.into(),
        max.into(),
    ];
    CLAIM.with(|statement| {
        statement.run(&arguments, |rows| {
            let mut messages = Vec::new();
            for row in rows {
                let (Some(id), Some(purpose), Some(sealed), Some(expires_at), Some(attempt)) = (
                    row.get::<PgUuid>(1)?,
                    row.get::<String>(2)?,
                    row.get::<Vec<u8>>(4)?,
                    row.get::<TimestampWithTimeZone>(5)?,
                    row.get::<i32>(6)?,
                ) else {
                    continue; // no column of these is null
                };
                messages.push(Message {
                    id: Uuid::from_bytes(*id.as_bytes()),
                    purpose,
                    signing_key: row.get::<String>(3)?,
                    sealed,
                    expires_at,
                    attempt,
                });
            }
            Ok(messages)
        })
    })
}

/// False if there is no such message any more.
pub fn sent(id: Uuid, now: Instant) -> Result<bool, Error> {
    let arguments = [pg_uuid(id).into(), now.to_timestamp()?.into()];
    SENT.with(|statement| statement.run(&arguments, |rows| Ok(!rows.is_empty())))
}

/// Gives a message back, for another try after a while. False if there is no such message any more.
pub fn failed(id: Uuid, error: &str, now: Instant) -> Result<bool, Error> {
    let arguments = [pg_uuid(id).into(), now.to_timestamp()?.into(), error.into()];
    FAILED.with(|statement| statement.run(&arguments, |rows| Ok(!rows.is_empty())))
}

pub fn drop_unreadable(id: Uuid) -> Result<(), Error> {
    DROP_UNREADABLE.with(|statement| statement.run(&[pg_uuid(id).into()], |_| Ok(())))
}

/// How many wrong tries there have been at the code of a token. Whoever tries in the meantime waits.
pub fn attempts(token: Uuid) -> u32 {
    let Some(table) = relations::find_table(c"pat", c"code_attempts") else {
        return 0;
    };
    lock::bucket(table, &token);
    let shared = attempts::so_far(At::Codes, token.as_bytes()).map_or(0, |(count, _)| count);
    lookup::attempts(table, token).max(shared)
}

/// Counts a wrong try. `expires_at` is when the token does.
pub fn count_attempt(token: Uuid, expires_at: Instant, now: Instant) -> Result<(), Error> {
    attempts::count(
        At::Codes,
        token.as_bytes(),
        now.unix_seconds(),
        expires_at.unix_seconds(),
    );
    let arguments = [pg_uuid(token).into(), expires_at.to_timestamp()?.into()];
    COUNT_ATTEMPT.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    let hour_ago = now.plus_seconds(-HOUR).to_timestamp()?;
    SWEEP_ATTEMPTS.with(|statement| statement.sweep(&[hour_ago.into()]))
}
