//! Wrong tries at codes and passwords that count although the transaction in which they were made is rolled
//! back.
//!
//! The tables `pat.code_attempts` and `pat.wrong_passwords` count what was committed. Whoever can make a
//! statement fail after it has told them whether a code or password is right would have as many tries as they
//! like; PostgREST rolls back, for instance, where a client asks for exactly one row and filters it away. So
//! each wrong try is counted in shared memory too, where no rollback undoes it. That is there only if the
//! library is preloaded, and it has places for so many: if they are all taken, the one that expires first gives
//! way, and what was committed of it still counts.

use pgrx::{PGRXSharedMemory, PgLwLock, pg_guard, pg_shmem_init, pg_sys};

use super::settings;

const PLACES: usize = 2048;

/// What a try is at: the id of a code's token, or what a password is counted under.
pub type Key = [u8; 16];

#[derive(Clone, Copy)]
struct Tries {
    key: Key,
    /// Unix seconds.
    expires_at: i64,
    count: u32,
}

#[derive(Clone, Copy)]
pub struct Places([Tries; PLACES]);

// SAFETY: plain data without pointers.
unsafe impl PGRXSharedMemory for Places {}

// SAFETY: the name is used once.
static CODES: PgLwLock<Places> = unsafe { PgLwLock::new(c"supabase_pat_attempts") };

// SAFETY: as above.
static PASSWORDS: PgLwLock<Places> = unsafe { PgLwLock::new(c"supabase_pat_wrong_passwords") };

#[derive(Clone, Copy)]
pub enum At {
    Codes,
    Passwords,
}

impl At {
    fn places(self) -> &'static PgLwLock<Places> {
        match self {
            Self::Codes => &CODES,
            Self::Passwords => &PASSWORDS,
        }
    }
}

const NONE: Places = Places(
    [Tries {
        key: [0; 16],
        expires_at: 0,
        count: 0,
    }; PLACES],
);

/// To be called while the library is being preloaded.
pub fn init() {
    pg_shmem_init!(CODES = NONE);
    pg_shmem_init!(PASSWORDS = NONE);
}

/// How many wrong tries there have been, as far as shared memory knows, and when they expire in Unix seconds.
pub fn so_far(at: At, key: &Key) -> Option<(u32, i64)> {
    if !settings::is_preloaded() {
        return None;
    }
    let places = at.places().share();
    let tries = places.0.iter().find(|tries| tries.key == *key)?;
    Some((tries.count, tries.expires_at))
}

/// Counts another one, after those that have not expired `now`. All of them expire at `expires_at`, in Unix
/// seconds.
pub fn count(at: At, key: &Key, now: i64, expires_at: i64) {
    if !settings::is_preloaded() {
        return;
    }
    let mut places = at.places().exclusive();
    let known = places.0.iter().position(|tries| tries.key == *key);
    let place = known.or_else(|| (0..PLACES).min_by_key(|&place| places.0[place].expires_at));
    let Some(place) = place else {
        return;
    };
    let tries = &mut places.0[place];
    let so_far = match tries.key == *key && tries.expires_at > now {
        true => tries.count,
        false => 0,
    };
    *tries = Tries {
        key: *key,
        expires_at,
        count: so_far.saturating_add(1),
    };
}

pub fn forget(at: At, key: &Key) {
    if !settings::is_preloaded() {
        return;
    }
    let mut places = at.places().exclusive();
    if let Some(tries) = places.0.iter_mut().find(|tries| tries.key == *key) {
        (tries.count, tries.expires_at) = (0, 0);
    }
}
