//! What the gate counts, in shared memory: the requests of each token within its window, when it was last
//! used, and what was refused.
//!
//! A GET runs READ ONLY and could write none of this into a table, and a count that was rolled back would be no
//! limit. The worker ([`crate::gate::worker`]) carries the counts into the tables every few seconds.
//!
//! - [`places`]: the tokens, each with its limits, its last use, and what it has counted on which day.
//! - [`leases`]: how requests wait for what the worker grants of limits whose window is a day or longer.
//! - [`blocks`]: the memory that the places are in, which grows and shrinks.
//! - [`refusals`]: what was refused, and whose it was.
//! - [`requests`]: how many requests the gate has judged and refused in each database.
//! - [`memory`]: where these are in shared memory, and the locks.
//! - [`own_counters`]: limits where there is no shared memory.
//!
//! Shared memory begins empty after a restart of the server, limits included, but for those with leases. It is there only
//! if the library is preloaded. Otherwise each connection of the REST server counts for itself, so that a token has its
//! limit once for each connection, and nothing else is noted.

mod blocks;
pub mod leases;
mod memory;
mod own_counters;
mod places;
mod refusals;
mod requests;

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use pgrx::pg_sys;
use supabase_pat_core::lease::Counters;
use supabase_pat_core::rate::{Limits, Which};
use supabase_pat_core::refusal::REASONS;
use uuid::Uuid;

use crate::pg::clock::Instant;
pub use memory::init;
pub use places::{Use, unwritten_uses, uses_have_been_written};
pub use refusals::{Refusals, count_refusal, refusals_have_been_written, unwritten_refusals};
pub use requests::count_request;

/// The token that a request was made with, and its user.
#[derive(Clone, Copy)]
pub struct Bearer {
    pub token: Uuid,
    pub user: Uuid,
}

/// Why a request is not admitted.
pub enum NotAdmitted {
    /// A limit is used up. Its next window begins after so many microseconds.
    UsedUp {
        which: Which,
        micros: i64,
        counters: Counters,
    },
    /// There is no room to count the requests of one more token with a limit.
    NoRoom,
    /// No lease has come in time.
    NoLease,
    /// A standby cannot write a lease.
    OnStandby,
    /// Without shared memory there are no leases.
    Unpreloaded,
}

/// Counts a request, and notes that its token is being used. A token without a limit is always admitted. Returns what has
/// been used of the limits. It may wait for a lease, for [`leases::PATIENCE`] at most.
///
/// `is_dead` says whether a token makes no further request, as far as that is known. It is asked only if there is no
/// place for one more token with a limit.
///
/// # Errors
/// [`NotAdmitted`], for a token with a limit.
pub fn admit(
    bearer: Bearer,
    limits: &Limits,
    address: Option<IpAddr>,
    is_dead: impl Fn(Uuid) -> bool,
) -> Result<Counters, NotAdmitted> {
    match memory::shared() {
        Some(shared) => leases::admit(shared, || {
            places::admit(shared, bearer, limits, address, &is_dead)
        }),
        None if limits.is_none() => Ok(Counters::NEW),
        None if limits.are_leased() => Err(NotAdmitted::Unpreloaded),
        None => own_counters::admit(bearer.token, limits, is_dead),
    }
}

/// What a token has used of its limits.
pub fn counters(token: Uuid) -> Counters {
    let counters = match memory::shared() {
        Some(shared) => places::counters(shared, token),
        None => own_counters::counters(token),
    };
    counters.unwrap_or(Counters::NEW)
}

/// The databases for which the worker has something to write.
pub fn databases_with_news() -> Vec<pg_sys::Oid> {
    let Some(shared) = memory::shared() else {
        return Vec::new();
    };
    let mut databases = places::databases_with_news(shared);
    databases.extend(refusals::databases_with_news(shared));
    databases.extend(leases::databases(shared));
    databases.sort_unstable();
    databases.dedup();
    databases.into_iter().map(pg_sys::Oid::from).collect()
}

/// The databases in which the gate has judged requests.
pub fn databases() -> Vec<pg_sys::Oid> {
    let databases = memory::shared().map_or(Vec::new(), requests::databases);
    databases.into_iter().map(pg_sys::Oid::from).collect()
}

/// Gives everything to others that a database has which is gone.
pub fn remove(database: pg_sys::Oid) {
    if let Some(shared) = memory::shared() {
        let database = database.to_u32();
        places::remove_all(shared, database);
        refusals::forget(shared, database);
        requests::remove(shared, database);
    }
}

/// Forgets what has not been written for a database that does not have the extension.
pub fn forget(database: pg_sys::Oid) {
    if let Some(shared) = memory::shared() {
        places::forget(shared, database.to_u32());
        refusals::forget(shared, database.to_u32());
    }
}

/// Gives back the memory of tokens whose window is over and whose last use has been written, if they have not been used
/// for so many seconds.
pub fn tidy(idle: u64) {
    if let Some(shared) = memory::shared() {
        let now = Instant::now().unix_micros();
        blocks::tidy(shared, now - idle as i64 * 1_000_000, now);
    }
}

/// Notes the process id of the worker that runs all the time, 0 when it ends.
pub fn worker_is(process: i32) {
    if let Some(shared) = memory::shared() {
        shared.worker.store(process, Relaxed);
    }
}

/// Notes that the worker has written all that there was.
pub fn flushed() {
    if let Some(shared) = memory::shared() {
        shared
            .flushed_at
            .store(Instant::now().unix_micros(), Relaxed);
    }
}

/// The state of the counting, for `pat.status()` and `pat.metrics()`.
pub struct State {
    /// How many requests the gate has judged in this database. `None` if there was no place for this database.
    pub requests: Option<u64>,
    pub last_request_at: Option<Instant>,
    /// How many of the requests were refused, for each of [`REASONS`].
    pub refused: Option<[u64; REASONS.len()]>,
    /// How many uses were not noted, or not written, for want of a place. They are those of all databases.
    pub lost: u64,
    /// For how many tokens of all databases memory is taken, in whole blocks, and for how many it can be.
    pub places: usize,
    pub max_places: usize,
    /// The process id of the worker, if it runs.
    pub worker: Option<i32>,
    pub flushed_at: Option<Instant>,
}

/// `None` without preloading.
pub fn state() -> Option<State> {
    let shared = memory::shared()?;
    let requests = requests::of_this_database(shared);
    let time = |at: &AtomicI64| {
        Some(at.load(Relaxed))
            .filter(|&at| at != 0)
            .map(Instant::from_unix_micros)
    };
    Some(State {
        requests: requests.map(|requests| requests.count.load(Relaxed)),
        last_request_at: requests.and_then(|requests| time(&requests.last_at)),
        refused: requests.map(|requests| requests.refused.each_ref().map(|it| it.load(Relaxed))),
        lost: shared.lost.load(Relaxed),
        places: shared.blocks.places_in_use(),
        max_places: shared.blocks.places(),
        worker: Some(shared.worker.load(Relaxed)).filter(|&process| process != 0),
        flushed_at: time(&shared.flushed_at),
    })
}
