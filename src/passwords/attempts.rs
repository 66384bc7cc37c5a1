//! Tries at codes that count although the transaction in which they were made is rolled back. For those at
//! passwords see [`crate::passwords::throttle`].
//!
//! The table `pat.code_attempts` counts what was committed. Whoever can make a statement fail after it has told
//! them whether a code is right would have as many tries as they like; PostgREST rolls back, for instance, where a
//! client asks for exactly one row and filters it away. So tries are counted in shared memory too, where no
//! rollback undoes it, before the code is looked at. That is there only if the library is preloaded, and it has
//! places for so many: what has to give way is counted for whatever has no place ([`Places`]), so that nobody gains
//! tries by filling them.
//!
//! Without shared memory nothing could be counted against a rollback. So all codes are long then.
#![allow(unsafe_code)]

use pgrx::{PGRXSharedMemory, PgLwLock, pg_guard, pg_shmem_init, pg_sys};
use supabase_pat_core::guessing::{
    ADDRESS, Allowance, Amount, CALLER, Chance, INSTALLATION, Level, Places, Tries,
};

pub use supabase_pat_core::guessing::Key;

use crate::pg::clock::Instant;
use crate::pg::cluster;
use crate::pg::settings;

/// What is counted of codes: 270 kB.
#[derive(Clone, Copy)]
pub struct Codes {
    /// By the ids of tokens with short codes. Allowances bound how many of them anybody can fill.
    tokens: Places<Tries, 128, 16>,
    /// Of addresses, of users, and of those who ask.
    allowances: Places<Level, 512, 16>,
    installations: Places<Level, 1, DATABASES>,
    /// The databases whose table of attempts has been read since the server started, the rest zeros. The one
    /// that has been here longest gives way, which only makes somebody read the table again.
    known: [u32; DATABASES],
    next: usize,
}

const DATABASES: usize = 64;

// SAFETY: plain data without pointers.
unsafe impl PGRXSharedMemory for Codes {}

// SAFETY: the name is used once.
static CODES: PgLwLock<Codes> = unsafe { PgLwLock::new(c"supabase_pat_attempts") };

const NO_CODES: Codes = Codes {
    tokens: Places::EMPTY,
    allowances: Places::EMPTY,
    installations: Places::EMPTY,
    known: [0; DATABASES],
    next: 0,
};

/// To be called while the library is being preloaded.
pub fn init() {
    pg_shmem_init!(CODES = NO_CODES);
}

/// From whose allowances tries at a code are paid.
#[derive(Clone, Copy)]
pub struct Payers {
    /// By digests.
    pub address: Key,
    pub account: Key,
    /// `None` if it is not known who asks.
    pub caller: Option<Key>,
}

impl Payers {
    fn with_allowances(self) -> impl Iterator<Item = (Key, Allowance)> {
        let caller = self.caller.map(|caller| (caller, CALLER));
        [(self.address, ADDRESS), (self.account, ADDRESS)]
            .into_iter()
            .chain(caller)
    }
}

/// A try at a short code.
pub struct Try {
    pub token: Key,
    /// When the token does, in Unix seconds.
    pub expires_at: i64,
    pub chance: Chance,
    pub payers: Payers,
}

/// Whether a try is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Admitted,
    /// There have been too many at this token; whether they were just enough before this one.
    TokenUsedUp {
        just_now: bool,
    },
    /// There have been too many elsewhere.
    NothingLeft,
}

impl Try {
    /// Counts the try, everywhere or nowhere, before anybody looks whether it is right. `written` are those at the
    /// token that are in the table, of which `max` may be wrong.
    pub fn admit(&self, written: u32, max: u32, now: Instant) -> Admission {
        if !settings::is_preloaded() {
            return Admission::NothingLeft;
        }
        let (seconds, micros) = (now.unix_seconds(), now.unix_micros());
        let mut codes = CODES.exclusive();
        let count = codes.tokens.of(&self.token).at(seconds).max(written);
        let one_more = Tries {
            count: count.saturating_add(1),
            expires_at: self.expires_at,
        };
        if count >= max {
            // One more is counted, so that only one is told that it is the first.
            *codes.tokens.place(&self.token, seconds) = one_more;
            return Admission::TokenUsedUp {
                just_now: count == max,
            };
        }
        let here = this_database();
        let has_room = |level: Level, allowance: Allowance| {
            level.has_room(allowance.cost(self.chance), micros)
        };
        let mut all = self.payers.with_allowances();
        if !has_room(codes.installations.of(&here), INSTALLATION)
            || !all.all(|(key, allowance)| has_room(codes.allowances.of(&key), allowance))
        {
            return Admission::NothingLeft;
        }
        *codes.tokens.place(&self.token, seconds) = one_more;
        let installation = codes.installations.place(&here, micros);
        installation.raise(INSTALLATION.cost(self.chance), micros);
        for (key, allowance) in self.payers.with_allowances() {
            let level = codes.allowances.place(&key, micros);
            level.raise(allowance.cost(self.chance), micros);
        }
        Admission::Admitted
    }

    /// It was right: it is no guess.
    pub fn take_back(&self) {
        if !settings::is_preloaded() {
            return;
        }
        let mut codes = CODES.exclusive();
        if let Some(tries) = codes.tokens.own_place(&self.token) {
            tries.count = tries.count.saturating_sub(1);
        }
        if let Some(level) = codes.installations.own_place(&this_database()) {
            level.lower(INSTALLATION.cost(self.chance));
        }
        for (key, allowance) in self.payers.with_allowances() {
            if let Some(level) = codes.allowances.own_place(&key) {
                level.lower(allowance.cost(self.chance));
            }
        }
    }
}

/// Whether codes may be short: for these, and at a token of that id; or for anybody, if nobody is named.
pub fn may_be_short(payers: Option<(Payers, &Key)>, now: Instant) -> bool {
    if !settings::is_preloaded() {
        return false;
    }
    let micros = now.unix_micros();
    let codes = CODES.share();
    let is_free = payers.is_none_or(|(payers, token)| {
        let mut all = payers.with_allowances();
        // A new token may share the count of one that had to give way.
        codes.tokens.of(token).at(now.unix_seconds()) == 0
            && all.all(|(key, _)| codes.allowances.of(&key).is_half_free(micros))
    });
    is_free
        && codes
            .installations
            .of(&this_database())
            .is_half_free(micros)
}

/// Whether what the table of attempts of this database says is known here.
pub fn knows_table() -> bool {
    !settings::is_preloaded() || CODES.share().known.contains(&cluster::database().to_u32())
}

/// What the table says of short codes: of addresses and users, and of all together. `None` for everything that an
/// installation can have used, where there is more than is worth reading.
pub struct Stored {
    pub of: Vec<(Key, Chance)>,
    pub together: Option<Chance>,
}

/// Counts at least what is stored.
pub fn know_table(stored: &Stored, now: Instant) {
    let database = cluster::database().to_u32();
    let micros = now.unix_micros();
    let level = |allowance: Allowance, chance| {
        let mut level = Level::NONE;
        level.raise(allowance.cost(chance), micros);
        level
    };
    let mut codes = CODES.exclusive();
    if codes.known.contains(&database) {
        return;
    }
    let together = stored
        .together
        .unwrap_or(Chance::from_trillionths(i64::MAX));
    let place = codes.installations.place(&this_database(), micros);
    *place = place.or(level(INSTALLATION, together));
    for (key, chance) in &stored.of {
        let place = codes.allowances.place(key, micros);
        *place = place.or(level(ADDRESS, *chance));
    }
    let next = codes.next;
    codes.known[next] = database;
    codes.next = (next + 1) % DATABASES;
}

fn this_database() -> Key {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&cluster::database().to_u32().to_be_bytes());
    key
}
