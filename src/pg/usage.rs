//! What the gate counts, in shared memory: the requests of each token within its window, when it was last
//! used, and what was refused. A GET runs READ ONLY and could write none of this into a table, and a
//! count that was rolled back would be no limit. The worker carries it into the tables every few seconds
//! (worker.rs).
//!
//! # The table of tokens
//! It has a fixed number of places (`supabase_pat.tracked_keys`, 96 bytes each), 16 to a set; the id of a token
//! says which set is its own. A set is searched under one of 128 locks, for some tens of nanoseconds, so that
//! a limit is exact whatever comes at once, and tokens hardly ever wait for each other.
//!
//! # What can be lost, and in which direction
//! - A place is given to another token only if the window of the one that has it is over: so no token ever
//!   has more requests than its limit allows. If all 16 places of a set are held by tokens in their windows, the
//!   next one with a limit is refused for a second, and one without a limit is not noted.
//! - The last use of a token that lost its place before the worker came, or was noted just before the server
//!   stopped, is missing: `last_used_at` may be too old, never too young. Of more than 1024 kinds of refusals
//!   within an interval, the rest are not noted.
//! - Shared memory begins empty after a restart, limits included.
//!
//! Without preloading there is no shared memory. Then each connection of the REST server counts for itself, so
//! that a token has its limit once a connection, and nothing is noted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering::Relaxed};

use pgrx::pg_sys;
use supabase_pat_core::rate::{Counter, Limit};
use uuid::Uuid;

use super::clock::Instant;
use super::{Local, settings};

mod unwritten;

pub use unwritten::*;

const PLACES_IN_A_SET: usize = 16;
const LOCKS: usize = 128;
const REFUSALS: usize = 1024;
const TRANCHE: &std::ffi::CStr = c"supabase_pat_usage";

/// The head of the shared memory; the places of the tokens follow it.
#[repr(C)]
struct Shared {
    requests: AtomicU64,
    last_request_at: AtomicI64,
    /// Uses for which there was no place.
    lost: AtomicU64,
    worker: AtomicI32,
    flushed_at: AtomicI64,
    sets: usize,
    refusals: [Refused; REFUSALS],
}

/// A token that was used. A database of zero is a free place.
#[derive(Clone, Copy)]
#[repr(C)]
struct Place {
    database: u32,
    /// Whether the worker has not seen the last use yet.
    is_new: bool,
    key: [u8; 16],
    used_at: i64,
    address: Address,
    limit: Option<Limit>,
    counter: Counter,
}

// As the documentation says.
const _: () = assert!(size_of::<Place>() == 96);

/// An address as IPv6, and whether there is one.
type Address = Option<[u8; 16]>;

impl Place {
    const FREE: Self = Self {
        database: 0,
        is_new: false,
        key: [0; 16],
        used_at: 0,
        address: None,
        limit: None,
        counter: Counter::NEW,
    };
}

/// Refusals of one kind that have not been written yet. None is a free place.
#[derive(Clone, Copy)]
#[repr(C)]
struct Refused {
    database: u32,
    reason: u8,
    count: u64,
    /// The token and its user, or zeros where neither is known.
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
                requests: AtomicU64::new(0),
                last_request_at: AtomicI64::new(0),
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

/// Counts a request of a token and notes that it is being used.
pub fn admit(key: Uuid, limit: Option<Limit>, address: Option<IpAddr>) -> Result<(), Refusal> {
    let Some(shared) = shared() else {
        return limit.map_or(Ok(()), |limit| admit_here(key, limit));
    };
    let (database, id) = (this_database(), key.into_bytes());
    let set = set_of(&id, shared.sets);
    with_set(shared, set, |places| {
        // Under the lock, so that no window begins before the last one has ended.
        let now = Instant::now().unix_micros();
        let is_it = |place: &Place| place.database == database && place.key == id;
        let place = match places.iter().position(is_it) {
            Some(found) => &mut places[found],
            None => match place_to_give(places, now) {
                Some(free) => {
                    if free.database != 0 && free.is_new {
                        shared.lost.fetch_add(1, Relaxed);
                    }
                    *free = Place {
                        database,
                        key: id,
                        ..Place::FREE
                    };
                    free
                }
                None => {
                    shared.lost.fetch_add(1, Relaxed);
                    return limit.map_or(Ok(()), |_| Err(Refusal::NoRoom));
                }
            },
        };
        place.limit = limit;
        if let Some(limit) = limit {
            place.counter.admit(limit, now).map_err(Refusal::Wait)?;
        }
        place.is_new = true;
        place.used_at = now;
        place.address = address.map(to_bytes);
        Ok(())
    })
}

/// A free place, or else the one that has been used least recently among those whose window is over,
/// those first whose last use has been written.
fn place_to_give(places: &mut [Place], now: i64) -> Option<&mut Place> {
    places
        .iter_mut()
        .filter(|place| {
            place
                .limit
                .is_none_or(|limit| place.counter.is_over(limit, now))
        })
        .min_by_key(|place| (place.database != 0, place.is_new, place.used_at))
}

/// Without shared memory: what this backend has counted itself.
fn admit_here(key: Uuid, limit: Limit) -> Result<(), Refusal> {
    static HERE: Local<Option<HashMap<Uuid, (Limit, Counter)>>> = Local::new(None);
    let now = Instant::now().unix_micros();
    // SAFETY: nothing is called that could come back here.
    let counters = unsafe { HERE.get() }.get_or_insert_default();
    if counters.len() >= 10_000 {
        counters.retain(|_, (limit, counter)| !counter.is_over(*limit, now));
    }
    let (_, counter) = counters.entry(key).or_insert((limit, Counter::NEW));
    counter.admit(limit, now).map_err(Refusal::Wait)
}

/// Notes that the gate was called.
pub fn count_request() {
    if let Some(shared) = shared() {
        shared.requests.fetch_add(1, Relaxed);
        shared
            .last_request_at
            .store(Instant::now().unix_micros(), Relaxed);
    }
}

/// Counts a refusal. `reason` is a place in [`REASONS`], `key` a token and its user.
pub fn count_refusal(reason: u8, key: Option<(Uuid, Uuid)>, address: Option<IpAddr>) {
    let Some(shared) = shared() else {
        return;
    };
    let database = this_database();
    let (key, user) = key.map_or(([0; 16], [0; 16]), |(key, user)| {
        (key.into_bytes(), user.into_bytes())
    });
    let now = Instant::now().unix_micros();
    with_refusals(shared, |refusals| {
        let is_it = |refused: &Refused| {
            (refused.database, refused.reason, refused.key) == (database, reason, key)
        };
        let place = refusals.iter().position(is_it);
        let Some(place) = place.or_else(|| refusals.iter().position(|refused| refused.count == 0))
        else {
            return;
        };
        let refused = &mut refusals[place];
        *refused = Refused {
            database,
            reason,
            count: if is_it(refused) { refused.count + 1 } else { 1 },
            key,
            user,
            address: address.map(to_bytes),
            last_at: now,
        };
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
    pub requests: u64,
    pub last_request_at: Option<Instant>,
    pub lost: u64,
    pub worker: Option<i32>,
    pub flushed_at: Option<Instant>,
}

/// `None` without preloading.
pub fn state() -> Option<State> {
    let shared = shared()?;
    let time = |at: &AtomicI64| {
        Some(at.load(Relaxed))
            .filter(|&at| at != 0)
            .map(Instant::from_unix_micros)
    };
    Some(State {
        requests: shared.requests.load(Relaxed),
        last_request_at: time(&shared.last_request_at),
        lost: shared.lost.load(Relaxed),
        worker: Some(shared.worker.load(Relaxed)).filter(|&process| process != 0),
        flushed_at: time(&shared.flushed_at),
    })
}

fn this_database() -> u32 {
    // SAFETY: set before any query runs.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

/// The last 62 bits of an id are random, in a UUID of version 7 as in one of version 4.
fn set_of(id: &[u8; 16], sets: usize) -> usize {
    let [.., a, b, c, d, e, f, g, h] = *id;
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]) % sets as u64) as usize
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
