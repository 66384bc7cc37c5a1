//! What the gate has refused and the worker has not written yet.
//!
//! Within an interval, refusals with the same reason are added up: for each token, up to 16 of a user; for the rest of
//! that user's tokens together; and, if no place is left for the user, for all such users of the database together. The
//! last kind has places of its own, one for each reason in eight databases. So no refusal is left out while
//! eight databases or fewer have any.

use std::net::IpAddr;

use supabase_pat_core::refusal::REASONS;
use uuid::Uuid;

use super::memory::{
    Address, NOBODY, Shared, from_bytes, shared, this_database, to_bytes, with_refusals,
};
use super::{Bearer, places, requests};
use crate::pg::clock::Instant;

/// How many kinds of refusals can wait to be written: one kind in each place.
pub const REFUSALS: usize = 1024;
/// How many of the places are for refusals that name no user, so that there is always room for these.
const NAMELESS_REFUSALS: usize = 8 * REASONS.len();
/// How many tokens of one user have refusals of their own within an interval.
const REFUSED_TOKENS_OF_A_USER: usize = 16;

/// Refusals of one kind that have not been written yet.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Refused {
    database: u32,
    reason: u8,
    /// Zero for a free place.
    count: u64,
    /// The token and its user. [`NOBODY`] where they are not known, or where these are the refusals of several.
    token: [u8; 16],
    user: [u8; 16],
    address: Address,
    last_at: i64,
}

impl Refused {
    pub const NONE: Self = Self {
        database: 0,
        reason: 0,
        count: 0,
        token: NOBODY,
        user: NOBODY,
        address: None,
        last_at: 0,
    };
}

/// Refusals that are to be written.
#[derive(Clone, Copy)]
pub struct Refusals {
    pub reason: &'static str,
    pub count: u64,
    pub token: Option<Uuid>,
    pub user: Option<Uuid>,
    pub address: Option<IpAddr>,
    pub last_at: Instant,
}

/// Counts a refusal. `reason` is an index in [`REASONS`].
pub fn count_refusal(reason: u8, bearer: Option<Bearer>, address: Option<IpAddr>) {
    let Some(shared) = shared() else {
        return;
    };
    requests::count_refusal(shared, reason);
    if let Some(bearer) = bearer {
        places::count_refused(shared, bearer);
    }
    let database = this_database();
    let (token, user) = bearer.map_or((NOBODY, NOBODY), |bearer| {
        (bearer.token.into_bytes(), bearer.user.into_bytes())
    });
    let now = Instant::now().unix_micros();
    with_refusals(shared, |refusals| {
        let (named, nameless) = refusals.split_at_mut(REFUSALS - NAMELESS_REFUSALS);
        // First for the token, then for the rest of its user's tokens, then for all the rest.
        for (token, user) in [(token, user), (NOBODY, user), (NOBODY, NOBODY)] {
            let places = match user == NOBODY {
                true => &mut *nameless,
                false => &mut *named,
            };
            // One that has been written leaves its place to whoever comes first, itself included.
            let is_it = |refused: &Refused| {
                refused.count > 0
                    && (
                        refused.database,
                        refused.reason,
                        refused.token,
                        refused.user,
                    ) == (database, reason, token, user)
            };
            let known = places.iter().position(is_it);
            let has_enough = || {
                let tokens = places.iter().filter(|refused| {
                    refused.count > 0
                        && (refused.database, refused.user) == (database, user)
                        && refused.token != NOBODY
                });
                token != NOBODY && tokens.count() >= REFUSED_TOKENS_OF_A_USER
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
                token,
                user,
                address: address.map(to_bytes),
                last_at: now,
            };
            return;
        }
    });
}

/// The databases in which something has been refused and not been written, some of them several times.
pub fn databases_with_news(shared: &Shared) -> Vec<u32> {
    let mut databases = Vec::with_capacity(REFUSALS);
    // There is room for all of them, so that nothing is allocated under the lock.
    with_refusals(shared, |refusals| {
        let news = refusals.iter().filter(|refused| refused.count > 0);
        databases.extend(news.map(|refused| refused.database));
    });
    databases
}

/// What has been refused in this database and not been written.
pub fn unwritten_refusals() -> Vec<Refusals> {
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
                token: id(refused.token),
                user: id(refused.user),
                address: refused.address.map(from_bytes),
                last_at: Instant::from_unix_micros(refused.last_at),
            }
        }));
    });
    found
}

/// Notes that these have been written. What was refused since then stays to be written.
pub fn refusals_have_been_written(written: &[Refusals]) {
    let Some(shared) = shared() else {
        return;
    };
    let database = this_database();
    with_refusals(shared, |refusals| {
        for done in written {
            let id = |id: Option<Uuid>| id.unwrap_or_default().into_bytes();
            let place = refusals.iter_mut().find(|refused| {
                refused.count > 0
                    && refused.database == database
                    && (refused.token, refused.user) == (id(done.token), id(done.user))
                    && REASONS.get(usize::from(refused.reason)) == Some(&done.reason)
            });
            if let Some(refused) = place {
                refused.count = refused.count.saturating_sub(done.count);
            }
        }
    });
}

/// Forgets what has been refused in a database.
pub fn forget(shared: &Shared, database: u32) {
    with_refusals(shared, |refusals| {
        for refused in refusals
            .iter_mut()
            .filter(|refused| refused.database == database)
        {
            refused.count = 0;
        }
    });
}
