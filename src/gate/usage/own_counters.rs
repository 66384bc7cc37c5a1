//! Limits where there is no shared memory: each backend counts what it has admitted itself.
#![allow(unsafe_code)]

use std::collections::HashMap;

use supabase_pat_core::lease::{Blocked, Counters};
use supabase_pat_core::rate::Limits;
use uuid::Uuid;

use super::NotAdmitted;
use crate::pg::Local;
use crate::pg::clock::Instant;

/// How many tokens a backend counts for. If the windows of all of them are still running, one more token is refused.
const MAX_TOKENS: usize = 10_000;
/// Dead tokens are looked for at most once in so many microseconds, since all tokens are looked up then.
const MINUTE: i64 = 60_000_000;

static COUNTERS: Local<Option<HashMap<Uuid, Counters>>> = Local::new(None);
static LOOKED_UP_AT: Local<i64> = Local::new(0);

/// What a token has counted in this backend.
pub fn counters(token: Uuid) -> Option<Counters> {
    // SAFETY: the reference is gone at the end of the line.
    let counters = unsafe { COUNTERS.get() }.as_ref()?;
    counters.get(&token).copied()
}

/// As [`super::admit`], for a token with limits that need no lease.
pub fn admit(
    token: Uuid,
    limits: &Limits,
    is_dead: impl Fn(Uuid) -> bool,
) -> Result<Counters, NotAdmitted> {
    let now = Instant::now().unix_micros();
    // SAFETY: each reference is gone at the end of its line.
    let counters = || unsafe { COUNTERS.get() }.get_or_insert_default();
    if counters().len() >= MAX_TOKENS && !counters().contains_key(&token) {
        counters().retain(|_, counters| !counters.are_over(now));
        // SAFETY: as above.
        let looked_up_at = unsafe { *LOOKED_UP_AT.get() };
        if counters().len() >= MAX_TOKENS && now - looked_up_at > MINUTE {
            // SAFETY: as above.
            unsafe { *LOOKED_UP_AT.get() = now };
            let mut all: Vec<Uuid> = counters().keys().copied().collect();
            all.retain(|&token| is_dead(token));
            for dead in all {
                counters().remove(&dead);
            }
        }
        if counters().len() >= MAX_TOKENS {
            return Err(NotAdmitted::NoRoom);
        }
    }
    let used = counters().entry(token).or_insert(Counters::NEW);
    match used.admit(limits, now) {
        Ok(()) => Ok(*used),
        Err(Blocked::UsedUp(which, micros)) => Err(NotAdmitted::UsedUp {
            which,
            micros,
            counters: *used,
        }),
        Err(Blocked::NeedsLease) => Err(NotAdmitted::NoLease),
    }
}
