//! The tokens that were used, each in a place of a table in shared memory, with its limit and its last use.
//!
//! # The table
//! It has a fixed number of places (`supabase_pat.tracked_keys`, 112 bytes each), 16 to a set; a hash of the id of a
//! token says which set is its own. A set is searched under one of 128 locks, for some tens of nanoseconds, so that
//! a limit is exact whatever comes at once, and tokens hardly ever wait for each other.
//!
//! # Who may have how much of it
//! Anybody who has a login can mint limited tokens with windows of a month, and revoke them again. So:
//! - A token that is dead (revoked, expired, deleted, or without a user) has no claim to its place, since it makes no
//!   further request. The gate finds that out when a set is full, by looking up the 16 tokens in it, and so notices
//!   every way in which a token can die. The setting `supabase_pat.max_keys_per_user` bounds how many live tokens one
//!   user has.
//! - One user has at most twelve places of a set with limits, should that setting be high.
//! - The hash has a seed of its own in each run of the server, so that nobody can pick ids that share a set with
//!   somebody else's token.
//!
//! # What can be lost, and in which direction
//! - A place is given to another token only if the window of the token that has it is over, or that token is dead: so
//!   no token ever has more requests than its limit allows. If there is no place to give, a token with a limit is
//!   refused for a second, and the use of a token without a limit is not noted.
//! - The last use is missing if a token lost its place before the worker came, or if the use was noted just before the
//!   server stopped: `last_used_at` may be too old, never too young.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use pgrx::pg_sys;
use supabase_pat_core::rate::{Counter, Limit};
use uuid::Uuid;

use super::memory::{Address, NOBODY, Shared, from_bytes, locked, shared, this_database, to_bytes};
use super::{Bearer, NotAdmitted};
use crate::pg::clock::Instant;
use crate::pg::settings;
use crate::pg::unguarded;

const PLACES_IN_A_SET: usize = 16;
/// How many of a set one user's tokens may have for as long as their windows last.
const PLACES_OF_A_USER: usize = 12;
/// How many locks the sets share.
pub const LOCKS: usize = 128;

/// What is known of the table as a whole.
#[repr(C)]
pub struct Places {
    /// What the ids of tokens are hashed with.
    seed: u64,
    sets: usize,
}

impl Places {
    /// Those of a server that starts.
    pub fn new() -> Self {
        Self {
            seed: random_seed(),
            sets: sets(),
        }
    }
}

/// A token that was used.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Place {
    /// Zero for a free place.
    database: u32,
    /// Whether the worker has not seen the last use yet.
    is_new: bool,
    token: [u8; 16],
    user: [u8; 16],
    /// In microseconds since 1970.
    used_at: i64,
    address: Address,
    limit: Option<Limit>,
    counter: Counter,
}

// As the documentation says.
const _: () = assert!(size_of::<Place>() == 112);

impl Place {
    const FREE: Self = Self {
        database: 0,
        is_new: false,
        token: NOBODY,
        user: NOBODY,
        used_at: 0,
        address: None,
        limit: None,
        counter: Counter::NEW,
    };

    /// Whether the place can be given away without letting its token have more requests than its limit.
    fn is_over(&self, now: i64) -> bool {
        self.limit
            .is_none_or(|limit| self.counter.is_over(limit, now))
    }
}

fn sets() -> usize {
    settings::tracked_keys().div_ceil(PLACES_IN_A_SET)
}

/// How many bytes the places take in shared memory.
pub fn size() -> usize {
    sets() * PLACES_IN_A_SET * size_of::<Place>()
}

/// Makes all places free, when the server starts.
///
/// # Safety
/// There are [`size`] bytes at `first`, and nobody else uses them.
pub unsafe fn make_free(first: *mut Place) {
    for place in 0..sets() * PLACES_IN_A_SET {
        // SAFETY: as the caller promises.
        unsafe { first.add(place).write(Place::FREE) };
    }
}

fn random_seed() -> u64 {
    let mut bytes = [0; size_of::<u64>()];
    // SAFETY: as many bytes as it is told. Where there is no randomness, nothing but the even spread of tokens that
    // were chosen for it suffers.
    unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    u64::from_ne_bytes(bytes)
}

fn set_of(shared: &Shared, token: &[u8; 16]) -> usize {
    let Places { seed, sets } = shared.places;
    // SAFETY: it reads as many bytes as it is told.
    let hash = unsafe {
        unguarded::hash_bytes_extended(token.as_ptr(), size_of_val(token) as c_int, seed)
    };
    (hash % sets as u64) as usize
}

/// Runs `f` on a set of places, under its lock. `f` must raise no error.
fn with_set<R>(shared: &Shared, set: usize, f: impl FnOnce(&mut [Place]) -> R) -> R {
    locked(set % LOCKS, || {
        // SAFETY: the places begin after the head, which is as aligned as they are; the lock is held.
        let places = unsafe {
            let first = std::ptr::from_ref(shared).add(1).cast_mut().cast::<Place>();
            std::slice::from_raw_parts_mut(first.add(set * PLACES_IN_A_SET), PLACES_IN_A_SET)
        };
        f(places)
    })
}

/// A request of a token.
struct Used {
    database: u32,
    token: [u8; 16],
    user: [u8; 16],
    limit: Option<Limit>,
    address: Address,
}

enum Counted {
    Admitted,
    /// Microseconds to the next window.
    UsedUp(i64),
    NoPlace,
}

/// As [`super::admit`].
pub fn admit(
    shared: &Shared,
    bearer: Bearer,
    limit: Option<Limit>,
    address: Option<IpAddr>,
    is_dead: impl Fn(Uuid) -> bool,
) -> Result<(), NotAdmitted> {
    let used = Used {
        database: this_database(),
        token: bearer.token.into_bytes(),
        user: bearer.user.into_bytes(),
        limit,
        address: address.map(to_bytes),
    };
    let mut crowd = [NOBODY; PLACES_IN_A_SET];
    match count(shared, &used, &[], &mut crowd) {
        Counted::Admitted => return Ok(()),
        Counted::UsedUp(micros) => return Err(NotAdmitted::UsedUp(micros)),
        Counted::NoPlace => (),
    }
    if limit.is_some() {
        // Outside the lock, since looking a token up can raise an error.
        let dead: Vec<[u8; 16]> = crowd
            .into_iter()
            .filter(|id| *id != NOBODY && is_dead(Uuid::from_bytes(*id)))
            .collect();
        if !dead.is_empty() {
            match count(shared, &used, &dead, &mut crowd) {
                Counted::Admitted => return Ok(()),
                Counted::UsedUp(micros) => return Err(NotAdmitted::UsedUp(micros)),
                Counted::NoPlace => (),
            }
        }
    }
    shared.lost.fetch_add(1, Relaxed);
    limit.map_or(Ok(()), |_| Err(NotAdmitted::NoRoom))
}

/// Counts a request, if there is a place: one of those that are `dead`, should there be no other. If there is none,
/// `crowd` becomes the tokens of this database that are in the way.
fn count(
    shared: &Shared,
    used: &Used,
    dead: &[[u8; 16]],
    crowd: &mut [[u8; 16]; PLACES_IN_A_SET],
) -> Counted {
    with_set(shared, set_of(shared, &used.token), |places| {
        // Under the lock, so that no window begins before the last one has ended.
        let now = Instant::now().unix_micros();
        let is_it = |place: &Place| place.database == used.database && place.token == used.token;
        let place = match places.iter().position(is_it) {
            Some(found) => &mut places[found],
            None => {
                for place in places.iter_mut() {
                    if place.database == used.database && dead.contains(&place.token) {
                        *place = Place::FREE;
                    }
                }
                let Some(given) = place_to_give(places, used, now) else {
                    let held = places
                        .iter()
                        .filter(|place| place.database == used.database && !place.is_over(now));
                    for (id, place) in crowd.iter_mut().zip(held) {
                        *id = place.token;
                    }
                    return Counted::NoPlace;
                };
                let place = &mut places[given];
                if place.database != 0 && place.is_new {
                    shared.lost.fetch_add(1, Relaxed);
                }
                *place = Place {
                    database: used.database,
                    token: used.token,
                    user: used.user,
                    ..Place::FREE
                };
                place
            }
        };
        place.limit = used.limit;
        if let Some(limit) = used.limit
            && let Err(micros) = place.counter.admit(limit, now)
        {
            return Counted::UsedUp(micros);
        }
        place.is_new = true;
        place.used_at = now;
        place.address = used.address;
        Counted::Admitted
    })
}

/// A free place, or else, among those whose window is over, the one that has been used least recently. Places whose
/// last use has been written are taken first. `None` for a token with a limit whose user has enough of them.
fn place_to_give(places: &[Place], used: &Used, now: i64) -> Option<usize> {
    let of_user = places.iter().filter(|place| {
        (place.database, place.user) == (used.database, used.user) && !place.is_over(now)
    });
    if used.limit.is_some() && of_user.count() >= PLACES_OF_A_USER {
        return None;
    }
    (0..places.len())
        .filter(|&number| places[number].is_over(now))
        .min_by_key(|&number| {
            let place = &places[number];
            (place.database != 0, place.is_new, place.used_at)
        })
}

/// A use that is to be written.
#[derive(Clone, Copy)]
pub struct Use {
    pub token: Uuid,
    pub at: Instant,
    pub address: Option<IpAddr>,
}

/// The databases in which a token was used and the use has not been written, most of them several times.
pub fn databases_with_news(shared: &Shared) -> Vec<u32> {
    let mut databases = Vec::new();
    for set in 0..shared.places.sets {
        // There is room for all of the set, so that nothing is allocated under the lock.
        databases.reserve(PLACES_IN_A_SET);
        with_set(shared, set, |places| {
            let news = places.iter().filter(|place| place.is_new);
            databases.extend(news.map(|place| place.database));
        });
    }
    databases
}

/// About `max` uses in this database that have not been written, from the set of that number on, and the set to go on
/// with, if there are more.
pub fn unwritten_uses(from_set: usize, max: usize) -> (Vec<Use>, Option<usize>) {
    let Some(shared) = shared() else {
        return (Vec::new(), None);
    };
    let database = this_database();
    let mut uses = Vec::with_capacity(max + PLACES_IN_A_SET);
    for set in from_set..shared.places.sets {
        if uses.len() >= max {
            return (uses, Some(set));
        }
        // There is room for all of them, so that nothing is allocated under the lock.
        with_set(shared, set, |places| {
            let new = places
                .iter()
                .filter(|place| place.is_new && place.database == database);
            uses.extend(new.map(|place| Use {
                token: Uuid::from_bytes(place.token),
                at: Instant::from_unix_micros(place.used_at),
                address: place.address.map(from_bytes),
            }));
        });
    }
    (uses, None)
}

/// Notes that these have been written. A use by a token that was used again meanwhile stays to be written.
pub fn uses_have_been_written(uses: &[Use]) {
    let Some(shared) = shared() else {
        return;
    };
    let database = this_database();
    for written in uses {
        let token = written.token.into_bytes();
        with_set(shared, set_of(shared, &token), |places| {
            for place in places {
                if place.database == database
                    && place.token == token
                    && place.used_at == written.at.unix_micros()
                {
                    place.is_new = false;
                }
            }
        });
    }
}

/// Forgets that there are uses in a database to be written. Limits go on.
pub fn forget(shared: &Shared, database: u32) {
    for set in 0..shared.places.sets {
        with_set(shared, set, |places| {
            for place in places.iter_mut().filter(|place| place.database == database) {
                place.is_new = false;
            }
        });
    }
}
