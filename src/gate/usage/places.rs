//! The tokens that were used, each in a place of a table in shared memory, with its limits, its last use, and how many
//! requests it has made and how many were refused, on which day, as far as that has not been written yet.
//!
//! # The table
//! It has up to `supabase_pat.tracked_keys` places, of 148 bytes each, in sets; a hash of the id of a token says which
//! set is its own. A set is searched under one of 128 locks, so that a limit is exact whatever comes at once. Tokens
//! hardly ever wait for each other: a search takes a tenth of a microsecond, and some seven tenths with 100,000 tokens
//! in use, whose places are in no processor's cache. A set begins without a place, gets sixteen more whenever it is
//! full ([`blocks`]), and gives them back when they are no longer used. What happens in a set is in
//! [`supabase_pat_core::places`].
//!
//! # Who may have how much of it
//! Anybody who has a login can mint limited tokens with windows of a month, and revoke them again. So:
//! - A token that is dead (revoked, expired, deleted, or without a user) has no claim to its place, since it makes no
//!   further request. The gate finds that out when a set is full, by looking up the tokens in it, and so notices every
//!   way in which a token can die. Only if none is dead does the set grow for a token with a limit. The setting
//!   `supabase_pat.max_keys_per_user` bounds how many live tokens one user has.
//! - When all places are in use, a set has 128 of them on average. One user's tokens with limits have at most 96 of a
//!   set, and so three quarters of the table, should that setting be high.
//! - A set that has no place can always get sixteen, however much memory the others have taken.
//! - The hash has a seed of its own in each run of the server, so that nobody can pick ids that share a set with
//!   somebody else's token.
//!
//! # What can be lost, and in which direction
//! - A place is given to another token only if the window of the token that has it is over, or that token is dead: so
//!   no token ever has more requests than its limit allows. If there is no place to give and no memory, a token with a
//!   limit is refused for a second, and the use of a token without a limit is not noted.
//! - The last use is missing if a token lost its place before the worker came, which happens only where there is no
//!   memory, or if the use was noted just before the server stopped: `last_used_at` may be too old, never too young.
//! - For the same reasons the counts of a day may be too low, never too high. A refusal takes no place in which something
//!   has not been written, and no memory once half of it is in use: tokens that are dead, of which anybody may have any
//!   number, cost nobody else a count or a place.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use supabase_pat_core::daily::Daily;
use supabase_pat_core::lease::Counters;
use supabase_pat_core::places::{self, Counted, Key, Loss, Place, Used};
use supabase_pat_core::rate::Limits;
use uuid::Uuid;

use super::blocks::{self, Hashed, Set, with_set};
use super::memory::{Shared, from_bytes, shared, this_database, to_bytes};
use super::{Bearer, NotAdmitted};
use crate::pg::clock::Instant;

/// As [`super::admit`], without waiting for a lease.
///
/// # Errors
/// [`NotAdmitted::NoLease`] if the token waits for one from now on, and others.
pub fn admit(
    shared: &Shared,
    bearer: Bearer,
    limits: &Limits,
    address: Option<IpAddr>,
    is_dead: impl Fn(Uuid) -> bool,
) -> Result<Counters, NotAdmitted> {
    let (number, key) = find(shared, bearer.token);
    let used = Used {
        key,
        user: bearer.user.into_bytes(),
        limits: *limits,
        address: address.map(to_bytes),
    };
    let share = shared.blocks.share_of_a_user();
    let count = |set: &mut Set, loss| {
        // Under the lock, so that no window begins before the last one has ended.
        let now = Instant::now().unix_micros();
        places::count(set.blocks(), &used, share, loss, now)
    };
    let mut counted = with_set(shared, number, |set| count(set, Loss::Nothing));
    if matches!(counted, Counted::Full | Counted::UserHasEnough) {
        if !limits.is_none() {
            remove_dead(shared, number, is_dead);
        }
        counted = with_set(shared, number, |set| match count(set, Loss::Nothing) {
            Counted::Full if set.grow() => count(set, Loss::Nothing),
            Counted::Full => count(set, Loss::ALastUse),
            counted => counted,
        });
    }
    let has_lost = matches!(
        counted,
        Counted::Admitted { has_lost: true, .. } | Counted::UserHasEnough | Counted::Full
    );
    if has_lost {
        shared.lost.fetch_add(1, Relaxed);
    }
    match counted {
        Counted::Admitted { counters, .. } => Ok(counters),
        Counted::UsedUp {
            which,
            micros,
            counters,
        } => Err(NotAdmitted::UsedUp {
            which,
            micros,
            counters,
        }),
        Counted::NeedsLease => Err(NotAdmitted::NoLease),
        Counted::UserHasEnough | Counted::Full => match limits.is_none() {
            true => Ok(Counters::NEW),
            false => Err(NotAdmitted::NoRoom),
        },
    }
}

/// Counts a refused request of a token, for the usage of the day. It is left out if there is no room.
pub fn count_refused(shared: &Shared, bearer: Bearer) {
    let (number, key) = find(shared, bearer.token);
    let user = bearer.user.into_bytes();
    with_set(shared, number, |set| {
        let now = Instant::now().unix_micros();
        let is_counted = places::count_refused(set.blocks(), &key, user, now);
        // What is left of the memory is for tokens that make requests, whichever sets those are in.
        if !is_counted && shared.blocks.has_plenty() && set.grow() {
            places::count_refused(set.blocks(), &key, user, now);
        }
    });
}

/// What a token of this database has counted so far. `None` if it has no place.
pub fn counters(shared: &Shared, token: Uuid) -> Option<Counters> {
    let (number, key) = find(shared, token);
    with_set(shared, number, |set| places::counters(set.blocks(), &key))
}

/// The set of a token of this database, and what it is found by there.
pub fn find(shared: &Shared, token: Uuid) -> (usize, Key) {
    let token = token.into_bytes();
    let Hashed { set, tag } = blocks::hash(shared, &token);
    let key = Key {
        database: this_database(),
        token,
        tag,
    };
    (set, key)
}

/// Takes the places of this database's dead tokens from them.
fn remove_dead(shared: &Shared, number: usize, is_dead: impl Fn(Uuid) -> bool) {
    // There is room for all of the set, so that nothing is allocated under the lock.
    let mut crowd = Vec::with_capacity(blocks::MAX_PLACES);
    with_set(shared, number, |set| {
        let now = Instant::now().unix_micros();
        crowd.extend(places::held(set.blocks(), this_database(), now));
    });
    // Outside the lock, since looking a token up can raise an error.
    let tokens = crowd.into_iter().map(Uuid::from_bytes);
    let dead: Vec<Key> = tokens
        .filter(|&token| is_dead(token))
        .map(|token| find(shared, token).1)
        .collect();
    if !dead.is_empty() {
        with_set(shared, number, |set| {
            for key in &dead {
                places::remove(set.blocks(), key);
            }
        });
    }
}

/// What is to be written of a token.
#[derive(Clone, Copy)]
pub struct Use {
    pub token: Uuid,
    /// `None` if it has only been refused since it has its place.
    pub at: Option<Instant>,
    pub address: Option<IpAddr>,
    pub counted: Daily,
}

impl Use {
    fn of(place: &Place) -> Self {
        Self {
            token: Uuid::from_bytes(place.token),
            at: (place.used_at != 0).then(|| Instant::from_unix_micros(place.used_at)),
            address: place.address.map(from_bytes),
            counted: place.daily,
        }
    }
}

/// The databases in which something of a token has not been written.
pub fn databases_with_news(shared: &Shared) -> Vec<u32> {
    let mut databases = Vec::new();
    for number in 0..blocks::sets(shared) {
        // There is room for all of the set, so that nothing is allocated under the lock.
        databases.reserve(blocks::MAX_PLACES);
        with_set(shared, number, |set| {
            databases.extend(places::unwritten(set.blocks()).map(|place| place.database));
        });
        databases.sort_unstable();
        databases.dedup();
    }
    databases
}

/// Those of about `max` tokens in this database that have not been written, from the set of that number on, and the set to go on
/// with, if there are more.
pub fn unwritten_uses(from_set: usize, max: usize) -> (Vec<Use>, Option<usize>) {
    let Some(shared) = shared() else {
        return (Vec::new(), None);
    };
    let database = this_database();
    let mut uses = Vec::with_capacity(max + blocks::MAX_PLACES);
    for number in from_set..blocks::sets(shared) {
        if uses.len() >= max {
            return (uses, Some(number));
        }
        // There is room for all of them, so that nothing is allocated under the lock.
        with_set(shared, number, |set| {
            let ours = places::unwritten(set.blocks()).filter(|place| place.database == database);
            uses.extend(ours.map(Use::of));
        });
    }
    (uses, None)
}

/// Notes that these have been written. What has come since then stays to be written.
pub fn uses_have_been_written(uses: &[Use]) {
    let Some(shared) = shared() else {
        return;
    };
    for written in uses {
        let (number, key) = find(shared, written.token);
        let used_at = written.at.map_or(0, Instant::unix_micros);
        with_set(shared, number, |set| {
            places::has_been_written(set.blocks(), &key, used_at, &written.counted);
        });
    }
}

/// Forgets that there are uses in a database to be written. Limits go on.
pub fn forget(shared: &Shared, database: u32) {
    for number in 0..blocks::sets(shared) {
        with_set(shared, number, |set| places::forget(set.blocks(), database));
    }
}

/// Takes their places from all tokens of a database that is gone.
pub fn remove_all(shared: &Shared, database: u32) {
    for number in 0..blocks::sets(shared) {
        with_set(shared, number, |set| {
            places::remove_all(set.blocks(), database);
        });
    }
}
