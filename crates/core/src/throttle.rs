//! Counting tries at passwords, and how long whoever guesses has to wait.
//!
//! A try is counted before the password is looked at, since working on a hash takes long enough to be
//! cut short in the middle, and taken back if the password was right. Where many tries come at once, each
//! is counted before the next is admitted, so that no more are looked at than if they came in turn.

use std::net::{IpAddr, Ipv6Addr};

/// What tries are counted under: a shortened MAC, which nobody can choose who does not have the key of the MAC.
pub type LookupKey = [u8; 16];

/// Microseconds. An hour after the last try all of them are forgotten.
pub const FORGOTTEN_AFTER: i64 = 3_600_000_000;

/// How many wrong tries are free, and the longest pause in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    free: u32,
    longest: i64,
}

/// For an account from a network.
pub const ACCOUNT_FROM_NETWORK: Limit = Limit::new(5, 900);
/// The same where the account has signed in from that network before: neighbours of its owner can make them
/// wait, and so no longer than this.
pub const ACCOUNT_FROM_KNOWN_NETWORK: Limit = Limit::new(5, 30);
/// For all accounts from a network.
pub const NETWORK: Limit = Limit::new(50, 900);
/// For an account from everywhere. Anybody can use it up, so the pauses are short.
pub const ACCOUNT: Limit = Limit::new(20, 5);

impl Limit {
    const fn new(free: u32, longest: i64) -> Self {
        Self { free, longest }
    }

    /// Microseconds until the next try after so many wrong ones is looked at.
    pub fn pause(self, wrong: u32) -> i64 {
        let seconds = match wrong.checked_sub(self.free) {
            None => 0,
            Some(more) => (1_i64 << more.min(20)).min(self.longest),
        };
        seconds * 1_000_000
    }
}

/// Tries that were wrong, or are still being looked at, and when the last of them came, in Unix microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tries {
    pub wrong: u32,
    pub last: i64,
}

impl Tries {
    const NONE: Self = Self { wrong: 0, last: 0 };

    fn unless_forgotten(self, now: i64) -> Self {
        match self.wrong > 0 && self.last.saturating_add(FORGOTTEN_AFTER) > now {
            true => self,
            false => Self::NONE,
        }
    }

    fn has_to_wait(self, limit: Limit, now: i64) -> bool {
        let pause = limit.pause(self.wrong);
        // Clocks that differ a little make nobody wait.
        pause > 0 && self.last.saturating_add(pause) > now
    }
}

/// One of the things that a try counts under.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    pub key: LookupKey,
    /// `None` if it counts, but makes nobody wait.
    pub limit: Option<Limit>,
    /// What is known of it from elsewhere.
    pub stored: Tries,
}

/// What to go back to if the try was right.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    key: LookupKey,
    at: i64,
    before: Tries,
}

impl Noted {
    /// How many wrong ones there were before, as far as this memory knows.
    pub fn wrong_before(&self) -> u32 {
        self.before.wrong
    }
}

const WAYS: usize = 16;

#[derive(Clone, Copy)]
struct Place {
    key: LookupKey,
    tries: Tries,
}

/// Memory for the tries of the last hour: plain data, so that it can be shared by processes.
///
/// A key has its place in one of the sets. If all places of its set are taken, the one with the fewest tries gives
/// way. So to make this memory forget a key with n tries, somebody must have n tries counted for each of the other
/// places of its set, and since nobody can choose keys, for those of nearly all sets: thousands of passwords are looked
/// at, for a few more tries at one account.
#[derive(Clone, Copy)]
pub struct Memory<const SETS: usize>([[Place; WAYS]; SETS]);

impl<const SETS: usize> Memory<SETS> {
    pub const EMPTY: Self = Self(
        [[Place {
            key: [0; 16],
            tries: Tries::NONE,
        }; WAYS]; SETS],
    );

    fn set(&mut self, key: &LookupKey) -> &mut [Place; WAYS] {
        let number = u64::from_le_bytes([
            key[0], key[1], key[2], key[3], key[4], key[5], key[6], key[7],
        ]);
        &mut self.0[(number % SETS as u64) as usize]
    }

    fn find(&mut self, key: &LookupKey) -> Option<&mut Place> {
        self.set(key).iter_mut().find(|place| place.key == *key)
    }

    /// What is known of a key.
    pub fn so_far(&mut self, key: &LookupKey, now: i64) -> Tries {
        let found = self.find(key).map(|place| place.tries);
        found.unwrap_or_default().unless_forgotten(now)
    }

    /// Counts a try, at `now` in Unix microseconds. If the try has to wait, returns `None` and counts nothing.
    pub fn admit<const N: usize>(
        &mut self,
        counted: &[Option<Counted>; N],
        now: i64,
    ) -> Option<[Option<Noted>; N]> {
        let has_to_wait = counted.iter().flatten().any(|counted| {
            let here = self.so_far(&counted.key, now);
            let stored = counted.stored.unless_forgotten(now);
            counted
                .limit
                .is_some_and(|limit| here.has_to_wait(limit, now) || stored.has_to_wait(limit, now))
        });
        if has_to_wait {
            return None;
        }
        Some(counted.map(|counted| counted.map(|counted| self.count(&counted, now))))
    }

    fn count(&mut self, counted: &Counted, now: i64) -> Noted {
        let before = self.so_far(&counted.key, now);
        let stored = counted.stored.unless_forgotten(now);
        let set = self.set(&counted.key);
        let known = set.iter().position(|place| place.key == counted.key);
        let fewest = |(_, place): &(usize, &Place)| {
            let tries = place.tries.unless_forgotten(now);
            (tries.wrong, tries.last)
        };
        let weakest = || set.iter().enumerate().min_by_key(fewest);
        let place = known.or_else(|| weakest().map(|(number, _)| number));
        if let Some(place) = place.and_then(|number| set.get_mut(number)) {
            *place = Place {
                key: counted.key,
                tries: Tries {
                    wrong: before.wrong.max(stored.wrong).saturating_add(1),
                    last: now,
                },
            };
        }
        Noted {
            key: counted.key,
            at: now,
            before: match before.wrong < stored.wrong {
                true => Tries {
                    last: stored.last,
                    ..before
                },
                false => before,
            },
        }
    }

    /// Takes back a try that was right.
    pub fn take_back(&mut self, noted: &Noted) {
        let Some(place) = self.find(&noted.key) else {
            return;
        };
        place.tries.wrong = place.tries.wrong.saturating_sub(1);
        // Unless another one has come since.
        if place.tries.last == noted.at {
            place.tries.last = noted.before.last;
        }
    }

    pub fn forget(&mut self, key: &LookupKey) {
        if let Some(place) = self.find(key) {
            place.tries = Tries::NONE;
        }
    }
}

/// The network that an address is counted and known by, with the length of its prefix in bits: whoever has one IPv6
/// address has all of its /64.
pub fn network_of(address: IpAddr) -> (IpAddr, u8) {
    match address {
        IpAddr::V4(_) => (address, 32),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & !u128::from(u64::MAX);
            (Ipv6Addr::from(prefix).into(), 64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;
    const NOW: i64 = 1_800_000_000 * SECOND;

    fn key(n: u64) -> LookupKey {
        let mut key = [7; 16];
        key[..8].copy_from_slice(&n.to_le_bytes());
        key
    }

    fn one(n: u64, limit: Limit) -> [Option<Counted>; 1] {
        [Some(Counted {
            key: key(n),
            limit: Some(limit),
            stored: Tries::NONE,
        })]
    }

    #[test]
    fn each_wrong_one_beyond_the_free_ones_doubles_the_pause() {
        let pauses: Vec<i64> = (3..20)
            .map(|wrong| ACCOUNT_FROM_NETWORK.pause(wrong) / SECOND)
            .collect();
        assert_eq!(
            pauses,
            [
                0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900, 900
            ]
        );
        assert_eq!(ACCOUNT.pause(u32::MAX), 5 * SECOND);
        assert_eq!(ACCOUNT_FROM_KNOWN_NETWORK.pause(u32::MAX), 30 * SECOND);
    }

    #[test]
    fn of_tries_that_come_at_once_only_the_free_ones_are_looked_at() {
        let mut memory = Memory::<4>::EMPTY;
        let admitted = (0..60)
            .filter(|_| memory.admit(&one(1, ACCOUNT_FROM_NETWORK), NOW).is_some())
            .count();
        assert_eq!(admitted, 5);
        // What came during the pause neither counts nor prolongs it.
        assert_eq!(
            memory.so_far(&key(1), NOW),
            Tries {
                wrong: 5,
                last: NOW
            }
        );
        assert!(
            memory
                .admit(&one(1, ACCOUNT_FROM_NETWORK), NOW + SECOND)
                .is_some()
        );
    }

    #[test]
    fn right_ones_leave_everything_as_it_was() {
        let mut memory = Memory::<4>::EMPTY;
        for _ in 0..20 {
            assert!(memory.admit(&one(1, ACCOUNT), NOW).is_some());
        }
        assert!(memory.admit(&one(2, ACCOUNT), NOW + 1).is_some());
        assert!(memory.admit(&one(2, ACCOUNT), NOW).is_some());
        let before = memory.so_far(&key(1), NOW);
        let later = NOW + 10 * SECOND;
        let [noted] = memory.admit(&one(1, ACCOUNT), later).unwrap();
        memory.take_back(&noted.unwrap());
        assert_eq!(memory.so_far(&key(1), later), before);
        // Unless a wrong one has come in between.
        let [right] = memory.admit(&one(1, NETWORK), later).unwrap();
        memory.admit(&one(1, NETWORK), later + 1).unwrap();
        memory.take_back(&right.unwrap());
        assert_eq!(
            memory.so_far(&key(1), later + 1),
            Tries {
                wrong: 21,
                last: later + 1
            }
        );
    }

    #[test]
    fn what_has_no_limit_counts_and_lets_through() {
        let mut memory = Memory::<4>::EMPTY;
        let counted = Counted {
            key: key(1),
            limit: None,
            stored: Tries {
                wrong: 1_000,
                last: NOW,
            },
        };
        assert!(memory.admit(&[Some(counted)], NOW).is_some());
        assert_eq!(memory.so_far(&key(1), NOW).wrong, 1_001);
    }

    #[test]
    fn what_is_stored_counts_too() {
        let mut memory = Memory::<4>::EMPTY;
        let stored = |last| {
            [Some(Counted {
                key: key(1),
                limit: Some(ACCOUNT),
                stored: Tries { wrong: 30, last },
            })]
        };
        assert!(memory.admit(&stored(NOW - 4 * SECOND), NOW).is_none());
        assert!(memory.admit(&stored(NOW - 5 * SECOND), NOW).is_some());
        assert_eq!(memory.so_far(&key(1), NOW).wrong, 31);
        memory.forget(&key(1));
        assert!(memory.admit(&stored(NOW - FORGOTTEN_AFTER), NOW).is_some());
        assert_eq!(memory.so_far(&key(1), NOW).wrong, 1);
    }

    #[test]
    fn all_is_forgotten_after_an_hour() {
        let mut memory = Memory::<4>::EMPTY;
        for _ in 0..5 {
            memory.admit(&one(1, ACCOUNT_FROM_NETWORK), NOW);
        }
        assert_eq!(memory.so_far(&key(1), NOW + FORGOTTEN_AFTER - 1).wrong, 5);
        assert_eq!(memory.so_far(&key(1), NOW + FORGOTTEN_AFTER), Tries::NONE);
    }

    #[test]
    fn a_full_memory_forgets_those_with_the_fewest_tries() {
        let mut memory = Memory::<1>::EMPTY;
        for _ in 0..19 {
            memory.admit(&one(0, ACCOUNT), NOW);
        }
        // A flood of others does not touch it, as long as each has fewer.
        for n in 1..10_000 {
            memory.admit(&one(n, ACCOUNT), NOW + n as i64);
        }
        assert_eq!(memory.so_far(&key(0), NOW).wrong, 19);
        for n in 1..=16 {
            for _ in 0..20 {
                memory.admit(&one(n, ACCOUNT), NOW);
            }
        }
        assert_eq!(memory.so_far(&key(0), NOW).wrong, 0);
    }

    #[test]
    fn an_ipv6_address_counts_as_its_network() {
        let network = |text: &str| {
            let (address, length) = network_of(text.parse().unwrap());
            format!("{address}/{length}")
        };
        assert_eq!(network("192.0.2.7"), "192.0.2.7/32");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(network("::1"), "::/64");
    }

    proptest! {
        /// Whatever comes, within a minute and with room for all, no account has more wrong tries looked at from a
        /// network than the pauses allow: five, and one after each pause.
        #[test]
        fn no_order_of_tries_gets_more_looked_at(
            steps in proptest::collection::vec((0..3_u64, 0..3_000_000_i64), 1..200),
        ) {
            let mut memory = Memory::<8>::EMPTY;
            let mut now = NOW;
            let mut looked_at = [Vec::<i64>::new(), Vec::new(), Vec::new()];
            for (account, pause) in steps {
                now += pause;
                if memory.admit(&one(account, ACCOUNT_FROM_NETWORK), now).is_some() {
                    looked_at[account as usize].push(now);
                }
            }
            for times in looked_at {
                for (n, pair) in times.windows(2).enumerate() {
                    prop_assert!(pair[1] - pair[0] >= ACCOUNT_FROM_NETWORK.pause(n as u32 + 1));
                }
            }
        }
    }
}
