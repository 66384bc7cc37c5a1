//! Pauses between tries at a password, for those who guess.
//!
//! Tries are counted for an account together with the network that they come from, for the network, and for the
//! account. Beyond some wrong tries, each further one doubles the pause until the next try is looked at: up to a
//! quarter of an hour, but only up to some seconds for the account alone, since any stranger can cause that pause. A
//! try during a pause is not looked at, and does not prolong the pause. An hour after the last try all is forgotten.
//! Where the address of the client is not known, only the account counts.
//!
//! Strangers who keep an account busy must not lock its owner out. So a try from a network that the account has signed
//! in from before ([`crate::sessions::known_networks`]) waits only for tries from that network.
//!
//! A try is counted before the password is looked at, in memory, where neither a rollback nor the end of the statement
//! undoes the count, and in the table if the password turns out to be wrong. All connections share the memory if the
//! library is preloaded. Otherwise each connection has memory of its own, and does not know what others roll back. The
//! rules are in [`supabase_pat_core::throttle`].
#![allow(unsafe_code)]

use std::net::IpAddr;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::BuiltinOid::{BYTEAARRAYOID, BYTEAOID, INT4OID, TIMESTAMPTZOID};
use pgrx::{PGRXSharedMemory, PgLwLock, pg_guard, pg_shmem_init, pg_sys};
use supabase_pat_core::account::Address;
use supabase_pat_core::codes::digest_of;
use supabase_pat_core::error::Error;
use supabase_pat_core::throttle::{
    ACCOUNT, ACCOUNT_FROM_KNOWN_NETWORK, ACCOUNT_FROM_NETWORK, Counted, LookupKey, Memory, NETWORK,
    Noted, Tries, network_of,
};

use crate::pg::Local;
use crate::pg::clock::Instant;
use crate::pg::lock;
use crate::pg::relations;
use crate::pg::settings;
use crate::pg::statement::Statement;
use crate::signing_keys::ring;

thread_local! {
    static READ: Statement = const { Statement::new(
        "select wrong, last_at from pat.wrong_passwords where key operator(pg_catalog.=) $1",
        &[BYTEAOID],
    ) };

    // For the first of the digests the number of tries is known exactly: $4, with those that left no row because they
    // were cut short.
    static COUNT: Statement = const { Statement::new(
        "insert into pat.wrong_passwords as known (key, wrong, last_at) \
         select key, case when key operator(pg_catalog.=) $5 then $4 else 1 end, $2 \
         from pg_catalog.unnest($1) as key order by key \
         on conflict (key) do update set last_at = $2, \
             wrong = greatest(excluded.wrong, \
                 case when known.last_at operator(pg_catalog.<) $3 then 1 \
                     else known.wrong operator(pg_catalog.+) 1 end)",
        &[BYTEAARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, BYTEAOID],
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

/// 8,192 places of 32 bytes.
type Tried = Memory<512>;

/// The memory that all connections share.
#[derive(Clone, Copy)]
pub struct Shared(Tried);

// SAFETY: plain data without pointers.
unsafe impl PGRXSharedMemory for Shared {}

// SAFETY: the name is used once.
static SHARED: PgLwLock<Shared> = unsafe { PgLwLock::new(c"supabase_pat_passwords") };

const NONE: Shared = Shared(Tried::EMPTY);

/// The memory of this connection, if there is none that is shared.
static OWN: Local<Option<Box<Tried>>> = Local::new(None);

/// To be called while the library is being preloaded.
pub fn init() {
    pg_shmem_init!(SHARED = NONE);
}

fn with_memory<R>(f: impl FnOnce(&mut Tried) -> R) -> R {
    match settings::is_preloaded() {
        true => f(&mut SHARED.exclusive().0),
        // SAFETY: the core calls nothing that could come back here.
        false => f(unsafe { OWN.get() }.get_or_insert_with(|| Box::new(Tried::EMPTY))),
    }
}

/// The digests that a try is counted under. They are digests so that the table does not list the addresses that
/// somebody has tried.
pub struct TryDigests {
    account: [u8; 32],
    /// For the account together with the network, and for the network. `None` if the network is not known.
    from_network: Option<[[u8; 32]; 2]>,
}

impl TryDigests {
    /// The digests for a try at the password of `address`, made from the address `from` of the network.
    ///
    /// # Errors
    /// Those of [`ring::signing_key`], from which the key of the digests is derived.
    pub fn of(address: &Address, from: Option<IpAddr>) -> Result<Self, Error> {
        let key = ring::signing_key()?;
        let account = address.as_str();
        let from_network = match from.map(network_of) {
            Some((network, length)) => {
                let network = format!("{network}/{length}");
                Some([
                    digest_of(&key, &["from", account, &network])?,
                    digest_of(&key, &["address", &network])?,
                ])
            }
            None => None,
        };
        Ok(Self {
            account: digest_of(&key, &["account", account])?,
            from_network,
        })
    }

    /// Tries under this digest wait for each other, so that its count is exact.
    fn first(&self) -> &[u8; 32] {
        match &self.from_network {
            Some([account_from_network, _]) => account_from_network,
            None => &self.account,
        }
    }

    /// All of them, [`Self::first`] first.
    fn all(&self) -> impl Iterator<Item = &[u8; 32]> {
        let from_network = self.from_network.iter().flatten();
        from_network.chain([&self.account])
    }
}

/// A try that has been counted, and whose password is being looked at.
pub struct PasswordTry {
    digests: TryDigests,
    at: Instant,
    noted: Vec<Noted>,
    /// How many tries under the first digest were counted and left no row, because they were cut short or rolled back.
    pub unrecorded: u32,
}

/// Counts a try. `None` if it comes during a pause. The next try at the same account from the same network waits for
/// the end of this transaction. `is_known`: the account has signed in from that network before.
pub fn begin(digests: TryDigests, is_known: bool) -> Result<Option<PasswordTry>, Error> {
    if let Some(table) = relations::find_table(c"pat", c"wrong_passwords") {
        lock::bucket(table, digests.first());
    }
    let now = Instant::now();
    let counted = |digest: &[u8; 32], limit| -> Result<Counted, Error> {
        Ok(Counted {
            key: in_memory(digest),
            limit,
            stored: stored(digest)?,
        })
    };
    let (first, second) = match (&digests.from_network, is_known) {
        (Some([account, network]), false) => (
            Some(counted(account, Some(ACCOUNT_FROM_NETWORK))?),
            Some(counted(network, Some(NETWORK))?),
        ),
        (Some([account, network]), true) => (
            Some(counted(account, Some(ACCOUNT_FROM_KNOWN_NETWORK))?),
            Some(counted(network, None)?),
        ),
        (None, _) => (None, None),
    };
    let limit = match digests.from_network.is_some() && is_known {
        true => None,
        false => Some(ACCOUNT),
    };
    let all = [first, second, Some(counted(&digests.account, limit)?)];
    let admitted = with_memory(|memory| memory.admit(&all, now.unix_micros()));
    let Some(admitted) = admitted else {
        return Ok(None);
    };
    let noted: Vec<Noted> = admitted.into_iter().flatten().collect();
    let of_first = all.iter().flatten().next().map(|counted| counted.stored);
    let recorded = of_first.filter(|stored| now < end_of(stored));
    let unrecorded = noted.first().map_or(0, |noted| {
        noted
            .wrong_before()
            .saturating_sub(recorded.map_or(0, |stored| stored.wrong))
    });
    Ok(Some(PasswordTry {
        digests,
        at: now,
        noted,
        unrecorded,
    }))
}

fn end_of(tries: &Tries) -> Instant {
    Instant::from_unix_micros(tries.last).plus_seconds(HOUR)
}

impl PasswordTry {
    /// Writes down that the password was wrong.
    pub fn was_wrong(self) -> Result<(), Error> {
        let now = self.at;
        let first = in_memory(self.digests.first());
        let tries = with_memory(|memory| memory.so_far(&first, now.unix_micros()).wrong);
        let all: Vec<Vec<u8>> = self.digests.all().map(|digest| digest.to_vec()).collect();
        let hour_ago = now.plus_seconds(-HOUR).to_timestamp()?;
        let arguments = [
            all.into(),
            now.to_timestamp()?.into(),
            hour_ago.into(),
            i32::try_from(tries.max(1)).unwrap_or(i32::MAX).into(),
            self.digests.first().to_vec().into(),
        ];
        COUNT.with(|statement| statement.run(&arguments, |_| Ok(())))?;
        SWEEP.with(|statement| statement.sweep(&[hour_ago.into()]))
    }

    /// Takes the counts back, since the password was right, and forgets the wrong tries from that network.
    pub fn was_right(self) -> Result<(), Error> {
        let account_from_network = self.digests.from_network.map(|[first, _]| first);
        with_memory(|memory| {
            for noted in &self.noted {
                memory.take_back(noted);
            }
            if let Some(digest) = account_from_network {
                memory.forget(&in_memory(&digest));
            }
        });
        match account_from_network {
            Some(digest) => {
                FORGET.with(|statement| statement.run(&[digest.to_vec().into()], |_| Ok(())))
            }
            None => Ok(()),
        }
    }
}

/// The tries under a digest that are in the table.
fn stored(digest: &[u8; 32]) -> Result<Tries, Error> {
    let found = READ.with(|statement| {
        statement.run(&[digest.to_vec().into()], |rows| {
            let row = rows.first();
            if row.is_empty() {
                return Ok(None);
            }
            let last = row.get::<TimestampWithTimeZone>(2)?;
            Ok(row.get::<i32>(1)?.zip(last.map(Instant::from_timestamp)))
        })
    })?;
    Ok(found.map_or_else(Tries::default, |(wrong, last)| Tries {
        wrong: u32::try_from(wrong).unwrap_or(0),
        last: last.unix_micros(),
    }))
}

/// What stands for a digest in memory. It contains the database, so that databases with a secret in common do not count
/// for each other.
fn in_memory(digest: &[u8; 32]) -> LookupKey {
    // SAFETY: set before any query runs.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    let mut short = [0; 16];
    short[..12].copy_from_slice(&digest[..12]);
    short[12..].copy_from_slice(&database.to_be_bytes());
    short
}
