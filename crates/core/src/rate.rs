//! Limits of tokens: so many requests in each window of time.

use crate::error::Error;

/// How many requests a token may make in a window. Windows follow each other without a gap, counted from
/// 1970, so that a window of one minute begins with the minute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    pub requests: u32,
    /// Microseconds, at least one.
    pub window: i64,
}

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
const MAX_DAYS: i64 = 31;

/// Microseconds. Whoever may write to the table can write a longer window there, `infinity` even; it counts as this one,
/// the longest that a lease can have.
pub const LONGEST_WINDOW: i64 = u32::MAX as i64 * SECOND;

impl Limit {
    /// A limit that somebody asks for. `window` is in microseconds; a part of a second counts as a whole one, so that
    /// nobody gets more than they have asked for.
    ///
    /// # Errors
    /// [`Error::LimitTooLow`], [`Error::WindowOutOfRange`].
    pub fn requested(which: Which, requests: i32, window: i64) -> Result<Self, Error> {
        let requests = u32::try_from(requests).unwrap_or_default();
        if requests == 0 {
            return Err(Error::LimitTooLow(which.argument()));
        }
        match (SECOND..=MAX_DAYS * DAY).contains(&window) {
            true => Ok(Self {
                requests,
                window: (window + SECOND - 1) / SECOND * SECOND,
            }),
            false => Err(Error::WindowOutOfRange {
                window: which.window(),
                max_days: MAX_DAYS,
            }),
        }
    }

    /// Whether a window is so long that its count must survive the server.
    pub fn is_durable(self) -> bool {
        self.window >= DAY
    }

    /// Whether nobody can make more requests by `other` than by this, in any time.
    pub fn includes(self, other: Self) -> bool {
        other.requests <= self.requests && other.window >= self.window
    }

    /// How long a window is, in seconds.
    pub fn seconds(self) -> i64 {
        self.window / SECOND
    }
}

/// Which of the two limits of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Which {
    Rate,
    Quota,
}

impl Which {
    pub const BOTH: [Self; 2] = [Self::Rate, Self::Quota];

    /// As the headers of answers and the table of leases name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Quota => "quota",
        }
    }

    /// The argument of `mint_pat` for how many requests.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Rate => "rate_limit",
            Self::Quota => "quota",
        }
    }

    /// The argument of `mint_pat` for how long a window is.
    pub fn window(self) -> &'static str {
        match self {
            Self::Rate => "rate_window",
            Self::Quota => "quota_window",
        }
    }

    /// The limit of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|which| which.name() == name)
    }
}

/// The limits of a token, each of which may refuse a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    pub rate: Option<Limit>,
    pub quota: Option<Limit>,
    /// Whether there is a table for leases ([`crate::lease`]), so that what is durable is counted with them.
    pub have_leases: bool,
}

impl Limits {
    pub const NONE: Self = Self {
        rate: None,
        quota: None,
        have_leases: false,
    };

    pub fn is_none(&self) -> bool {
        self.rate.is_none() && self.quota.is_none()
    }

    pub fn of(&self, which: Which) -> Option<Limit> {
        match which {
            Which::Rate => self.rate,
            Which::Quota => self.quota,
        }
    }

    /// The limits that there are.
    pub fn each(&self) -> impl Iterator<Item = (Which, Limit)> {
        let limits = *self;
        Which::BOTH
            .into_iter()
            .filter_map(move |which| Some((which, limits.of(which)?)))
    }

    /// Whether requests within that limit need a lease.
    pub fn is_leased(&self, limit: Limit) -> bool {
        self.have_leases && limit.is_durable()
    }

    /// Whether requests need leases.
    pub fn are_leased(&self) -> bool {
        self.each().any(|(_, limit)| self.is_leased(limit))
    }
}

/// What a token has used of its present window. It lies in shared memory.
///
/// It says when the window ends, and not when it began: so a window lasts as long as it did when it was begun, and whoever
/// gives a token a longer one does not end the present one by that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Counter {
    /// Microseconds since 1970.
    pub(crate) end: i64,
    pub(crate) used: u32,
    /// Up to how many requests of the window there is a lease: see [`crate::lease`].
    pub(crate) granted: u32,
}

impl Counter {
    pub const NEW: Self = Self {
        end: 0,
        used: 0,
        granted: 0,
    };

    /// Counts a request at the time `now`, microseconds since 1970.
    ///
    /// # Errors
    /// If the present window is used up: how many microseconds remain until the next one, at least one.
    pub fn admit(&mut self, limit: Limit, now: i64) -> Result<(), i64> {
        *self = self.at(limit, now);
        if self.used >= limit.requests {
            return Err((self.end - now).max(1));
        }
        self.used += 1;
        Ok(())
    }

    /// How many requests have been made in the present window, and when the next one begins, in microseconds since
    /// 1970.
    pub fn used(&self, limit: Limit, now: i64) -> (u32, i64) {
        let present = self.at(limit, now);
        (present.used, present.end)
    }

    /// Whether the counter can be forgotten at the time `now` without letting anybody make a request too many.
    pub fn is_over(&self, now: i64) -> bool {
        self.end <= now
    }

    /// The counter of the window that is the present one at the time `now`.
    pub(crate) fn at(self, limit: Limit, now: i64) -> Self {
        let start = now - now.rem_euclid(limit.window);
        // Two requests may arrive in another order than they read the clock. The earlier time then counts in the window
        // that has already begun. If the clock was set back by more than one window, counting starts anew.
        if now < self.end && self.end - start <= 2 * limit.window {
            return self;
        }
        // The end of a window of another length says where the next one may begin, so that none is cut short.
        let end = match self.end.rem_euclid(limit.window) {
            0 => start + limit.window,
            _ => now + limit.window,
        };
        Self { end, ..Self::NEW }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Limit = Limit {
        requests: 3,
        window: 60_000_000,
    };

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        let requested = |requests, window| Limit::requested(Which::Rate, requests, window);
        assert_eq!(requested(3, 60_000_000).unwrap(), MINUTE);
        assert_eq!(MINUTE.seconds(), 60);
        assert_eq!(requested(3, 59_000_001).unwrap(), MINUTE);
        for requests in [0, -1, i32::MIN] {
            assert!(requested(requests, 60_000_000).is_err());
        }
        for window in [0, -1, 999_999, 31 * DAY + 1, i64::MAX] {
            assert!(requested(1, window).is_err(), "{window}");
        }
        assert!(requested(1, SECOND).is_ok() && requested(1, 31 * DAY).is_ok());
        let error = Limit::requested(Which::Quota, 0, DAY).unwrap_err();
        assert_eq!(error.to_string(), "quota must be at least 1");
    }

    #[test]
    fn a_window_of_a_day_must_survive_the_server() {
        assert!(
            Limit {
                requests: 1,
                window: DAY
            }
            .is_durable()
        );
        assert!(
            !Limit {
                requests: 1,
                window: DAY - SECOND
            }
            .is_durable()
        );
    }

    #[test]
    fn each_window_has_its_allowance_and_no_more() {
        let mut counter = Counter::NEW;
        let start = 1_700_000_000 / 60 * 60_000_000;
        for window in 0..3 {
            let start = start + window * MINUTE.window;
            for request in 0..3 {
                assert_eq!(
                    counter.used(MINUTE, start),
                    (request as u32, start + MINUTE.window)
                );
                assert_eq!(counter.admit(MINUTE, start + request), Ok(()));
            }
            assert_eq!(
                counter.used(MINUTE, start + MINUTE.window).0,
                0,
                "a new window"
            );
            assert_eq!(counter.admit(MINUTE, start + 3), Err(MINUTE.window - 3));
            assert_eq!(counter.admit(MINUTE, start + MINUTE.window - 1), Err(1));
        }
    }

    #[test]
    fn a_request_that_read_the_clock_too_early_counts_in_the_window_that_has_begun() {
        let mut counter = Counter::NEW;
        let start = 60_000_000 * 1000;
        assert_eq!(counter.admit(MINUTE, start), Ok(()));
        assert_eq!(counter.admit(MINUTE, start - 1), Ok(()));
        assert_eq!(counter.admit(MINUTE, start), Ok(()));
        assert_eq!(counter.admit(MINUTE, start - 1), Err(MINUTE.window + 1));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_lock_a_key_out() {
        let mut counter = Counter::NEW;
        let hour = 3_600_000_000;
        for _ in 0..3 {
            assert!(counter.admit(MINUTE, 10 * hour).is_ok());
        }
        assert!(counter.admit(MINUTE, 10 * hour).is_err());
        assert!(counter.admit(MINUTE, 9 * hour).is_ok());
    }

    #[test]
    fn a_counter_may_be_forgotten_once_its_window_is_over() {
        let mut counter = Counter::NEW;
        assert!(counter.is_over(60_000_000));
        assert!(counter.admit(MINUTE, 60_000_000 * 1000).is_ok());
        assert!(!counter.is_over(60_000_000 * 1001 - 1));
        assert!(counter.is_over(60_000_000 * 1001));
    }

    #[test]
    fn another_window_does_not_begin_before_the_present_one_ends() {
        let mut counter = Counter::NEW;
        let now = 60_000_000 * 1000;
        let admitted = (0..200)
            .filter(|longer| {
                // Each would begin at this very moment, counted from 1970.
                let window = now / (1000 - longer);
                counter.admit(Limit { window, ..MINUTE }, now).is_ok()
            })
            .count();
        assert_eq!(admitted, 3);
    }

    proptest! {
        #[test]
        fn whoever_makes_windows_longer_gets_no_request_more(
            requests in 1..5_u32,
            window in 1..100_i64,
            steps in prop::collection::vec((0..60_i64, 0..50_i64), 1..300),
        ) {
            let mut limit = Limit { requests, window };
            let mut counter = Counter::NEW;
            let mut now = 1_000_000;
            let mut admitted = Vec::new();
            for (wait, longer) in steps {
                now += wait;
                limit.window += longer / 40 * longer;
                if counter.admit(limit, now).is_ok() {
                    admitted.push(now);
                }
            }
            // A time of one window may lie in two of them.
            for times in admitted.windows(2 * requests as usize + 1) {
                prop_assert!(times[2 * requests as usize] - times[0] >= window);
            }
        }

        #[test]
        fn in_order_no_window_gets_too_many_or_too_few(
            requests in 1..20_u32,
            window in 1..1_000_i64,
            mut times in prop::collection::vec(0..10_000_i64, 1..300),
        ) {
            times.sort_unstable();
            let limit = Limit { requests, window };
            let mut counter = Counter::NEW;
            let mut admitted = std::collections::HashMap::<i64, (u32, u32)>::new();
            for now in times {
                let window = admitted.entry(now / window).or_default();
                window.1 += 1;
                match counter.admit(limit, now) {
                    Ok(()) => window.0 += 1,
                    Err(wait) => prop_assert!((1..=limit.window).contains(&wait)),
                }
            }
            for (admitted, asked) in admitted.into_values() {
                prop_assert_eq!(admitted, asked.min(requests));
            }
        }
    }
}
