use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// The beginning of a day.
const START: i64 = 20_000 * DAY;

fn limits(requests: u32) -> Limits {
    Limits {
        quota: Some(Limit {
            requests,
            window: DAY,
        }),
        have_leases: true,
        ..Limits::NONE
    }
}

/// One token in shared memory, and the table of leases.
struct Server {
    counters: Counters,
    demands: [Demand; 2],
    is_waiting: bool,
    table: HashMap<Which, Stored>,
}

impl Server {
    fn new() -> Self {
        Self {
            counters: Counters::NEW,
            demands: [Demand::NONE; 2],
            is_waiting: false,
            table: HashMap::new(),
        }
    }

    fn request(&mut self, limits: &Limits, now: i64) -> Result<(), Blocked> {
        for which in Which::BOTH {
            let limit = limits.of(which).filter(|&limit| limits.is_leased(limit));
            self.demands[which as usize].note(limit);
        }
        let counted = self.counters.admit(limits, now);
        self.is_waiting |= counted == Err(Blocked::NeedsLease);
        counted
    }

    /// What a visit of the worker writes, in its rounds or for a request that waits.
    fn write(&mut self, now: i64, only_waiting: bool) -> Vec<(Which, Lease)> {
        let mut leases = Vec::new();
        for which in Which::BOTH {
            let demand = &mut self.demands[which as usize];
            if let Some(wanted) = demand.wanted(self.counters.of(which), self.is_waiting, now) {
                let lease = wanted.lease(self.table.get(&which).copied(), now);
                self.table.insert(which, lease.stored);
                leases.push((which, lease));
            }
            if !only_waiting {
                demand.settle(self.counters.of(which));
            }
        }
        leases
    }

    fn give(&mut self, leases: Vec<(Which, Lease)>, now: i64) {
        for (which, lease) in leases {
            let demand = &mut self.demands[which as usize];
            lease.give(self.counters.of_mut(which), demand, now);
            self.is_waiting = false;
        }
    }

    fn visit(&mut self, now: i64) {
        let leases = self.write(now, false);
        self.give(leases, now);
    }

    fn crash(&mut self) {
        self.counters = Counters::NEW;
        self.demands = [Demand::NONE; 2];
        self.is_waiting = false;
    }

    /// As [`Self::request`], which waits for a lease.
    fn patient(&mut self, limits: &Limits, now: i64) -> Result<(), Blocked> {
        match self.request(limits, now) {
            Err(Blocked::NeedsLease) => {
                let leases = self.write(now, true);
                self.give(leases, now);
                self.request(limits, now)
            }
            counted => counted,
        }
    }
}

#[test]
fn nothing_is_admitted_without_a_lease() {
    let mut server = Server::new();
    let limits = limits(100);
    assert_eq!(server.request(&limits, START), Err(Blocked::NeedsLease));
    assert_eq!(server.table.len(), 0);
    server.visit(START);
    assert_eq!(
        server.table[&Which::Quota],
        Stored {
            end: START + DAY,
            granted: 3
        }
    );
    for _ in 0..3 {
        assert_eq!(server.request(&limits, START), Ok(()));
    }
    assert_eq!(server.request(&limits, START), Err(Blocked::NeedsLease));
}

#[test]
fn a_window_begins_with_a_request_and_has_its_allowance() {
    let mut server = Server::new();
    let limits = limits(100);
    let admitted = |server: &mut Server, now| {
        (0..200)
            .filter(|_| server.patient(&limits, now).is_ok())
            .count()
    };
    assert_eq!(admitted(&mut server, START), 100);
    assert_eq!(
        server.request(&limits, START + 1),
        Err(Blocked::UsedUp(Which::Quota, DAY - 1))
    );
    server.visit(START + DAY);
    assert_eq!(
        server.table[&Which::Quota].end,
        START + DAY,
        "nobody has asked"
    );
    assert_eq!(admitted(&mut server, START + DAY), 100);
}

#[test]
fn what_was_granted_counts_as_used_after_a_crash() {
    let mut server = Server::new();
    let limits = limits(1000);
    assert_eq!(server.patient(&limits, START), Ok(()));
    assert_eq!(server.table[&Which::Quota].granted, 31);
    server.crash();
    let left = (0..2000)
        .filter(|_| server.patient(&limits, START + 1).is_ok())
        .count();
    assert_eq!(left, 1000 - 31);
    server.crash();
    assert_eq!(
        server.patient(&limits, START + 2),
        Err(Blocked::UsedUp(Which::Quota, DAY - 2))
    );
}

#[test]
fn a_request_that_one_limit_refuses_uses_up_neither() {
    let mut server = Server::new();
    let limits = Limits {
        rate: Some(Limit {
            requests: 2,
            window: SECOND,
        }),
        ..limits(5)
    };
    let mut outcomes = Vec::new();
    for second in 0..3 {
        for _ in 0..4 {
            outcomes.push(server.patient(&limits, START + second * SECOND));
        }
    }
    use Blocked::UsedUp;
    let (rate, quota) = (
        Err(UsedUp(Which::Rate, SECOND)),
        Err(UsedUp(Which::Quota, DAY - 2 * SECOND)),
    );
    assert_eq!(outcomes[..4], [Ok(()), Ok(()), rate, rate]);
    assert_eq!(outcomes[4..8], outcomes[..4]);
    assert_eq!(outcomes[8..], [Ok(()), quota, quota, quota]);
    assert_eq!(server.counters.rate.used, 1);
}

#[test]
fn both_limits_may_need_leases() {
    let mut server = Server::new();
    let limits = Limits {
        rate: Some(Limit {
            requests: 3,
            window: DAY,
        }),
        quota: Some(Limit {
            requests: 4,
            window: 2 * DAY,
        }),
        have_leases: true,
    };
    let per_day: Vec<usize> = (0..4)
        .map(|day| {
            let now = START + day * DAY;
            server.crash();
            (0..9)
                .filter(|_| server.patient(&limits, now).is_ok())
                .count()
        })
        .collect();
    // A crash loses what was granted ahead, and nothing was left of the first day.
    assert_eq!(per_day, [3, 1, 3, 1]);
}

#[test]
fn a_longer_window_renews_nothing_across_a_crash() {
    let mut server = Server::new();
    let mut limits = limits(3);
    for _ in 0..3 {
        assert_eq!(server.patient(&limits, START + 1), Ok(()));
    }
    for days in 2..31 {
        limits.quota = Some(Limit {
            requests: 3,
            window: days * DAY,
        });
        server.crash();
        assert!(server.patient(&limits, START + DAY - 1).is_err());
    }
    assert_eq!(server.patient(&limits, START + DAY), Ok(()));
}

#[test]
fn what_the_memory_has_counted_before_there_were_leases_counts() {
    let mut server = Server::new();
    let with = limits(3);
    let without = Limits {
        have_leases: false,
        ..with
    };
    assert_eq!(server.request(&without, START), Ok(()));
    assert_eq!(server.request(&without, START), Ok(()));
    assert_eq!(server.patient(&with, START), Ok(()));
    assert_eq!(server.table[&Which::Quota].granted, 3);
    assert!(server.patient(&with, START).is_err());
}

#[test]
fn a_lease_that_comes_twice_is_given_once() {
    let mut server = Server::new();
    let limits = limits(100);
    assert!(server.request(&limits, START).is_err());
    let first = server.write(START, true);
    // Another worker has not heard of what the first one has written.
    let second = server.write(START, true);
    server.give(second, START);
    assert_eq!(server.request(&limits, START), Ok(()));
    let before = server.counters;
    server.give(first, START);
    assert_eq!(server.counters, before);
    let granted = server.table[&Which::Quota].granted;
    assert!(server.counters.quota.granted <= granted);
}

#[test]
fn a_clock_that_is_set_back_does_not_lock_a_token_out() {
    let mut server = Server::new();
    let limits = limits(2);
    for _ in 0..2 {
        assert_eq!(server.patient(&limits, START), Ok(()));
    }
    assert!(server.patient(&limits, START - DAY / 2).is_err());
    assert_eq!(server.patient(&limits, START - 3 * DAY), Ok(()));
    server.crash();
    assert_eq!(server.patient(&limits, START - 3 * DAY), Ok(()));
    assert!(server.patient(&limits, START - 3 * DAY).is_err());
}

#[test]
fn a_row_that_somebody_has_deleted_or_set_back_does_not_add_to_a_lease() {
    let mut server = Server::new();
    let limits = limits(100);
    let mut admitted = 0;
    for step in 0..300 {
        admitted += usize::from(server.patient(&limits, START + step).is_ok());
        match step {
            5 => assert!(server.table.remove(&Which::Quota).unwrap().granted < 100),
            10 => server.table.get_mut(&Which::Quota).unwrap().granted = 1,
            _ => (),
        }
    }
    assert_eq!(admitted, 100);
}

#[derive(Clone, Debug)]
enum Step {
    Requests(u8),
    Wait(i64),
    /// A visit of the worker, in which the server may die after the lease is on disk, and before it is given. Whoever was
    /// about to give one dies with it.
    Visit {
        dies: bool,
    },
    /// A lease that is given late, after other things have happened.
    Write,
    Give,
    /// As where the server dies in a visit.
    Crash,
    Longer,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..40_u8).prop_map(Step::Requests),
        3 => prop_oneof![0..60 * SECOND, 0..2 * DAY].prop_map(Step::Wait),
        4 => any::<bool>().prop_map(|dies| Step::Visit { dies }),
        2 => Just(Step::Write),
        2 => Just(Step::Give),
        2 => Just(Step::Crash),
        1 => Just(Step::Longer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever dies, and whenever: in no window more than the limit.
    #[test]
    fn no_window_has_more_than_its_allowance(
        requests in 1..200_u32,
        longer in prop::bool::ANY,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut server = Server::new();
        let mut limits = limits(requests);
        let mut now = START;
        let mut late = Vec::new();
        let mut admitted = Vec::new();
        for step in steps {
            match step {
                Step::Requests(many) => for _ in 0..many {
                    if server.request(&limits, now).is_ok() {
                        admitted.push(now);
                    }
                },
                Step::Wait(micros) => now += micros,
                Step::Visit { dies } => {
                    let leases = server.write(now, false);
                    match dies {
                        true => {
                            server.crash();
                            late.clear();
                        }
                        false => server.give(leases, now),
                    }
                }
                Step::Write => late.push(server.write(now, true)),
                Step::Give => for leases in late.drain(..) {
                    server.give(leases, now);
                },
                Step::Crash => {
                    server.crash();
                    late.clear();
                }
                Step::Longer if longer => if let Some(limit) = &mut limits.quota {
                    limit.window += 3600 * SECOND;
                },
                Step::Longer => (),
            }
        }
        if !longer {
            let mut windows: HashMap<i64, u32> = HashMap::new();
            for time in &admitted {
                *windows.entry(time / DAY).or_default() += 1;
            }
            prop_assert!(windows.values().all(|&admitted| admitted <= requests), "{windows:?}");
        }
        // A time of one window may lie in two of them.
        for times in admitted.windows(2 * requests as usize + 1) {
            prop_assert!(times[2 * requests as usize] - times[0] >= DAY);
        }
    }

    /// What a crash loses is no more than twice what is used between two visits of the worker, or the least that is
    /// granted.
    #[test]
    fn a_crash_loses_what_was_granted_ahead(
        requests in 1..5_000_u32,
        rounds in prop::collection::vec((0..300_u32, prop::bool::weighted(0.2)), 1..30),
    ) {
        let mut server = Server::new();
        let limits = limits(requests);
        let mut used = 0;
        let mut most = 0;
        let mut crashes = 0;
        for (many, dies) in rounds {
            for _ in 0..many {
                used += u32::from(server.patient(&limits, START).is_ok());
            }
            most = most.max(many);
            match dies {
                true => server.crash(),
                false => server.visit(START),
            }
            crashes += u32::from(dies);
        }
        let granted = server.table.get(&Which::Quota).map_or(0, |stored| stored.granted);
        let least = (requests / 32).clamp(1, 32);
        prop_assert!(granted >= used);
        let lost = granted - used;
        prop_assert!(lost <= (crashes + 1) * (2 * most).max(least), "{lost} by {crashes} of {most}");
        server.crash();
        let left = (0..requests).filter(|_| server.patient(&limits, START).is_ok()).count();
        prop_assert_eq!(left as u32, requests - granted);
    }
}
