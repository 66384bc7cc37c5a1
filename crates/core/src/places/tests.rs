use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::rate::{Counter, Limit};

const DATABASE: u32 = 5;

/// A set that grows as far as it may, in the way in which shared memory does it.
struct Table {
    blocks: Vec<Block>,
    max: usize,
    share: usize,
}

impl Table {
    fn new(max: usize, share: usize) -> Self {
        Self {
            blocks: Vec::new(),
            max,
            share,
        }
    }

    fn with<R>(&mut self, f: impl FnOnce(Set) -> R) -> R {
        let mut set: Vec<&mut Block> = self.blocks.iter_mut().collect();
        f(&mut set)
    }

    fn count(&mut self, used: &Used, now: i64) -> Counted {
        let share = self.share;
        let count = |table: &mut Self, loss| table.with(|set| count(set, used, share, loss, now));
        match count(self, Loss::Nothing) {
            Counted::Full if self.blocks.len() < self.max => {
                self.blocks.push(Block::EMPTY);
                count(self, Loss::Nothing)
            }
            Counted::Full => count(self, Loss::ALastUse),
            counted => counted,
        }
    }

    fn pack(&mut self, idle_since: i64, now: i64) {
        let needed = self.with(|set| pack(set, idle_since, now));
        self.blocks.truncate(needed);
    }

    /// As [`super::count_refused`], in the way in which shared memory does it.
    fn refuse(&mut self, token: u8, user: u8, now: i64) -> bool {
        let refuse =
            |table: &mut Self| table.with(|set| count_refused(set, &key(token), [user; 16], now));
        let mut is_counted = refuse(self);
        if !is_counted && self.blocks.len() < self.max {
            self.blocks.push(Block::EMPTY);
            is_counted = refuse(self);
        }
        is_counted
    }

    /// As if all that the token has counted had been written.
    fn write(&mut self, token: u8, used_at: i64) {
        let counted = self.daily(token);
        self.with(|set| has_been_written(set, &key(token), used_at, &counted));
    }

    fn daily(&mut self, token: u8) -> Daily {
        self.with(|set| {
            unwritten(set)
                .find(|place| place.token[0] == token)
                .map_or(Daily::NONE, |place| place.daily)
        })
    }

    fn unwritten(&mut self) -> HashMap<u8, i64> {
        self.with(|set| {
            unwritten(set)
                .map(|place| (place.token[0], place.used_at))
                .collect()
        })
    }
}

const LIMIT: Limit = Limit {
    requests: 3,
    window: 1000,
};

/// Four tokens share a tag.
fn key(token: u8) -> Key {
    Key {
        database: DATABASE,
        token: [token; 16],
        tag: u16::from(token) / 4,
    }
}

fn request(token: u8, user: u8, limit: Option<Limit>) -> Used {
    Used {
        key: key(token),
        user: [user; 16],
        limits: Limits {
            rate: limit,
            ..Limits::NONE
        },
        address: None,
    }
}

/// Whether the request was counted, and if so, whether the last use of another token was lost.
fn admission(counted: Counted) -> Option<bool> {
    match counted {
        Counted::Admitted { has_lost, .. } => Some(has_lost),
        _ => None,
    }
}

#[test]
fn one_user_gets_a_share_and_leaves_the_rest_to_others() {
    let mut table = Table::new(2, 24);
    let admitted = |counted| matches!(counted, Counted::Admitted { .. });
    let of_one =
        (0..100).filter(|&token| admitted(table.count(&request(token, 1, Some(LIMIT)), 5000)));
    assert_eq!(of_one.count(), 24);
    assert_eq!(
        table.count(&request(99, 1, Some(LIMIT)), 5000),
        Counted::UserHasEnough
    );
    let of_others = (100..200)
        .filter(|&token| admitted(table.count(&request(token, token, Some(LIMIT)), 5000)));
    assert_eq!(of_others.count(), 8);
    assert_eq!(
        table.count(&request(200, 200, Some(LIMIT)), 5000),
        Counted::Full
    );
    // A token without a limit is not counted against its user, and takes no place from one with a limit.
    assert_eq!(table.count(&request(201, 1, None), 5000), Counted::Full);
    // The next window.
    assert!(admitted(table.count(&request(201, 1, None), 6000)));
}

#[test]
fn who_has_lost_the_limit_that_it_waited_for_waits_no_more() {
    const DAY: Limit = Limit {
        requests: 3,
        window: 86_400_000_000,
    };
    let mut table = Table::new(1, 16);
    let mut leased = request(1, 1, Some(DAY));
    leased.limits.have_leases = true;
    assert_eq!(table.count(&leased, 5000), Counted::NeedsLease);
    let leases = |table: &mut Table| {
        let mut found = 0;
        table.with(|set| demanded(set, DATABASE, true, 5000, |_| found += 1));
        found
    };
    assert_eq!(leases(&mut table), 1);
    let is_waiting = |table: &mut Table| table.with(|set| waiting(set).count()) > 0;
    // Until it has been given the lease.
    assert!(is_waiting(&mut table));
    table.count(&request(1, 1, None), 5000);
    assert_eq!(leases(&mut table), 0);
    assert!(!is_waiting(&mut table));
    assert_eq!(table.count(&leased, 5000), Counted::NeedsLease);
    assert!(is_waiting(&mut table));
}

#[test]
fn a_use_is_lost_only_where_there_is_no_more_room() {
    let mut table = Table::new(2, 24);
    for token in 0..32 {
        let counted = table.count(&request(token, 1, None), 5000 + i64::from(token));
        assert_eq!(admission(counted), Some(false));
    }
    // What has been written gives way, whenever it was used.
    table.write(31, 5031);
    let mut count = |token| admission(table.count(&request(token, 1, None), 6000));
    assert_eq!([count(40), count(41)], [Some(false), Some(true)]);
    let unwritten = table.unwritten();
    assert_eq!(unwritten.len(), 32);
    assert!(!unwritten.contains_key(&0) && !unwritten.contains_key(&31));
}

#[test]
fn a_database_that_is_gone_leaves_its_places_to_others() {
    let mut table = Table::new(1, 96);
    for token in 0..16 {
        let mut used = request(token, token, Some(LIMIT));
        used.key.database += u32::from(token % 2);
        table.count(&used, 5000);
    }
    table.with(|set| remove_all(set, DATABASE + 1));
    table.pack(0, 5000);
    let left: Vec<_> = table.with(|set| held(set, DATABASE, 5000).collect());
    assert_eq!(left.len(), 8);
    let gone: Vec<_> = table.with(|set| held(set, DATABASE + 1, 5000).collect());
    assert_eq!(gone.len(), 0);
    assert_eq!(table.unwritten().len(), 8);
}

#[test]
fn a_set_shrinks_to_what_is_in_use() {
    let mut table = Table::new(8, 96);
    for token in 0..100 {
        table.count(&request(token, token, Some(LIMIT)), 5000);
    }
    assert_eq!(table.blocks.len(), 7);
    table.pack(6000, 5999);
    assert_eq!(table.blocks.len(), 7, "windows are running");
    table.pack(6000, 6000);
    assert_eq!(table.blocks.len(), 7, "uses are to be written");
    for token in 0..99 {
        table.write(token, 5000);
    }
    table.pack(4999, 6000);
    assert_eq!(table.blocks.len(), 7, "the tokens may be in constant use");
    table.pack(5000, 6000);
    assert_eq!(table.blocks.len(), 1);
    assert_eq!(table.unwritten(), HashMap::from([(99, 5000)]));
    table.with(|set| forget(set, DATABASE));
    table.pack(5000, 6000);
    assert_eq!(table.blocks.len(), 0);
}

#[test]
fn a_refusal_is_counted_without_a_use_and_costs_nobody_anything() {
    let mut table = Table::new(2, 24);
    for token in 0..32 {
        table.count(&request(token, 1, None), 5000);
    }
    assert!(table.refuse(7, 1, 6000));
    assert_eq!(table.unwritten()[&7], 5000, "the last use stays");
    let counted: Vec<_> = table.daily(7).tallies().collect();
    assert_eq!((counted[0].requests, counted[0].refused), (1, 1));
    // There is no place whose use has been written.
    assert!(!table.refuse(40, 1, 6000));
    table.write(3, 5000);
    assert!(table.refuse(40, 1, 6000));
    assert_eq!(table.unwritten()[&40], 0);
    // One that was only refused gives way first.
    assert_eq!(
        admission(table.count(&request(41, 1, None), 6000)),
        Some(true)
    );
    assert!(!table.unwritten().contains_key(&40));
    assert_eq!(table.unwritten().len(), 32);
}

#[test]
fn a_token_with_a_limit_finds_room_among_those_that_were_only_refused() {
    let mut table = Table::new(1, 12);
    for token in 0..16 {
        assert!(table.refuse(token, token, 5000));
    }
    assert_eq!(
        admission(table.count(&request(20, 20, Some(LIMIT)), 5000)),
        Some(true)
    );
}

#[test]
fn what_is_forgotten_is_not_written_with_the_next_use() {
    let mut table = Table::new(1, 12);
    table.count(&request(1, 1, None), 5000);
    assert!(table.refuse(1, 1, 5000));
    table.with(|set| forget(set, DATABASE));
    assert_eq!(table.unwritten().len(), 0);
    table.count(&request(1, 1, None), 6000);
    let counted: Vec<_> = table.daily(1).tallies().collect();
    assert_eq!((counted[0].requests, counted[0].refused), (1, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Use { token: u8, times: u8 },
    Wait(i64),
    Write(Vec<u8>),
    Pack { idle: i64 },
    Die(u8),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..120_u8, 1..6_u8).prop_map(|(token, times)| Step::Use { token, times }),
        3 => (0..700_i64).prop_map(Step::Wait),
        2 => prop::collection::vec(0..120_u8, 0..60).prop_map(Step::Write),
        2 => (0..1500_i64).prop_map(|idle| Step::Pack { idle }),
        1 => (0..120_u8).prop_map(Step::Die),
        1 => Just(Step::Forget),
    ]
}

/// Every third token has no limit; the others differ in theirs.
fn limit_of(token: u8) -> Option<Limit> {
    (!token.is_multiple_of(3)).then(|| Limit {
        requests: 1 + u32::from(token % 5),
        window: 500 * (1 + i64::from(token % 4)),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Against a model that has room for everything. Where the set has room, the two agree in each answer; where it
    /// has not, a token gets less, never more.
    #[test]
    fn no_token_has_more_than_its_limit_or_less_where_there_is_room(
        max in 1..10_usize,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut table = Table::new(max, 12 * max);
        let mut now = 1_000_000;
        let mut counters: HashMap<u8, Counter> = HashMap::new();
        let mut last_uses: HashMap<u8, i64> = HashMap::new();
        let mut lost = 0;
        let mut dead = HashSet::new();
        for step in steps {
            match step {
                Step::Use { token, .. } if dead.contains(&token) => (),
                Step::Use { token, times } => for _ in 0..times {
                    let used = request(token, token % 7, limit_of(token));
                    let counter = counters.entry(token).or_insert(Counter::NEW);
                    let before = *counter;
                    let expected = match used.limits.rate {
                        Some(limit) => counter.admit(limit, now),
                        None => Ok(()),
                    };
                    match table.count(&used, now) {
                        Counted::Admitted { has_lost, .. } => {
                            prop_assert_eq!(expected, Ok(()));
                            last_uses.insert(token, now);
                            lost += usize::from(has_lost);
                        }
                        Counted::UsedUp { micros, .. } => prop_assert_eq!(expected, Err(micros)),
                        Counted::NeedsLease => prop_assert!(false, "no limit lasts a day"),
                        Counted::UserHasEnough => {
                            prop_assert!(used.limits.rate.is_some());
                            *counter = before;
                        }
                        Counted::Full => {
                            prop_assert_eq!(table.blocks.len(), max);
                            *counter = before;
                        }
                    }
                },
                Step::Wait(micros) => now += micros,
                Step::Write(tokens) => for token in tokens {
                    if let Some(used_at) = last_uses.remove(&token) {
                        table.write(token, used_at - 1);
                        prop_assert_eq!(table.daily(token), Daily::NONE);
                        table.write(token, used_at);
                    }
                },
                Step::Pack { idle } => table.pack(now - idle, now),
                Step::Die(token) => {
                    dead.insert(token);
                    last_uses.remove(&token);
                    table.with(|set| remove(set, &key(token)));
                    let held: Vec<_> = table.with(|set| held(set, DATABASE, now).collect());
                    prop_assert!(!held.contains(&[token; 16]));
                }
                Step::Forget => {
                    table.with(|set| forget(set, DATABASE + 1));
                    prop_assert!(table.unwritten().len() <= last_uses.len());
                    table.with(|set| forget(set, DATABASE));
                    last_uses.clear();
                    lost = 0;
                }
            }
            let unwritten = table.unwritten();
            for (token, used_at) in &unwritten {
                prop_assert_eq!(last_uses.get(token), Some(used_at));
            }
            prop_assert!(unwritten.len() + lost >= last_uses.len());
            if table.blocks.len() < max {
                let without_loss = table.unwritten().len();
                prop_assert!(lost > 0 || without_loss == last_uses.len());
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Counting {
    Use(u8),
    Refuse(u8),
    Wait(i64),
    Midnight,
    /// A writer reads what there is to write.
    Read,
    /// It has committed.
    Commit,
    Pack,
}

fn counting() -> impl Strategy<Value = Counting> {
    prop_oneof![
        20 => (0..120_u8).prop_map(Counting::Use),
        10 => (0..120_u8).prop_map(Counting::Refuse),
        3 => (0..700_i64).prop_map(Counting::Wait),
        1 => Just(Counting::Midnight),
        3 => Just(Counting::Read),
        3 => Just(Counting::Commit),
        1 => Just(Counting::Pack),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// What is written for a token and a day is never more than what was counted, and exactly that where there is room
    /// and the writer comes once a day.
    #[test]
    fn what_is_written_was_counted_and_where_there_is_room_nothing_is_missing(
        max in 1..10_usize,
        steps in prop::collection::vec(counting(), 1..400),
    ) {
        const DAY: i64 = 86_400_000_000;
        let mut table = Table::new(max, 12 * max);
        let mut now = 20_000 * DAY - 1000;
        let mut counted: HashMap<(u8, Day), [u32; 2]> = HashMap::new();
        let mut written: HashMap<(u8, Day), [u32; 2]> = HashMap::new();
        let mut read: Vec<Place> = Vec::new();
        // Midnights since what has been written was read, and since something was read.
        let (mut unwritten_midnights, mut unread_midnights) = (0, 0);
        let mut has_lost = false;
        for step in steps.into_iter().chain([Counting::Read, Counting::Commit]) {
            match step {
                Counting::Use(token) => {
                    let counts = table.count(&request(token, token % 7, limit_of(token)), now);
                    if let Some(this) = admission(counts) {
                        has_lost |= this;
                        counted.entry((token, Day::at(now))).or_default()[0] += 1;
                    }
                }
                Counting::Refuse(token) => {
                    has_lost |= !table.refuse(token, token % 7, now);
                    counted.entry((token, Day::at(now))).or_default()[1] += 1;
                }
                Counting::Wait(_) | Counting::Midnight => {
                    let then = match step {
                        Counting::Wait(micros) => now + micros,
                        _ => (now / DAY + 1) * DAY,
                    };
                    let midnights = then / DAY - now / DAY;
                    now = then;
                    unread_midnights += midnights;
                    unwritten_midnights += midnights;
                    has_lost |= unwritten_midnights > 1;
                }
                Counting::Read => {
                    read = table.with(|set| unwritten(set).copied().collect());
                    unread_midnights = 0;
                }
                Counting::Commit => {
                    for place in std::mem::take(&mut read) {
                        let token = place.token[0];
                        for tally in place.daily.tallies() {
                            let of_day = written.entry((token, tally.day)).or_default();
                            of_day[0] += tally.requests;
                            of_day[1] += tally.refused;
                        }
                        table.with(|set| has_been_written(set, &key(token), place.used_at, &place.daily));
                    }
                    unwritten_midnights = unread_midnights;
                }
                Counting::Pack => table.pack(now - 500, now),
            }
        }
        for (of_day, counts) in &written {
            let most = counted.get(of_day).copied().unwrap_or_default();
            prop_assert!(counts[0] <= most[0] && counts[1] <= most[1]);
        }
        if !has_lost {
            prop_assert_eq!(written, counted);
        }
    }
}
