//! How many requests the gate has judged and refused, by which `pat.status()` tells whether a REST server calls it.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

use supabase_pat_core::refusal::REASONS;

use super::memory::{REQUESTS_LOCK, Shared, locked, shared, this_database};
use crate::pg::Local;
use crate::pg::clock::Instant;

/// The requests of a database that the gate has judged.
#[repr(C)]
pub struct Requests {
    /// Zero for a free place.
    database: AtomicU32,
    pub count: AtomicU64,
    /// In microseconds since 1970, zero for never.
    pub last_at: AtomicI64,
    /// How many were refused for each of [`REASONS`].
    pub refused: [AtomicU64; REASONS.len()],
}

impl Requests {
    /// A free place.
    pub const fn none() -> Self {
        Self {
            database: AtomicU32::new(0),
            count: AtomicU64::new(0),
            last_at: AtomicI64::new(0),
            refused: [const { AtomicU64::new(0) }; REASONS.len()],
        }
    }
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

/// Notes that the gate has refused a request for the reason of that number in [`REASONS`].
pub fn count_refusal(shared: &'static Shared, reason: u8) {
    let refused = of_this_database(shared).and_then(|it| it.refused.get(usize::from(reason)));
    if let Some(refused) = refused {
        refused.fetch_add(1, Relaxed);
    }
}

/// `None` if more databases have been asked about than there are places.
pub fn of_this_database(shared: &'static Shared) -> Option<&'static Requests> {
    static PLACE: Local<Option<&'static Requests>> = Local::new(None);
    // SAFETY: nothing is called that could come back here. A backend stays with its database.
    let known = unsafe { PLACE.get() };
    if known.is_none() {
        let database = this_database();
        *known = locked(REQUESTS_LOCK, || {
            let place_of = |database| {
                let mut places = shared.requests.iter();
                places.find(|requests| requests.database.load(Relaxed) == database)
            };
            let place = place_of(database).or_else(|| place_of(0))?;
            place.database.store(database, Relaxed);
            Some(place)
        });
    }
    *known
}

/// The databases that have places.
pub fn databases(shared: &Shared) -> Vec<u32> {
    let places = shared.requests.iter();
    places
        .map(|requests| requests.database.load(Relaxed))
        .filter(|&database| database != 0)
        .collect()
}

/// Frees the place of a database that is gone.
pub fn remove(shared: &Shared, database: u32) {
    locked(REQUESTS_LOCK, || {
        for requests in &shared.requests {
            if requests.database.load(Relaxed) == database {
                requests.database.store(0, Relaxed);
                requests.count.store(0, Relaxed);
                requests.last_at.store(0, Relaxed);
                for refused in &requests.refused {
                    refused.store(0, Relaxed);
                }
            }
        }
    });
}
