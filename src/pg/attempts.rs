//! Wrong tries at a code that count although the transaction in which they were made is rolled back.
//!
//! The table `pat.code_attempts` counts what was committed. Whoever can make a statement fail after it
//! has told them whether a code is right would have as many tries as they like. So each wrong try is
//! counted in shared memory too, where no rollback undoes it. That is there only if the library is
//! preloaded, and it has places for so many tokens: if they are all taken, the one that expires first
//! gives way, and what was committed of it still counts.

use pgrx::{PGRXSharedMemory, PgLwLock, pg_guard, pg_shmem_init, pg_sys};
use uuid::Uuid;

use super::settings;

const PLACES: usize = 2048;

#[derive(Clone, Copy)]
struct Tries {
    token: [u8; 16],
    /// Unix seconds.
    expires_at: i64,
    count: u32,
}

#[derive(Clone, Copy)]
pub struct Places([Tries; PLACES]);

// SAFETY: plain data without pointers.
unsafe impl PGRXSharedMemory for Places {}

// SAFETY: the name is used once.
static PLACES_IN_USE: PgLwLock<Places> = unsafe { PgLwLock::new(c"supabase_pat_attempts") };

/// To be called while the library is being preloaded.
pub fn init() {
    pg_shmem_init!(
        PLACES_IN_USE = Places(
            [Tries {
                token: [0; 16],
                expires_at: 0,
                count: 0,
            }; PLACES]
        )
    );
}

/// How many wrong tries there have been, as far as shared memory knows.
pub fn so_far(token: Uuid) -> u32 {
    if !settings::is_preloaded() {
        return 0;
    }
    let places = PLACES_IN_USE.share();
    let tries = places
        .0
        .iter()
        .find(|tries| tries.token == *token.as_bytes());
    tries.map_or(0, |tries| tries.count)
}

/// Counts another one. `expires_at` is when the token does, in Unix seconds.
pub fn count(token: Uuid, expires_at: i64) {
    if !settings::is_preloaded() {
        return;
    }
    let mut places = PLACES_IN_USE.exclusive();
    let known = places
        .0
        .iter()
        .position(|tries| tries.token == *token.as_bytes());
    let place = known.or_else(|| {
        let first = (0..PLACES).min_by_key(|&place| places.0[place].expires_at)?;
        places.0[first] = Tries {
            token: *token.as_bytes(),
            expires_at,
            count: 0,
        };
        Some(first)
    });
    if let Some(place) = place {
        places.0[place].count = places.0[place].count.saturating_add(1);
    }
}
