//! How much of guessing at codes there may be.
//!
//! People know codes of six digits, and type them without mistakes; a try at one is right once in a million times.
//! So the tries have to be few, whoever makes them, from wherever, at however many tokens: each is paid for
//! from [allowances](Allowance), in probability and not in tries, so that codes of other lengths pay their share.
//! What is used of an allowance grows back evenly within a day.
//!
//! An allowance that strangers can use up must not lock anybody out. So the allowance pays for tries at short codes
//! only. Once half of it is used, new codes are [long](LONG) and need none; the other half is for short codes already
//! sent.
//!
//! docs/threats.md computes what an attacker can reach; a test here computes the same.

use std::net::{IpAddr, Ipv6Addr};

#[cfg(test)]
mod tests;

/// How many digits a code has that is too long to be guessed: a million tries a second for a whole day find it with a
/// probability of 1 in 100,000.
pub const LONG: u32 = 16;

/// The probability that one try is right, in trillionths, rounded down: 0 for long codes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Chance(u64);

impl Chance {
    pub const NONE: Self = Self(0);

    /// That of a code with so many digits.
    pub const fn of_code(digits: u32) -> Self {
        match 12_u32.checked_sub(digits) {
            Some(zeros) => Self(10_u64.pow(zeros)),
            None => Self::NONE,
        }
    }

    pub fn from_trillionths(trillionths: i64) -> Self {
        Self(u64::try_from(trillionths).unwrap_or_default())
    }

    pub fn trillionths(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Microseconds.
pub const DAY: i64 = 86_400_000_000;

/// What the wrong tries at short codes may be worth together. It grows back within a day, so that less than twice as
/// much is used in any 24 hours.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    most: Chance,
}

/// For one address, and for one user: 40 tries at codes of six digits, and as many more in a day.
pub const ADDRESS: Allowance = Allowance {
    most: Chance(40_000_000),
};

/// For everybody who asks from one address of the network, so that one address cannot use up what there is for all.
pub const CALLER: Allowance = Allowance {
    most: Chance(100_000_000),
};

/// For all of a database together: 800 tries.
pub const INSTALLATION: Allowance = Allowance {
    most: Chance(800_000_000),
};

/// A part of an allowance, as the time in which it grows back, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost(pub i64);

impl Allowance {
    /// What a try of that chance takes of it, rounded up.
    pub fn cost(self, chance: Chance) -> Cost {
        let cost = (u128::from(chance.0) * DAY as u128).div_ceil(u128::from(self.most.0));
        Cost(i64::try_from(cost).unwrap_or(i64::MAX))
    }
}

/// How much is used of what grows back within a period of so many microseconds: the time at which it will have grown
/// back, in microseconds since 1970. So it needs no upkeep, and of two the later is the larger, whenever they are
/// compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Used<const PERIOD: i64>(i64);

/// How much of an allowance is used.
pub type Level = Used<DAY>;

impl<const PERIOD: i64> Used<PERIOD> {
    /// When it will have grown back. No more than all of it can be used, even if the clock was set back.
    fn whole_at(self, now: i64) -> i64 {
        self.0.clamp(now, now.saturating_add(PERIOD))
    }

    pub fn has_room(self, cost: Cost, now: i64) -> bool {
        let room = now.saturating_add(PERIOD) - self.whole_at(now);
        cost.0 <= room
    }

    pub fn raise(&mut self, cost: Cost, now: i64) {
        self.0 = Self(self.whole_at(now).saturating_add(cost.0)).whole_at(now);
    }

    pub fn lower(&mut self, cost: Cost) {
        self.0 = self.0.saturating_sub(cost.0);
    }
}

impl Level {
    /// Whether short codes may be given out.
    pub fn is_half_free(self, now: i64) -> bool {
        self.has_room(Cost(DAY / 2), now)
    }
}

/// Wrong tries at one thing. All of them expire together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tries {
    pub count: u32,
    /// Unix seconds.
    pub expires_at: i64,
}

impl Tries {
    /// Those that have not expired. `now` is in Unix seconds.
    pub fn at(self, now: i64) -> u32 {
        match self.expires_at > now {
            true => self.count,
            false => 0,
        }
    }
}

/// What is counted in a table that is too small for everything. `now` is in the unit of the amount.
pub trait Amount: Copy {
    const NONE: Self;
    /// Whether it can be forgotten.
    fn is_over(self, now: i64) -> bool;
    /// The least that is enough for both.
    fn or(self, other: Self) -> Self;
    /// The smaller the rank, the sooner the amount gives way.
    fn rank(self) -> i64;
}

impl<const PERIOD: i64> Amount for Used<PERIOD> {
    const NONE: Self = Self(i64::MIN);

    fn is_over(self, now: i64) -> bool {
        self.0 <= now
    }

    fn or(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    fn rank(self) -> i64 {
        self.0
    }
}

impl Amount for Tries {
    const NONE: Self = Self {
        count: 0,
        expires_at: i64::MIN,
    };

    fn is_over(self, now: i64) -> bool {
        self.at(now) == 0
    }

    fn or(self, other: Self) -> Self {
        Self {
            count: self.count.max(other.count),
            expires_at: self.expires_at.max(other.expires_at),
        }
    }

    fn rank(self) -> i64 {
        self.count.into()
    }
}

/// What something is counted under.
pub type LookupKey = [u8; 16];

/// A table of a fixed size that counts too much, and never too little. Each key belongs to one set of places. Where
/// they are all taken, the smallest amount gives way, and from then on all that have no place in the set count as
/// much as it did.
#[derive(Clone, Copy)]
pub struct Places<A, const SETS: usize, const WAYS: usize>([Set<A, WAYS>; SETS]);

#[derive(Clone, Copy)]
struct Set<A, const WAYS: usize> {
    places: [(LookupKey, A); WAYS],
    others: A,
}

impl<A: Amount, const SETS: usize, const WAYS: usize> Places<A, SETS, WAYS> {
    pub const EMPTY: Self = Self(
        [Set {
            places: [([0; 16], A::NONE); WAYS],
            others: A::NONE,
        }; SETS],
    );

    fn set_of(key: &LookupKey) -> usize {
        // Digests, or UUIDs, which end in random bits.
        let [.., a, b, c, d, e, f, g, h] = *key;
        (u64::from_be_bytes([a, b, c, d, e, f, g, h]) % SETS as u64) as usize
    }

    /// At least what has been counted for the key.
    pub fn of(&self, key: &LookupKey) -> A {
        let set = &self.0[Self::set_of(key)];
        let own = set.places.iter().find(|(known, _)| known == key);
        own.map_or(set.others, |(_, amount)| *amount)
    }

    /// The place of the key, with what [`Self::of`] says in it.
    pub fn place(&mut self, key: &LookupKey, now: i64) -> &mut A {
        let set = &mut self.0[Self::set_of(key)];
        let known = set.places.iter().position(|(known, _)| known == key);
        let place = known.unwrap_or_else(|| {
            let rank = |amount: A| (!amount.is_over(now), amount.rank());
            let all = 0..WAYS;
            let place = all.min_by_key(|&place| rank(set.places[place].1));
            let place = place.unwrap_or_default();
            if set.others.is_over(now) {
                set.others = A::NONE;
            }
            let leaving = set.places[place].1;
            let others = set.others;
            if !leaving.is_over(now) {
                set.others = others.or(leaving);
            }
            // If the key gave way before, what was counted for it is among the others.
            set.places[place] = (*key, others);
            place
        });
        &mut set.places[place].1
    }

    /// The place of the key, if it has one.
    pub fn own_place(&mut self, key: &LookupKey) -> Option<&mut A> {
        let places = &mut self.0[Self::set_of(key)].places;
        let own = places.iter_mut().find(|(known, _)| known == key);
        own.map(|(_, amount)| amount)
    }
}

/// The addresses that share a connection to the network, as far as an address tells: one of IPv4, or 2⁶⁴ of IPv6,
/// since each household has as many.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}
