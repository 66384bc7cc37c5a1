//! Slowing down whoever guesses passwords.
//!
//! Wrong passwords are counted for an account together with the address that they come from, for the
//! address, and for the account. Beyond some, each one more doubles the pause until the next try is
//! looked at, up to a quarter of an hour; for the account alone, which anybody can have a bad time with,
//! up to some seconds only, so that nobody is locked out by others. What comes during a pause is not
//! looked at and does not prolong it. An hour after the last one all is forgotten. Where the address is
//! not known, the account alone counts: else anybody could lock its owner out.
//!
//! They count also where the transaction is rolled back, if the library is preloaded: see [`super::attempts`].

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::BuiltinOid::{BYTEAARRAYOID, BYTEAOID, TIMESTAMPTZOID};
use supabase_pat_core::error::Error;

use super::attempts::{self, At};
use super::clock::Instant;
use super::statement::Statement;
use super::{lock, relations};

thread_local! {
    static READ: Statement = const { Statement::new(
        "select wrong, last_at from pat.wrong_passwords where key operator(pg_catalog.=) $1",
        &[BYTEAOID],
    ) };

    static COUNT: Statement = const { Statement::new(
        "insert into pat.wrong_passwords as known (key, wrong, last_at) \
         select key, 1, $2 from pg_catalog.unnest($1) as key order by key \
         on conflict (key) do update set last_at = $2, \
             wrong = case when known.last_at operator(pg_catalog.<) $3 then 1 \
                 else known.wrong operator(pg_catalog.+) 1 end",
        &[BYTEAARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID],
    ) };

    static FORGET: Statement = const { Statement::new(
        "delete from pat.wrong_passwords where key operator(pg_catalog.=) $1",
        &[BYTEAOID],
    ) };

    static SWEEP: Statement = const { Statement::new(
        "delete from pat.wrong_passwords where key operator(pg_catalog.=) any (array(\
             select key from pat.wrong_passwords where last_at operator(pg_catalog.<) $1 \
             limit 100 for update skip locked))",
        &[TIMESTAMPTZOID],
    ) };
}

const HOUR: i64 = 3600;

/// What is counted, by digests: the address book of those who guess is nobody's business.
pub struct Keys {
    /// `None` if the address is not known.
    pub account_from_address: Option<[u8; 32]>,
    pub address: Option<[u8; 32]>,
    pub account: [u8; 32],
}

/// How many wrong ones are free, and the longest pause in seconds.
struct Limit(u32, i64);

const ACCOUNT_FROM_ADDRESS: Limit = Limit(5, 900);
const ADDRESS: Limit = Limit(50, 900);
const ACCOUNT: Limit = Limit(20, 5);

impl Limit {
    /// Seconds.
    fn pause(&self, wrong: u32) -> i64 {
        match wrong.checked_sub(self.0) {
            None => 0,
            Some(more) => (1_i64 << more.min(20)).min(self.1),
        }
    }
}

/// Whether a try has to wait. The next one for the same account from the same address waits for
/// this one.
pub fn is_paused(keys: &Keys, now: Instant) -> Result<bool, Error> {
    if let Some(table) = relations::find_table(c"pat", c"wrong_passwords") {
        lock::bucket(table, &keys.account_from_address.unwrap_or(keys.account));
    }
    let counted = [
        (keys.account_from_address, ACCOUNT_FROM_ADDRESS),
        (keys.address, ADDRESS),
        (Some(keys.account), ACCOUNT),
    ];
    for (key, limit) in counted {
        let Some(key) = key else {
            continue;
        };
        let known = READ.with(|statement| {
            statement.run(&[key.to_vec().into()], |rows| {
                let row = rows.first();
                if row.is_empty() {
                    return Ok(None);
                }
                let last = row.get::<TimestampWithTimeZone>(2)?;
                Ok(row.get::<i32>(1)?.zip(last.map(Instant::from_timestamp)))
            })
        })?;
        let known = known.map(|(wrong, last)| (wrong as u32, last));
        let shared =
            attempts::so_far(At::Passwords, &in_shared_memory(&key)).map(|(wrong, end)| {
                let last = Instant::from_unix_seconds(end).plus_seconds(-HOUR);
                (wrong, last)
            });
        let has_to_wait = |(wrong, last): (u32, Instant)| {
            last.plus_seconds(HOUR) > now && last.plus_seconds(limit.pause(wrong)) > now
        };
        if known.into_iter().chain(shared).any(has_to_wait) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Counts a wrong password.
pub fn count(keys: &Keys, now: Instant) -> Result<(), Error> {
    let all = [keys.account_from_address, keys.address, Some(keys.account)];
    let all = all.into_iter().flatten();
    for key in all.clone() {
        let seconds = now.unix_seconds();
        attempts::count(
            At::Passwords,
            &in_shared_memory(&key),
            seconds,
            seconds + HOUR,
        );
    }
    let all: Vec<Vec<u8>> = all.map(|key| key.to_vec()).collect();
    let hour_ago = now.plus_seconds(-HOUR).to_timestamp()?;
    let arguments = [all.into(), now.to_timestamp()?.into(), hour_ago.into()];
    COUNT.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    SWEEP.with(|statement| statement.sweep(&[hour_ago.into()]))
}

/// The right password came: what was wrong from there before is forgotten.
pub fn forget(keys: &Keys) -> Result<(), Error> {
    match keys.account_from_address {
        Some(key) => {
            attempts::forget(At::Passwords, &in_shared_memory(&key));
            FORGET.with(|statement| statement.run(&[key.to_vec().into()], |_| Ok(())))
        }
        None => Ok(()),
    }
}

/// Databases that have a secret in common do not count for each other.
fn in_shared_memory(key: &[u8; 32]) -> attempts::Key {
    // SAFETY: set before any query runs.
    let database = unsafe { pgrx::pg_sys::MyDatabaseId }.to_u32();
    let mut short = [0; 16];
    short[..12].copy_from_slice(&key[..12]);
    short[12..].copy_from_slice(&database.to_be_bytes());
    short
}
