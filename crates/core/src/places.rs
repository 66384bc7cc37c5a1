//! The places of tokens that are counted, each with what is used of the token's limits, its last use and what it has
//! counted on which day: what happens in one set of them. A set is a list of blocks, all of them changed by one at a time.
//! Whoever keeps the sets adds blocks to one
//! that is full, and takes away those that [`pack`] has emptied.
//!
//! A place is given to another token only if its own token cannot thereby have more requests than its limits: if none of
//! its windows is running, or whoever keeps the sets knows it to be dead ([`remove`]).

use crate::daily::{Daily, Day, Outcome};
use crate::lease::{Blocked, Counters, Demand, Lease, Wanted};
use crate::rate::{Limits, Which};

/// How many places a block has.
pub const PLACES: usize = 16;

/// The blocks of a set.
pub type Set<'a, 'b> = &'a mut [&'b mut Block];

/// Sixteen places. What is looked at first lies together: a search reads one cache line of a block, and a place only if
/// its tag is the right one, which one in 65,536 others is by chance.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Block {
    tags: [u16; PLACES],
    /// A bit for each place that a token has.
    taken: u16,
    /// A bit for each place whose last use, or what it has counted, has not been written to the table yet.
    unwritten: u16,
    /// A bit for each place whose token waits for a lease.
    waiting: u16,
    /// The number of the next block of the set, for whoever keeps the sets.
    pub next: u32,
    places: [Place; PLACES],
}

// As the documentation says: 148 bytes a place.
const _: () = assert!(size_of::<Block>() == 148 * PLACES);

/// A token that was used.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Place {
    pub database: u32,
    pub token: [u8; 16],
    user: [u8; 16],
    /// What has not been written yet.
    pub daily: Daily,
    /// As IPv6.
    pub address: Option<[u8; 16]>,
    /// In microseconds since 1970. Zero if it has only been refused since it has the place.
    pub used_at: i64,
    counters: Counters,
    demands: [Demand; Which::BOTH.len()],
}

impl Place {
    const FREE: Self = Self {
        database: 0,
        token: [0; 16],
        user: [0; 16],
        daily: Daily::NONE,
        address: None,
        used_at: 0,
        counters: Counters::NEW,
        demands: [Demand::NONE; Which::BOTH.len()],
    };

    /// Whether the place can be given away without letting its token have more requests than its limits.
    fn is_over(&self, now: i64) -> bool {
        self.counters.are_over(now)
    }
}

impl Block {
    pub const EMPTY: Self = Self {
        tags: [0; PLACES],
        taken: 0,
        unwritten: 0,
        waiting: 0,
        next: u32::MAX,
        places: [Place::FREE; PLACES],
    };

    fn is_unwritten(&self, place: usize) -> bool {
        self.unwritten & 1 << place != 0
    }

    fn is_waiting(&self, place: usize) -> bool {
        self.waiting & 1 << place != 0
    }

    fn with_tag(&self, tag: u16) -> u16 {
        let mut found = 0;
        for (place, &other) in self.tags.iter().enumerate() {
            found |= u16::from(other == tag) << place;
        }
        found & self.taken
    }

    fn put(&mut self, place: usize, tag: u16, is_unwritten: bool, what: Place) {
        self.taken |= 1 << place;
        self.unwritten &= !(1 << place);
        self.unwritten |= u16::from(is_unwritten) << place;
        self.waiting &= !(1 << place);
        self.tags[place] = tag;
        self.places[place] = what;
    }

    fn free(&mut self, place: usize) {
        self.taken &= !(1 << place);
        self.unwritten &= !(1 << place);
        self.waiting &= !(1 << place);
    }
}

/// The places whose bits are set.
fn bits(mut set: u16) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (set != 0).then(|| {
            let lowest = set.trailing_zeros() as usize;
            set &= set - 1;
            lowest
        })
    })
}

/// Which token a place is for.
#[derive(Clone, Copy)]
pub struct Key {
    pub database: u32,
    pub token: [u8; 16],
    /// A part of a hash of the token's id.
    pub tag: u16,
}

/// A request of a token.
#[derive(Clone, Copy)]
pub struct Used {
    pub key: Key,
    pub user: [u8; 16],
    pub limits: Limits,
    pub address: Option<[u8; 16]>,
}

/// What may be lost so that a token gets a place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Nothing,
    /// The last use of a token, which has not been written yet.
    ALastUse,
}

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    Admitted {
        /// Whether the last use of another token was lost.
        has_lost: bool,
        counters: Counters,
    },
    /// A window of the token is used up. The next one begins after so many microseconds.
    UsedUp {
        which: Which,
        micros: i64,
        counters: Counters,
    },
    /// The token waits for a lease from now on.
    NeedsLease,
    /// The user has as many places of the set as one user may have.
    UserHasEnough,
    /// No place can be given away.
    Full,
}

/// Counts a request at the time `now`, in microseconds since 1970. One user's tokens have at most `share` places of the
/// set for as long as their windows last.
pub fn count(set: Set, used: &Used, share: usize, loss: Loss, now: i64) -> Counted {
    let mut has_lost = false;
    let (block, place) = match find(set, &used.key) {
        Some(found) => found,
        None => {
            if !used.limits.is_none() && of_user(set, used, now) >= share {
                return Counted::UserHasEnough;
            }
            let Some((block, place)) = place_to_give(set, loss, now) else {
                return Counted::Full;
            };
            has_lost = set[block].is_unwritten(place);
            let new = Place {
                database: used.key.database,
                token: used.key.token,
                user: used.user,
                ..Place::FREE
            };
            set[block].put(place, used.key.tag, false, new);
            (block, place)
        }
    };
    let block = &mut *set[block];
    let of_token = &mut block.places[place];
    for which in Which::BOTH {
        let limit = used.limits.of(which);
        let leased = limit.filter(|&limit| used.limits.is_leased(limit));
        of_token.demands[which as usize].note(leased);
    }
    let counted = of_token.counters.admit(&used.limits, now);
    let counters = of_token.counters;
    match counted {
        Ok(()) => (),
        Err(Blocked::UsedUp(which, micros)) => {
            return Counted::UsedUp {
                which,
                micros,
                counters,
            };
        }
        Err(Blocked::NeedsLease) => {
            block.waiting |= 1 << place;
            return Counted::NeedsLease;
        }
    }
    of_token.used_at = now;
    of_token.address = used.address;
    of_token.daily.count(Day::at(now), Outcome::Admitted);
    block.unwritten |= 1 << place;
    Counted::Admitted { has_lost, counters }
}

/// Counts a request that was refused, which changes nothing else of its token. Whoever has no place gets one only if
/// nothing is lost by it: false if there is none.
pub fn count_refused(set: Set, key: &Key, user: [u8; 16], now: i64) -> bool {
    let found = find(set, key).or_else(|| {
        let (block, place) = place_to_give(set, Loss::Nothing, now)?;
        let new = Place {
            database: key.database,
            token: key.token,
            user,
            ..Place::FREE
        };
        set[block].put(place, key.tag, false, new);
        Some((block, place))
    });
    let Some((block, place)) = found else {
        return false;
    };
    let block = &mut *set[block];
    block.places[place]
        .daily
        .count(Day::at(now), Outcome::Refused);
    block.unwritten |= 1 << place;
    true
}

/// What a token has counted so far. `None` if it has no place.
pub fn counters(set: Set, key: &Key) -> Option<Counters> {
    let (block, place) = find(set, key)?;
    Some(set[block].places[place].counters)
}

/// A lease that a token is to be given.
#[derive(Clone, Copy, Debug)]
pub struct Demanded {
    pub token: [u8; 16],
    pub which: Which,
    pub wanted: Wanted,
}

/// The leases that the tokens of a database are to be given: those that are waiting, and, unless these are all that is
/// asked for, those that have been used since their last use was written.
pub fn demanded(
    set: Set,
    database: u32,
    only_waiting: bool,
    now: i64,
    mut demanded: impl FnMut(Demanded),
) {
    for block in set {
        let used = if only_waiting { 0 } else { block.unwritten };
        for number in bits(used | block.waiting) {
            let is_waiting = block.is_waiting(number);
            let place = &mut block.places[number];
            if place.database != database {
                continue;
            }
            let mut wants_nothing = true;
            for which in Which::BOTH {
                let counter = place.counters.of(which);
                let demand = &mut place.demands[which as usize];
                if let Some(wanted) = demand.wanted(counter, is_waiting, now) {
                    wants_nothing = false;
                    demanded(Demanded {
                        token: place.token,
                        which,
                        wanted,
                    });
                }
                if !only_waiting {
                    demand.settle(counter);
                }
            }
            // It has lost its limits since, say. A request that does wait says so again.
            if wants_nothing {
                block.waiting &= !(1 << number);
            }
        }
    }
}

/// Gives a token a lease that the table has.
pub fn give(set: Set, key: &Key, which: Which, lease: &Lease, now: i64) {
    if let Some((block, place)) = find(set, key) {
        let block = &mut *set[block];
        let of_token = &mut block.places[place];
        let counter = of_token.counters.of_mut(which);
        lease.give(counter, &mut of_token.demands[which as usize], now);
        block.waiting &= !(1 << place);
    }
}

/// The places whose tokens wait for leases.
pub fn waiting<'a>(set: &'a [&mut Block]) -> impl Iterator<Item = &'a Place> {
    set.iter()
        .flat_map(|block| bits(block.waiting).map(|place| &block.places[place]))
}

fn find(set: &[&mut Block], key: &Key) -> Option<(usize, usize)> {
    set.iter().enumerate().find_map(|(number, block)| {
        bits(block.with_tag(key.tag))
            .find(|&place| {
                let place = &block.places[place];
                place.token == key.token && place.database == key.database
            })
            .map(|place| (number, place))
    })
}

fn taken(set: &[&mut Block]) -> impl Iterator<Item = (usize, usize)> {
    set.iter()
        .enumerate()
        .flat_map(|(number, block)| bits(block.taken).map(move |place| (number, place)))
}

/// How many places the user has for as long as their windows last.
fn of_user(set: &[&mut Block], used: &Used, now: i64) -> usize {
    taken(set)
        .filter(|&(block, place)| {
            let place = &set[block].places[place];
            (place.database, place.user) == (used.key.database, used.user) && !place.is_over(now)
        })
        .count()
}

/// A free place, or else, among those whose window is over, the one that has been used least recently. Places whose
/// last use has been written are taken first.
fn place_to_give(set: &[&mut Block], loss: Loss, now: i64) -> Option<(usize, usize)> {
    let free = set.iter().position(|block| block.taken != u16::MAX);
    if let Some(number) = free {
        return Some((number, (!set[number].taken).trailing_zeros() as usize));
    }
    taken(set)
        .filter(|&(block, place)| {
            let is_kept = loss == Loss::Nothing && set[block].is_unwritten(place);
            !is_kept && set[block].places[place].is_over(now)
        })
        .min_by_key(|&(block, place)| {
            let block = &set[block];
            (block.is_unwritten(place), block.places[place].used_at)
        })
}

/// The tokens of a database that have their places for as long as their windows last.
pub fn held(set: &[&mut Block], database: u32, now: i64) -> impl Iterator<Item = [u8; 16]> {
    taken(set).filter_map(move |(block, place)| {
        let place = &set[block].places[place];
        (place.database == database && !place.is_over(now)).then_some(place.token)
    })
}

/// Frees the place of a token that makes no further request.
pub fn remove(set: Set, key: &Key) {
    if let Some((block, place)) = find(set, key) {
        set[block].free(place);
    }
}

/// The places of which something has not been written.
pub fn unwritten<'a>(set: &'a [&mut Block]) -> impl Iterator<Item = &'a Place> {
    set.iter()
        .flat_map(|block| bits(block.unwritten).map(|place| &block.places[place]))
}

/// Notes that the use of that time and what was counted by then have been written. What has come since stays to be
/// written.
pub fn has_been_written(set: Set, key: &Key, used_at: i64, counted: &Daily) {
    if let Some((block, place)) = find(set, key) {
        let of_token = &mut set[block].places[place];
        of_token.daily.subtract(counted);
        if of_token.used_at == used_at && of_token.daily.is_empty() {
            set[block].unwritten &= !(1 << place);
        }
    }
}

/// Forgets what there is in a database to be written, and leases to be given. Limits go on.
pub fn forget(set: Set, database: u32) {
    for block in set {
        for place in bits(block.unwritten | block.waiting) {
            if block.places[place].database == database {
                block.places[place].daily = Daily::NONE;
                block.unwritten &= !(1 << place);
                block.waiting &= !(1 << place);
            }
        }
    }
}

/// Frees all places of a database that is gone.
pub fn remove_all(set: Set, database: u32) {
    for block in set {
        for place in bits(block.taken) {
            if block.places[place].database == database {
                block.free(place);
            }
        }
    }
}

/// Frees the places that nothing is lost with, of tokens that have not been used since `idle_since`, and moves the rest
/// together. Returns how many blocks are needed: those after them are empty.
pub fn pack(set: Set, idle_since: i64, now: i64) -> usize {
    for block in set.iter_mut() {
        for place in bits(block.taken & !block.unwritten) {
            let of_token = &block.places[place];
            if of_token.used_at <= idle_since && of_token.is_over(now) {
                block.free(place);
            }
        }
    }
    let places: usize = set
        .iter()
        .map(|block| block.taken.count_ones() as usize)
        .sum();
    let needed = places.div_ceil(PLACES);
    let (kept, emptied) = set.split_at_mut(needed);
    let mut kept = kept.iter_mut();
    let mut target = kept.next();
    for from in emptied {
        for place in bits(from.taken) {
            while target.as_ref().is_some_and(|block| block.taken == u16::MAX) {
                target = kept.next();
            }
            if let Some(block) = &mut target {
                let free = (!block.taken).trailing_zeros() as usize;
                let is_unwritten = from.is_unwritten(place);
                block.put(free, from.tags[place], is_unwritten, from.places[place]);
                from.free(place);
            }
        }
    }
    needed
}

#[cfg(test)]
mod tests;
