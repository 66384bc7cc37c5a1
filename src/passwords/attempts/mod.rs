//! Tries at codes. They count also if the transaction in which they were made is rolled back. Tries at passwords are
//! counted in [`crate::passwords::throttle`].
//!
//! The table `pat.code_attempts` ([`table`]) counts what was committed. With the table alone, an attacker who can make
//! a statement fail after it has told whether a code is right would have as many tries as they like. PostgREST rolls
//! back, for instance, where a client asks for exactly one row and filters it away. So tries are counted in shared
//! memory too, before the code is compared, and no rollback undoes that.
//!
//! Shared memory has a fixed number of places. The count of a place that is given away is kept for everything that has
//! no place ([`Places`]), so that nobody gains tries by filling the places. There is shared memory only if the library
//! is preloaded. Without it a rollback would undo every count, so all codes are long.
#![allow(unsafe_code)]

pub mod table;

use pgrx::{PGRXSharedMemory, PgLwLock, pg_guard, pg_shmem_init, pg_sys};
use supabase_pat_core::guessing::{
    ADDRESS, Allowance, Amount, CALLER, Chance, INSTALLATION, Level, Places, Tries,
};

pub use supabase_pat_core::guessing::LookupKey;

use crate::pg::clock::Instant;
use crate::pg::cluster;
use crate::pg::settings;

/// All that is counted for codes: 270 kB.
#[derive(Clone, Copy)]
pub struct Codes {
    /// By the ids of tokens with short codes. The allowances bound how many of these places anybody can fill.
    tokens: Places<Tries, 128, 16>,
    /// Those of addresses, of users, and of callers.
    allowances: Places<Level, 512, 16>,
    installations: Places<Level, 1, DATABASES>,
    /// The databases whose table of attempts has been read since the server started; the rest are zeros. If there are
    /// more databases, the one that has been here longest gives way, and its table is read again.
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

/// Whose allowances tries at a code are paid from, by digests.
#[derive(Clone, Copy)]
pub struct Payers {
    pub address: LookupKey,
    pub account: LookupKey,
    /// The network that the request comes from. `None` if it is not known, or is that of a backend.
    pub caller: Option<LookupKey>,
}

impl Payers {
    fn with_allowances(self) -> impl Iterator<Item = (LookupKey, Allowance)> {
        let caller = self.caller.map(|caller| (caller, CALLER));
        [(self.address, ADDRESS), (self.account, ADDRESS)]
            .into_iter()
            .chain(caller)
    }
}

/// A try at a short code.
pub struct CodeTry {
    pub token: LookupKey,
    /// When the token expires, in Unix seconds.
    pub expires_at: i64,
    pub chance: Chance,
    pub payers: Payers,
}

/// The wrong tries at a token.
#[derive(Clone, Copy)]
pub struct TokenTries {
    /// How many are in the table.
    pub written: u32,
    /// How many there may be.
    pub max: u32,
}

/// Whether a try is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Admitted,
    /// There have been as many tries at this token as there may be. `just_now`: this is the first one beyond that.
    TokenUsedUp {
        just_now: bool,
    },
    /// The allowance of a payer or of the whole installation is used up, or there is no shared memory.
    NothingLeft,
}

impl CodeTry {
    /// Counts the try before the code is compared: for the token and all payers, or for none of them.
    pub fn admit(&self, at_token: TokenTries, now: Instant) -> Admission {
        if !settings::is_preloaded() {
            return Admission::NothingLeft;
        }
        let (seconds, micros) = (now.unix_seconds(), now.unix_micros());
        let mut codes = CODES.exclusive();
        let count = codes
            .tokens
            .of(&self.token)
            .at(seconds)
            .max(at_token.written);
        let one_more = Tries {
            count: count.saturating_add(1),
            expires_at: self.expires_at,
        };
        if count >= at_token.max {
            // One more is counted, so that only one is told that it is the first.
            *codes.tokens.place(&self.token, seconds) = one_more;
            return Admission::TokenUsedUp {
                just_now: count == at_token.max,
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

    /// Takes the counts back, since the code was right and the try no guess.
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

/// Whether a code may be short: one that these payers pay for, with the token of that id, or any code if `payers` is
/// `None`.
pub fn may_be_short(payers: Option<(Payers, &LookupKey)>, now: Instant) -> bool {
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

/// Whether shared memory knows what the table of attempts of this database says.
pub fn knows_table() -> bool {
    !settings::is_preloaded() || CODES.share().known.contains(&cluster::database().to_u32())
}

/// What the tries in the table were worth.
pub struct WrittenTries {
    /// For each address and each user.
    pub of: Vec<(LookupKey, Chance)>,
    /// For all together. `None` if there are more rows than are read: then the whole allowance counts as used.
    pub together: Option<Chance>,
}

/// Makes shared memory count at least what the table says.
pub fn know_table(tries: &WrittenTries, now: Instant) {
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
    let together = tries.together.unwrap_or(Chance::from_trillionths(i64::MAX));
    let place = codes.installations.place(&this_database(), micros);
    *place = place.or(level(INSTALLATION, together));
    for (key, chance) in &tries.of {
        let place = codes.allowances.place(key, micros);
        *place = place.or(level(ADDRESS, *chance));
    }
    let next = codes.next;
    codes.known[next] = database;
    codes.next = (next + 1) % DATABASES;
}

fn this_database() -> LookupKey {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&cluster::database().to_u32().to_be_bytes());
    key
}
