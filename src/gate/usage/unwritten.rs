//! What of the counting has not been written into the tables yet: for the worker.

use std::net::IpAddr;

use pgrx::pg_sys;
use supabase_pat_core::refusal::REASONS;
use uuid::Uuid;

use super::{
    PLACES_IN_A_SET, REFUSALS, from_bytes, set_of, shared, this_database, with_refusals, with_set,
};
use crate::pg::clock::Instant;

/// A use that is to be written.
#[derive(Clone, Copy)]
pub struct Use {
    pub key: Uuid,
    pub at: Instant,
    pub address: Option<IpAddr>,
}

/// Refusals that are to be written.
#[derive(Clone, Copy)]
pub struct Refusals {
    pub reason: &'static str,
    pub count: u64,
    pub key: Option<Uuid>,
    pub user: Option<Uuid>,
    pub address: Option<IpAddr>,
    pub last_at: Instant,
}

/// The databases of which something is to be written.
pub fn databases_with_news() -> Vec<pg_sys::Oid> {
    let Some(shared) = shared() else {
        return Vec::new();
    };
    let mut databases = Vec::new();
    for set in 0..shared.sets {
        let mut found = [0; PLACES_IN_A_SET];
        with_set(shared, set, |places| {
            for (found, place) in found.iter_mut().zip(places) {
                *found = if place.is_new { place.database } else { 0 };
            }
        });
        databases.extend(found);
    }
    let mut found = [0; REFUSALS];
    with_refusals(shared, |refusals| {
        for (found, refused) in found.iter_mut().zip(refusals) {
            *found = if refused.count > 0 {
                refused.database
            } else {
                0
            };
        }
    });
    databases.extend(found);
    databases.sort_unstable();
    databases.dedup();
    databases.retain(|&database| database != 0);
    databases.into_iter().map(pg_sys::Oid::from).collect()
}

/// About `max` uses in this database that have not been written, from a set on, and the set to go on
/// with, if there are more.
pub fn uses(from_set: usize, max: usize) -> (Vec<Use>, Option<usize>) {
    let Some(shared) = shared() else {
        return (Vec::new(), None);
    };
    let database = this_database();
    let mut uses = Vec::with_capacity(max + PLACES_IN_A_SET);
    for set in from_set..shared.sets {
        if uses.len() >= max {
            return (uses, Some(set));
        }
        // There is room for all of them, so that nothing is allocated under the lock.
        with_set(shared, set, |places| {
            let new = places
                .iter()
                .filter(|place| place.is_new && place.database == database);
            uses.extend(new.map(|place| Use {
                key: Uuid::from_bytes(place.key),
                at: Instant::from_unix_micros(place.used_at),
                address: place.address.map(from_bytes),
            }));
        });
    }
    (uses, None)
}

/// Notes that these have been written. One that was used again meanwhile stays to be written.
pub fn have_been_written(uses: &[Use]) {
    let Some(shared) = shared() else {
        return;
    };
    let database = this_database();
    for written in uses {
        let id = written.key.into_bytes();
        with_set(shared, set_of(shared, &id), |places| {
            for place in places {
                if place.database == database
                    && place.key == id
                    && place.used_at == written.at.unix_micros()
                {
                    place.is_new = false;
                }
            }
        });
    }
}

/// What has been refused in this database and not been written.
pub fn refusals() -> Vec<Refusals> {
    let Some(shared) = shared() else {
        return Vec::new();
    };
    let database = this_database();
    let id = |bytes: [u8; 16]| Some(Uuid::from_bytes(bytes)).filter(|id| !id.is_nil());
    let mut found = Vec::with_capacity(REFUSALS);
    with_refusals(shared, |refusals| {
        let ours = refusals
            .iter()
            .filter(|refused| refused.count > 0 && refused.database == database);
        found.extend(ours.map(|refused| {
            Refusals {
                reason: REASONS
                    .get(usize::from(refused.reason))
                    .copied()
                    .unwrap_or(""),
                count: refused.count,
                key: id(refused.key),
                user: id(refused.user),
                address: refused.address.map(from_bytes),
                last_at: Instant::from_unix_micros(refused.last_at),
            }
        }));
    });
    found
}

/// Notes that these have been written. What has come since stays to be.
pub fn refusals_have_been_written(written: &[Refusals]) {
    let Some(shared) = shared() else {
        return;
    };
    let database = this_database();
    with_refusals(shared, |refusals| {
        for done in written {
            let id = |id: Option<Uuid>| id.unwrap_or_default().into_bytes();
            let place = refusals.iter_mut().find(|refused| {
                refused.database == database
                    && (refused.key, refused.user) == (id(done.key), id(done.user))
                    && REASONS.get(usize::from(refused.reason)) == Some(&done.reason)
            });
            if let Some(refused) = place {
                refused.count = refused.count.saturating_sub(done.count);
            }
        }
    });
}

/// Forgets everything of a database that is no more, or has no use for it.
pub fn forget(database: pg_sys::Oid) {
    let Some(shared) = shared() else {
        return;
    };
    let database = database.to_u32();
    for set in 0..shared.sets {
        with_set(shared, set, |places| {
            for place in places.iter_mut().filter(|place| place.database == database) {
                place.is_new = false;
            }
        });
    }
    with_refusals(shared, |refusals| {
        for refused in refusals
            .iter_mut()
            .filter(|refused| refused.database == database)
        {
            refused.count = 0;
        }
    });
}
