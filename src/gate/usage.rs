//! What the gate counts, in shared memory: the requests of each token within its window, when it was last
//! used, and what was refused. A GET runs READ ONLY and could write none of this into a table, and a
//! count that was rolled back would be no limit. The worker carries it into the tables every few seconds
//! (worker.rs).
//!
//! # The table of tokens
//! It has a fixed number of places (`supabase_pat.tracked_keys`, 112 bytes each), 16 to a set; a hash of the id of a
//! token says which set is its own. A set is searched under one of 128 locks, for some tens of nanoseconds, so that
//! a limit is exact whatever comes at once, and tokens hardly ever wait for each other.
//!
//! # Who may have how much of it
//! Whoever has a login can mint limited tokens with windows of a month, and revoke them again. So:
//! - A token that is dead, revoked, expired or deleted or without a user, has no claim to its place, since it makes no
//!   further request. That is found out when a set is full, by looking up the 16 that are in it, and so along every
//!   road on which a token can die. What lives of one user is bounded by `supabase_pat.max_keys_per_user`.
//! - Twelve places of a set are the most that one user has with limits, should that setting be high.
//! - The hash has a seed of its own in each run of the server, so that nobody can pick ids that share a set with
//!   somebody else's token.
//!
//! # What can be lost, and in which direction
//! - A place is given to another token only if the window of the one that has it is over, or that one is dead: so no
//!   token ever has more requests than its limit allows. If there is no place to give, a token with a limit is refused
//!   for a second, and one without a limit is not noted.
//! - The last use of a token that lost its place before the worker came, or was noted just before the server
//!   stopped, is missing: `last_used_at` may be too old, never too young.
//! - Refusals within an interval are noted for 16 tokens of a user, and for the rest of theirs together; should there
//!   be no place for a user, for all such users together. None is left out as long as eight databases or fewer have
//!   any.
//! - Shared memory begins empty after a restart, limits included.
//!
//! Without preloading there is no shared memory. Then each connection of the REST server counts for itself, so
//! that a token has its limit once a connection, and nothing is noted.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::c_int;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

use pgrx::pg_sys;
use supabase_pat_core::rate::{Counter, Limit};
use uuid::Uuid;

use crate::pg::Local;
use crate::pg::clock::Instant;
use crate::pg::settings;
use crate::pg::unguarded;

mod unwritten;

pub use unwritten::*;

const PLACES_IN_A_SET: usize = 16;
const LOCKS: usize = 128;
/// How many of a set one user's tokens may have for as long as their windows last.
const PLACES_OF_A_USER: usize = 12;
const REFUSALS: usize = 1024;
/// How many of them are for refusals that name no user, so that there is always room for these.
const NAMELESS_REFUSALS: usize = 128;
/// How many tokens of one user have refusals of their own within an interval.
const REFUSED_TOKENS_OF_A_USER: usize = 16;
const DATABASES: usize = 256;
const TRANCHE: &std::ffi::CStr = c"supabase_pat_usage";

/// The head of the shared memory; the places of the tokens follow it.
#[repr(C)]
struct Shared {
    requests: [Requests; DATABASES],
    /// What the ids of tokens are hashed with.
    seed: u64,
    /// Uses for which there was no place.
    lost: AtomicU64,
    worker: AtomicI32,
    flushed_at: AtomicI64,
    sets: usize,
    refusals: [Refused; REFUSALS],
}

/// The requests of a database that the gate has judged. A database of zero is a free place.
#[repr(C)]
struct Requests {
    database: AtomicU32,
    count: AtomicU64,
    last_at: AtomicI64,
}

impl Requests {
    const fn none() -> Self {
        Self {
            database: AtomicU32::new(0),
            count: AtomicU64::new(0),
            last_at: AtomicI64::new(0),
        }
    }
}

/// A token that was used. A database of zero is a free place.
#[derive(Clone, Copy)]
#[repr(C)]
struct Place {
    database: u32,
    /// Whether the worker has not seen the last use yet.
    is_new: bool,
    key: [u8; 16],
    user: [u8; 16],
    used_at: i64,
    address: Address,
    limit: Option<Limit>,
    counter: Counter,
}

// As the documentation says.
const _: () = assert!(size_of::<Place>() == 112);

/// An address as IPv6, and whether there is one.
type Address = Option<[u8; 16]>;

/// In the place of an id.
const NOBODY: [u8; 16] = [0; 16];

impl Place {
    const FREE: Self = Self {
        database: 0,
        is_new: false,
        key: [0; 16],
        user: [0; 16],
        used_at: 0,
        address: None,
        limit: None,
        counter: Counter::NEW,
    };

    /// Whether nobody has more requests than their limit if the place is given away.
    fn is_over(&self, now: i64) -> bool {
        self.limit
            .is_none_or(|limit| self.counter.is_over(limit, now))
    }
}

/// Refusals of one kind that have not been written yet. None is a free place.
#[derive(Clone, Copy)]
#[repr(C)]
struct Refused {
    database: u32,
    reason: u8,
    count: u64,
    /// The token and its user, or zeros where they are not known, or it is about several.
    key: [u8; 16],
    user: [u8; 16],
    address: Address,
    last_at: i64,
}

impl Refused {
    const NONE: Self = Self {
        database: 0,
        reason: 0,
        count: 0,
        key: [0; 16],
        user: [0; 16],
        address: None,
        last_at: 0,
    };
}

static SHARED: Local<*mut Shared> = Local::new(std::ptr::null_mut());
static TRANCHE_LOCKS: Local<*mut pg_sys::LWLockPadded> = Local::new(std::ptr::null_mut());
static NEXT_REQUEST_HOOK: Local<pg_sys::shmem_request_hook_type> = Local::new(None);
static NEXT_STARTUP_HOOK: Local<pg_sys::shmem_startup_hook_type> = Local::new(None);

/// To be called while the library is being preloaded.
pub fn init() {
    // SAFETY: called once; the hooks before ours are called by ours.
    unsafe {
        *NEXT_REQUEST_HOOK.get() = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        *NEXT_STARTUP_HOOK.get() = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

fn sets() -> usize {
    settings::tracked_keys().div_ceil(PLACES_IN_A_SET)
}

fn size() -> usize {
    size_of::<Shared>() + sets() * PLACES_IN_A_SET * size_of::<Place>()
}

unsafe extern "C-unwind" fn request() {
    // SAFETY: Postgres calls this when shared memory is asked for.
    unsafe {
        if let Some(next) = *NEXT_REQUEST_HOOK.get() {
            next();
        }
        pg_sys::RequestAddinShmemSpace(size());
        // One more, for the refusals.
        pg_sys::RequestNamedLWLockTranche(TRANCHE.as_ptr(), LOCKS as i32 + 1);
    }
}

unsafe extern "C-unwind" fn startup() {
    // SAFETY: Postgres calls this when shared memory is there, which is as large as was asked for.
    unsafe {
        if let Some(next) = *NEXT_STARTUP_HOOK.get() {
            next();
        }
        // AddinShmemInitLock, a macro in lwlocknames.h.
        let init_lock = &raw mut (*pg_sys::MainLWLockArray.add(21)).lock;
        pg_sys::LWLockAcquire(init_lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let mut found = false;
        let shared: *mut Shared =
            pg_sys::ShmemInitStruct(TRANCHE.as_ptr(), size(), &mut found).cast();
        if !found {
            shared.write(Shared {
                requests: [const { Requests::none() }; DATABASES],
                seed: random_seed(),
                lost: AtomicU64::new(0),
                worker: AtomicI32::new(0),
                flushed_at: AtomicI64::new(0),
                sets: sets(),
                refusals: [Refused::NONE; REFUSALS],
            });
            let places = shared.add(1).cast::<Place>();
            for place in 0..sets() * PLACES_IN_A_SET {
                places.add(place).write(Place::FREE);
            }
        }
        *SHARED.get() = shared;
        *TRANCHE_LOCKS.get() = pg_sys::GetNamedLWLockTranche(TRANCHE.as_ptr());
        pg_sys::LWLockRelease(init_lock);
    }
}

fn random_seed() -> u64 {
    let mut bytes = [0; size_of::<u64>()];
    // SAFETY: as many bytes as it is told. Where there is no randomness, nothing but the even spread of tokens that
    // were chosen for it suffers.
    unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    u64::from_ne_bytes(bytes)
}

/// `None` without preloading.
fn shared() -> Option<&'static Shared> {
    // SAFETY: the memory stays as long as the server. Through this reference only atomics are written.
    unsafe { SHARED.get().as_ref() }
}

/// Runs `f` on a set of places, under its lock. An error must not be raised in it.
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

fn with_refusals<R>(shared: &Shared, f: impl FnOnce(&mut [Refused]) -> R) -> R {
    locked(LOCKS, || {
        // SAFETY: the lock is held, so there is no other reference.
        let refusals = unsafe { (&raw const shared.refusals).cast_mut().as_mut() };
        f(refusals.map_or(&mut [], |all| &mut all[..]))
    })
}

fn locked<R>(lock: usize, f: impl FnOnce() -> R) -> R {
    // SAFETY: the tranche has one more than LOCKS. Interrupts wait while a lock is held, and `f` raises
    // no error; if the process dies, Postgres begins anew with all shared memory.
    unsafe {
        let lock = &raw mut (*(*TRANCHE_LOCKS.get()).add(lock)).lock;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let result = f();
        pg_sys::LWLockRelease(lock);
        result
    }
}

/// Why a request is not counted.
pub enum Refusal {
    /// The window is used up: microseconds to the next one.
    Wait(i64),
    NoRoom,
}

/// Counts a request of a token of `user` and notes that it is being used. `is_dead` says whether a token makes no
/// further request, as far as that is known.
pub fn admit(
    key: Uuid,
    user: Uuid,
    limit: Option<Limit>,
    address: Option<IpAddr>,
    is_dead: impl Fn(Uuid) -> bool,
) -> Result<(), Refusal> {
    let Some(shared) = shared() else {
        return limit.map_or(Ok(()), |limit| admit_here(key, limit, is_dead));
    };
    let used = Used {
        database: this_database(),
        key: key.into_bytes(),
        user: user.into_bytes(),
        limit,
        address: address.map(to_bytes),
    };
    let mut crowd = [NOBODY; PLACES_IN_A_SET];
    match count(shared, &used, &[], &mut crowd) {
        Counted::Admitted => return Ok(()),
        Counted::UsedUp(micros) => return Err(Refusal::Wait(micros)),
        Counted::NoPlace => (),
    }
    if limit.is_some() {
        let dead: Vec<[u8; 16]> = crowd
            .into_iter()
            .filter(|id| *id != NOBODY && is_dead(Uuid::from_bytes(*id)))
            .collect();
        if !dead.is_empty() {
            match count(shared, &used, &dead, &mut crowd) {
                Counted::Admitted => return Ok(()),
                Counted::UsedUp(micros) => return Err(Refusal::Wait(micros)),
                Counted::NoPlace => (),
            }
        }
    }
    shared.lost.fetch_add(1, Relaxed);
    limit.map_or(Ok(()), |_| Err(Refusal::NoRoom))
}

struct Used {
    database: u32,
    key: [u8; 16],
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

/// Counts a request, if there is a place: one of those that are `dead`, should there be no other. If there is none,
/// `crowd` becomes the tokens of this database that are in the way.
fn count(
    shared: &Shared,
    used: &Used,
    dead: &[[u8; 16]],
    crowd: &mut [[u8; 16]; PLACES_IN_A_SET],
) -> Counted {
    with_set(shared, set_of(shared, &used.key), |places| {
        // Under the lock, so that no window begins before the last one has ended.
        let now = Instant::now().unix_micros();
        let is_it = |place: &Place| place.database == used.database && place.key == used.key;
        let place = match places.iter().position(is_it) {
            Some(found) => &mut places[found],
            None => {
                for place in places.iter_mut() {
                    if place.database == used.database && dead.contains(&place.key) {
                        *place = Place::FREE;
                    }
                }
                let Some(given) = place_to_give(places, used, now) else {
                    let held = places
                        .iter()
                        .filter(|place| place.database == used.database && !place.is_over(now));
                    for (id, place) in crowd.iter_mut().zip(held) {
                        *id = place.key;
                    }
                    return Counted::NoPlace;
                };
                let place = &mut places[given];
                if place.database != 0 && place.is_new {
                    shared.lost.fetch_add(1, Relaxed);
                }
                *place = Place {
                    database: used.database,
                    key: used.key,
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

/// A free place, or else the one that has been used least recently among those whose window is over,
/// those first whose last use has been written. None for a token with a limit whose user has enough of them.
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

/// Without shared memory: what this backend has counted itself.
fn admit_here(key: Uuid, limit: Limit, is_dead: impl Fn(Uuid) -> bool) -> Result<(), Refusal> {
    const MANY: usize = 10_000;
    const MINUTE: i64 = 60_000_000;
    static HERE: Local<Option<HashMap<Uuid, (Limit, Counter)>>> = Local::new(None);
    static LOOKED_UP_AT: Local<i64> = Local::new(0);
    let now = Instant::now().unix_micros();
    // SAFETY: each reference is gone at the end of its line.
    let counters = || unsafe { HERE.get() }.get_or_insert_default();
    if counters().len() >= MANY && !counters().contains_key(&key) {
        counters().retain(|_, (limit, counter)| !counter.is_over(*limit, now));
        // SAFETY: as above.
        let looked_up_at = unsafe { *LOOKED_UP_AT.get() };
        if counters().len() >= MANY && now - looked_up_at > MINUTE {
            // SAFETY: as above.
            unsafe { *LOOKED_UP_AT.get() = now };
            let mut all: Vec<Uuid> = counters().keys().copied().collect();
            all.retain(|&key| is_dead(key));
            for dead in all {
                counters().remove(&dead);
            }
        }
        if counters().len() >= MANY {
            return Err(Refusal::NoRoom);
        }
    }
    let (known, counter) = counters().entry(key).or_insert((limit, Counter::NEW));
    *known = limit;
    counter.admit(limit, now).map_err(Refusal::Wait)
}

/// Notes that the gate has been asked about a request of a REST server.
pub fn count_request() {
    if let Some(requests) = shared().and_then(of_this_database) {
        requests.count.fetch_add(1, Relaxed);
        requests
            .last_at
            .store(Instant::now().unix_micros(), Relaxed);
    }
}

/// `None` if more databases have been asked about than there are places.
fn of_this_database(shared: &'static Shared) -> Option<&'static Requests> {
    static PLACE: Local<Option<&'static Requests>> = Local::new(None);
    // SAFETY: nothing is called that could come back here. A backend stays with its database.
    let known = unsafe { PLACE.get() };
    if known.is_none() {
        let database = this_database();
        *known = shared.requests.iter().find(|requests| {
            let place = &requests.database;
            match place.compare_exchange(0, database, Relaxed, Relaxed) {
                Ok(_) => true,
                Err(there) => there == database,
            }
        });
    }
    *known
}

/// Counts a refusal. `reason` is a place in [`REASONS`], `key` a token and its user.
pub fn count_refusal(reason: u8, key: Option<(Uuid, Uuid)>, address: Option<IpAddr>) {
    let Some(shared) = shared() else {
        return;
    };
    let database = this_database();
    let (key, user) = key.map_or((NOBODY, NOBODY), |(key, user)| {
        (key.into_bytes(), user.into_bytes())
    });
    let now = Instant::now().unix_micros();
    with_refusals(shared, |refusals| {
        let (named, nameless) = refusals.split_at_mut(REFUSALS - NAMELESS_REFUSALS);
        // Of the token; of its user, for the rest of their tokens; of all the rest.
        for (key, user) in [(key, user), (NOBODY, user), (NOBODY, NOBODY)] {
            let places = match user == NOBODY {
                true => &mut *nameless,
                false => &mut *named,
            };
            let is_it = |refused: &Refused| {
                (refused.database, refused.reason, refused.key, refused.user)
                    == (database, reason, key, user)
            };
            let known = places.iter().position(is_it);
            let has_enough = || {
                let tokens = places.iter().filter(|refused| {
                    refused.count > 0
                        && (refused.database, refused.user) == (database, user)
                        && refused.key != NOBODY
                });
                key != NOBODY && tokens.count() >= REFUSED_TOKENS_OF_A_USER
            };
            let place = match known {
                None if has_enough() => None,
                None => places.iter().position(|refused| refused.count == 0),
                known => known,
            };
            let Some(place) = place else {
                continue;
            };
            let refused = &mut places[place];
            *refused = Refused {
                database,
                reason,
                count: if is_it(refused) { refused.count + 1 } else { 1 },
                key,
                user,
                address: address.map(to_bytes),
                last_at: now,
            };
            return;
        }
    });
}

pub fn worker_is(process: i32) {
    if let Some(shared) = shared() {
        shared.worker.store(process, Relaxed);
    }
}

pub fn flushed() {
    if let Some(shared) = shared() {
        shared
            .flushed_at
            .store(Instant::now().unix_micros(), Relaxed);
    }
}

/// How things stand, for `pat.status()`.
pub struct State {
    /// Of this database.
    pub requests: Option<u64>,
    pub last_request_at: Option<Instant>,
    pub lost: u64,
    pub worker: Option<i32>,
    pub flushed_at: Option<Instant>,
}

/// `None` without preloading.
pub fn state() -> Option<State> {
    let shared = shared()?;
    let requests = of_this_database(shared);
    let time = |at: &AtomicI64| {
        Some(at.load(Relaxed))
            .filter(|&at| at != 0)
            .map(Instant::from_unix_micros)
    };
    Some(State {
        requests: requests.map(|requests| requests.count.load(Relaxed)),
        last_request_at: requests.and_then(|requests| time(&requests.last_at)),
        lost: shared.lost.load(Relaxed),
        worker: Some(shared.worker.load(Relaxed)).filter(|&process| process != 0),
        flushed_at: time(&shared.flushed_at),
    })
}

fn this_database() -> u32 {
    // SAFETY: set before any query runs.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

fn set_of(shared: &Shared, id: &[u8; 16]) -> usize {
    // SAFETY: it reads as many bytes as it is told.
    let hash = unsafe {
        unguarded::hash_bytes_extended(id.as_ptr(), size_of_val(id) as c_int, shared.seed)
    };
    (hash % shared.sets as u64) as usize
}

fn to_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn from_bytes(bytes: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}
