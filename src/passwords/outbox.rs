//! The messages that wait to be sent, the tries at their codes, and the trail of events.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::CStr;
use std::ops::ControlFlow;

use pg_sys::BuiltinOid::{BOOLOID, BYTEAOID, INT4OID, INT8OID, TEXTOID, TIMESTAMPTZOID, UUIDOID};
use pgrx::datum::{TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::pg_sys;
use supabase_pat_core::codes::Purpose;
use supabase_pat_core::error::Error;
use supabase_pat_core::guessing::{Chance, DAY};
use uuid::Uuid;

use crate::passwords::attempts::{self, Payers, Stored};
use crate::pg::clock::Instant;
use crate::pg::column::{Column, Id, Integer};
use crate::pg::lock;
use crate::pg::relations::{self, Rows, Table, layout};
use crate::pg::scan::{expect, look};
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

    // As the tables were in 0.1.0, for a database that has not been updated yet.
    static COUNT_REQUESTS_OF_OLD: Statement = const { Statement::new(
        "select count(*)::integer, count(*)::integer from pat.outbox \
         where address_digest operator(pg_catalog.=) $1 and created_at operator(pg_catalog.>) $2",
        &[BYTEAOID, TIMESTAMPTZOID],
    ) };

    static INSERT_OF_OLD: Statement = const { Statement::new(
        "insert into pat.outbox \
         (id, purpose, address_digest, signing_key, sealed, is_deliverable, created_at, expires_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[UUIDOID, TEXTOID, BYTEAOID, TEXTOID, BYTEAOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID],
    ) };

    static COUNT_ATTEMPT_OF_OLD: Statement = const { Statement::new(
        "insert into pat.code_attempts as known (token_id, attempts, expires_at) values ($1, 1, $2) \
         on conflict (token_id) do update set attempts = known.attempts operator(pg_catalog.+) 1",
        &[UUIDOID, TIMESTAMPTZOID],
    ) };

    static INSERT: Statement = const { Statement::new(
        "insert into pat.outbox \
         (id, purpose, address_digest, signing_key, sealed, is_deliverable, created_at, expires_at, \
             asker_digest, is_known_asker) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &[UUIDOID, TEXTOID, BYTEAOID, TEXTOID, BYTEAOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BYTEAOID, BOOLOID],
    ) };

    // What is to go is chosen once, however the statement is planned, and what somebody else is about to
    // change is left to them: nobody waits, and nobody does more than their share.
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

    static COUNT_ATTEMPT: Statement = const { Statement::new(
        "insert into pat.code_attempts as known \
         (token_id, attempts, expires_at, chance, address_digest, account_digest) \
         values ($1, 1, $2, $3, $4, $5) \
         on conflict (token_id) do update set attempts = known.attempts operator(pg_catalog.+) 1, \
             expires_at = greatest(known.expires_at, $2)",
        &[UUIDOID, TIMESTAMPTZOID, INT8OID, BYTEAOID, BYTEAOID],
    ) };

    static READ_ATTEMPTS: Statement = const { Statement::new(
        "select address_digest, account_digest, chance operator(pg_catalog.*) attempts \
         from pat.code_attempts \
         where chance operator(pg_catalog.>) 0 and expires_at operator(pg_catalog.>) $1 \
         order by expires_at desc limit $2",
        &[TIMESTAMPTZOID, INT8OID],
    ) };

    static SWEEP_ATTEMPTS: Statement = const { Statement::new(
        "delete from pat.code_attempts where token_id operator(pg_catalog.=) any (array(\
             select token_id from pat.code_attempts where expires_at operator(pg_catalog.<) $1 \
             order by expires_at limit 100 for update skip locked))",
        &[TIMESTAMPTZOID],
    ) };
}

const HOUR: i64 = 3600;

/// Whether a table of the extension's has a column that 0.1.0 did not know.
fn has_column(table: &CStr, column: &CStr) -> bool {
    let table = relations::find_table(c"pat", table);
    table.is_some_and(|table| relations::find_column(table.oid, column, None).is_some())
}

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
    /// Who asked for it.
    pub asker: Option<&'a Asker>,
}

/// Who asks for a mail.
pub struct Asker {
    pub digest: [u8; 32],
    /// Whether they are no stranger to the account, and what they ask for is no part of what strangers may.
    pub is_known: bool,
}

/// How many mails of a purpose an address has been sent within the hour.
#[derive(Clone, Copy)]
pub struct Requests {
    /// For whoever asks now.
    pub of_asker: usize,
    /// For all strangers together.
    pub of_strangers: usize,
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
        false => (&COUNT_REQUESTS_OF_OLD, &arguments[..2]),
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

/// Adds a message, and tells those who wait for one.
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
        false => (&INSERT_OF_OLD, &arguments[..8]),
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

/// Forgets what has expired, up to `max` messages. Everybody who comes by does a little of it.
pub fn sweep(now: Instant, max: i64) -> Result<(), Error> {
    let hour_ago = now.plus_seconds(-HOUR).to_timestamp()?;
    FORGET_EXPIRED.with(|statement| statement.sweep(&[now.to_timestamp()?.into(), max.into()]))?;
    SWEEP.with(|statement| statement.sweep(&[hour_ago.into(), max.into()]))
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

/// `pat.code_attempts`.
#[derive(Clone, Copy)]
pub struct CodeAttempts {
    table: Table,
    pub by_token: pg_sys::Oid,
    pub token_id: Column<Id>,
    pub attempts: Column<Integer>,
}

layout!(CodeAttempts, CODE_ATTEMPTS, c"pat".c"code_attempts", |open| {
    let token_id = open.column(c"token_id")?;
    Some(CodeAttempts {
        table: open.table,
        by_token: open.index(token_id, Rows::All),
        token_id,
        attempts: open.column(c"attempts")?,
    })
});

/// How many wrong tries at the code of a token are in the table `pat.code_attempts`.
pub fn attempts(token: Uuid) -> u32 {
    let attempts = look::<CodeAttempts, _>(|tries| {
        let layout = &tries.layout;
        let mut attempts = 0;
        tries.rows_with(layout.token_id, layout.by_token, &token, |row| {
            attempts = row.get(layout.attempts).map_or(0, |count| count as u32);
            ControlFlow::Break(())
        });
        attempts
    });
    expect::<CodeAttempts, _>(attempts).unwrap_or(0)
}

/// Writes down a wrong try at a code. `expires_at` is when its token does. What it was worth is kept for a day.
pub fn write_attempt(
    token: Uuid,
    expires_at: Instant,
    chance: Chance,
    payers: Payers,
    now: Instant,
) -> Result<(), Error> {
    let kept_until = match chance.is_none() {
        true => expires_at,
        false => expires_at.max(now.plus_seconds(DAY / 1_000_000)),
    };
    let arguments = [
        pg_uuid(token).into(),
        kept_until.to_timestamp()?.into(),
        chance.trillionths().into(),
        payers.address.to_vec().into(),
        payers.account.to_vec().into(),
    ];
    let (statement, arguments) = match has_column(c"code_attempts", c"chance") {
        true => (&COUNT_ATTEMPT, &arguments[..]),
        false => (&COUNT_ATTEMPT_OF_OLD, &arguments[..2]),
    };
    statement.with(|statement| statement.run(arguments, |_| Ok(())))?;
    let hour_ago = now.plus_seconds(-HOUR).to_timestamp()?;
    SWEEP_ATTEMPTS.with(|statement| statement.sweep(&[hour_ago.into()]))
}

/// Makes what was committed before the server started count in shared memory.
pub fn recall_attempts(now: Instant) -> Result<(), Error> {
    /// More than there can be of six digits. Of longer codes there can be any number, if somebody tries hard;
    /// then codes are long for a while.
    const MAX: i64 = 20_000;
    if attempts::knows_table() || !has_column(c"code_attempts", c"chance") {
        return Ok(());
    }
    let arguments = [now.to_timestamp()?.into(), (MAX + 1).into()];
    let rows = READ_ATTEMPTS.with(|statement| {
        statement.run(&arguments, |rows| {
            let mut all = Vec::new();
            for row in rows {
                let (address, account, chance) = (
                    row.get::<Vec<u8>>(1)?,
                    row.get::<Vec<u8>>(2)?,
                    row.get::<i64>(3)?,
                );
                let key = |digest: Option<Vec<u8>>| attempts::Key::try_from(digest?).ok();
                if let Some((address, account)) = key(address).zip(key(account)) {
                    let chance = Chance::from_trillionths(chance.unwrap_or_default());
                    all.push((address, account, chance));
                }
            }
            Ok(all)
        })
    })?;
    let mut together = Chance::NONE;
    let mut of: HashMap<attempts::Key, Chance> = HashMap::new();
    for &(address, account, chance) in &rows {
        together = together.plus(chance);
        for key in [address, account] {
            let so_far = of.entry(key).or_insert(Chance::NONE);
            *so_far = so_far.plus(chance);
        }
    }
    let stored = Stored {
        of: of.into_iter().collect(),
        together: (rows.len() as i64 <= MAX).then_some(together),
    };
    attempts::know_table(&stored, now);
    Ok(())
}
