//! The table `pat.outbox`: the messages that wait to be sent, and how many were asked for lately.
#![allow(unsafe_code)]

use pg_sys::BuiltinOid::{BOOLOID, BYTEAOID, INT4OID, INT8OID, TEXTOID, TIMESTAMPTZOID, UUIDOID};
use pgrx::datum::{TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::pg_sys;
use supabase_pat_core::codes::Purpose;
use supabase_pat_core::error::Error;
use uuid::Uuid;

use crate::passwords::has_column;
use crate::pg::clock::Instant;
use crate::pg::lock;
use crate::pg::relations;
use crate::pg::statement::Statement;
use crate::pg::unguarded;
use crate::pg::uuid::pg_uuid;

thread_local! {
    static COUNT_REQUESTS: Statement = const { Statement::new(
        "select (count(*) filter (where asker_digest operator(pg_catalog.=) $3))::integer, \
             (count(*) filter (where not is_known_asker))::integer \
         from pat.outbox where address_digest operator(pg_catalog.=) $1 \
             and created_at operator(pg_catalog.>) $2 and purpose operator(pg_catalog.=) $4",
        &[BYTEAOID, TIMESTAMPTZOID, BYTEAOID, TEXTOID],
    ) };

    // These two are for the table as it was in 0.1.0, where the extension has not been updated yet.
    static COUNT_REQUESTS_IN_0_1_0: Statement = const { Statement::new(
        "select count(*)::integer, count(*)::integer from pat.outbox \
         where address_digest operator(pg_catalog.=) $1 and created_at operator(pg_catalog.>) $2",
        &[BYTEAOID, TIMESTAMPTZOID],
    ) };

    static INSERT_IN_0_1_0: Statement = const { Statement::new(
        "insert into pat.outbox \
         (id, purpose, address_digest, signing_key, sealed, is_deliverable, created_at, expires_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[UUIDOID, TEXTOID, BYTEAOID, TEXTOID, BYTEAOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID],
    ) };

    static INSERT: Statement = const { Statement::new(
        "insert into pat.outbox \
         (id, purpose, address_digest, signing_key, sealed, is_deliverable, created_at, expires_at, \
             asker_digest, is_known_asker) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &[UUIDOID, TEXTOID, BYTEAOID, TEXTOID, BYTEAOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BYTEAOID, BOOLOID],
    ) };

    // The array makes Postgres choose the rows once, however the statement is planned. Rows that another transaction is
    // about to change are left to it: so no transaction waits, and none does more than its share.
    static FORGET_EXPIRED: Statement = const { Statement::new(
        "update pat.outbox set sealed = null where id operator(pg_catalog.=) any (array(\
             select id from pat.outbox \
             where sealed is not null and expires_at operator(pg_catalog.<=) $1 \
             order by expires_at limit $2 for update skip locked))",
        &[TIMESTAMPTZOID, INT8OID],
    ) };

    static SWEEP: Statement = const { Statement::new(
        "delete from pat.outbox where id operator(pg_catalog.=) any (array(\
             select id from pat.outbox where created_at operator(pg_catalog.<) $1 \
             order by created_at limit $2 for update skip locked))",
        &[TIMESTAMPTZOID, INT8OID],
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
}

const HOUR: i64 = 3600;

/// A message to be added to the outbox.
pub struct NewMessage<'a> {
    pub id: Uuid,
    pub purpose: Purpose,
    pub address_digest: &'a [u8],
    pub signing_key: Option<&'a str>,
    pub sealed: &'a [u8],
    /// Whether the address is anybody's.
    pub is_deliverable: bool,
    pub created_at: Instant,
    pub expires_at: Instant,
    /// Who asked for it. `None` for a backend, which is not counted.
    pub asker: Option<&'a Asker>,
}

/// Who asks for a mail.
pub struct Asker {
    pub digest: [u8; 32],
    /// Whether they are known to the account. What they ask for does not count as a stranger's then.
    pub is_known: bool,
}

/// How many mails for a purpose have been asked for to an address within the last hour.
#[derive(Clone, Copy)]
pub struct Requests {
    /// By whoever asks now.
    pub of_asker: usize,
    /// By all strangers together.
    pub of_strangers: usize,
}

/// A message as it is stored.
pub struct Message {
    pub id: Uuid,
    pub purpose: String,
    pub signing_key: Option<String>,
    pub sealed: Vec<u8>,
    pub expires_at: TimestampWithTimeZone,
    /// The number of this attempt to send it, from 1.
    pub attempt: i32,
}

/// How many messages have been asked for to an address within the last hour. Another transaction that asks for one to
/// the same address waits for the end of this one.
pub fn count_requests(
    address_digest: &[u8],
    purpose: Purpose,
    asker: &Asker,
    now: Instant,
) -> Result<Requests, Error> {
    if let Some(outbox) = relations::find_table(c"pat", c"outbox") {
        lock::bucket(outbox, &address_digest);
    }
    let arguments = [
        address_digest.to_vec().into(),
        now.plus_seconds(-HOUR).to_timestamp()?.into(),
        asker.digest.to_vec().into(),
        purpose.as_str().into(),
    ];
    let (statement, arguments) = match has_column(c"outbox", c"asker_digest") {
        true => (&COUNT_REQUESTS, &arguments[..]),
        false => (&COUNT_REQUESTS_IN_0_1_0, &arguments[..2]),
    };
    statement.with(|statement| {
        statement.run(arguments, |rows| {
            let (of_asker, of_strangers) = rows.first().get_two::<i32, i32>()?;
            let count = |count: Option<i32>| count.unwrap_or_default() as usize;
            Ok(Requests {
                of_asker: count(of_asker),
                of_strangers: count(of_strangers),
            })
        })
    })
}

/// Adds a message, and notifies the mail workers that wait for one.
pub fn insert(message: &NewMessage) -> Result<(), Error> {
    let arguments = [
        pg_uuid(message.id).into(),
        message.purpose.as_str().into(),
        message.address_digest.to_vec().into(),
        message.signing_key.into(),
        message.sealed.to_vec().into(),
        message.is_deliverable.into(),
        message.created_at.to_timestamp()?.into(),
        message.expires_at.to_timestamp()?.into(),
        message.asker.map(|asker| asker.digest.to_vec()).into(),
        message.asker.map(|asker| asker.is_known).into(),
    ];
    let (statement, arguments) = match has_column(c"outbox", c"asker_digest") {
        true => (&INSERT, &arguments[..]),
        false => (&INSERT_IN_0_1_0, &arguments[..8]),
    };
    statement.with(|statement| statement.run(arguments, |_| Ok(())))?;
    // SAFETY: takes C strings, and copies them.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            unguarded::Async_Notify(c"supabase_pat_outbox".as_ptr(), c"".as_ptr());
        });
    }
    Ok(())
}

/// Makes up to `max` messages that have expired unreadable, and removes up to `max` that are older than an hour. Each
/// request that uses the outbox does a little of this.
pub fn sweep(now: Instant, max: i64) -> Result<(), Error> {
    let hour_ago = now.plus_seconds(-HOUR).to_timestamp()?;
    FORGET_EXPIRED.with(|statement| statement.sweep(&[now.to_timestamp()?.into(), max.into()]))?;
    SWEEP.with(|statement| statement.sweep(&[hour_ago.into(), max.into()]))
}

/// Takes up to `max` messages. For `lease` seconds, nobody else gets them.
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

/// Notes that a message has been sent. False if there is no such message any more.
pub fn sent(id: Uuid, now: Instant) -> Result<bool, Error> {
    let arguments = [pg_uuid(id).into(), now.to_timestamp()?.into()];
    SENT.with(|statement| statement.run(&arguments, |rows| Ok(!rows.is_empty())))
}

/// Gives a message back, with the reason why it could not be sent. It can be claimed again after 2, 4, 8 seconds and so
/// on, a minute at most. False if there is no such message any more.
pub fn failed(id: Uuid, error: &str, now: Instant) -> Result<bool, Error> {
    let arguments = [pg_uuid(id).into(), now.to_timestamp()?.into(), error.into()];
    FAILED.with(|statement| statement.run(&arguments, |rows| Ok(!rows.is_empty())))
}

/// Drops a message whose signing key is gone, so that nobody can open it.
pub fn drop_unreadable(id: Uuid) -> Result<(), Error> {
    DROP_UNREADABLE.with(|statement| statement.run(&[pg_uuid(id).into()], |_| Ok(())))
}
