//! Usage by day: how many requests a token has made on a day, and how many of them were refused, as far as that has
//! not been written to the table yet. A day is one of UTC, and a request belongs to that on which it was counted.

/// Microseconds.
const DAY: i64 = 86_400_000_000;

/// The number of a day, from 1970-01-01 on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Day(i32);

impl Day {
    /// The day of a time in microseconds since 1970. There is one for each.
    pub fn at(micros: i64) -> Self {
        // 106,751,991 days at most.
        Self(micros.div_euclid(DAY) as i32)
    }

    /// The day so many days after 1970-01-01.
    pub fn numbered(number: i32) -> Self {
        Self(number)
    }

    /// Days since 1970-01-01.
    pub fn number(self) -> i32 {
        self.0
    }
}

/// Whether a request was let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Admitted,
    Refused,
}

/// What was counted on a day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Tally {
    pub day: Day,
    /// Those that were let through.
    pub requests: u32,
    pub refused: u32,
}

impl Tally {
    const NONE: Self = Self {
        day: Day(0),
        requests: 0,
        refused: 0,
    };

    /// Of a day on which nothing was counted.
    pub fn none_on(day: Day) -> Self {
        Self { day, ..Self::NONE }
    }

    fn is_empty(&self) -> bool {
        self.requests == 0 && self.refused == 0
    }
}

/// What a token has counted and nobody has written, of two days: that at midnight nothing is lost which is written a few
/// seconds later. Where nothing is written for longer, as on a standby, the earlier of them gives way to a third.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Daily([Tally; 2]);

impl Daily {
    pub const NONE: Self = Self([Tally::NONE; 2]);

    /// Counts a request. A count that is full stays so.
    pub fn count(&mut self, day: Day, outcome: Outcome) {
        let tallies = &mut self.0;
        let of_day = |tally: &Tally| !tally.is_empty() && tally.day == day;
        let place = (tallies.iter().position(of_day))
            .or_else(|| tallies.iter().position(Tally::is_empty))
            .unwrap_or(usize::from(tallies[1].day < tallies[0].day));
        let tally = &mut tallies[place];
        if !of_day(tally) {
            *tally = Tally::none_on(day);
        }
        let count = match outcome {
            Outcome::Admitted => &mut tally.requests,
            Outcome::Refused => &mut tally.refused,
        };
        *count = count.saturating_add(1);
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Tally::is_empty)
    }

    /// What was counted, the earlier day first.
    pub fn tallies(&self) -> impl Iterator<Item = Tally> {
        let [first, second] = self.0;
        let in_order = match first.day <= second.day {
            true => [first, second],
            false => [second, first],
        };
        in_order.into_iter().filter(|tally| !tally.is_empty())
    }

    /// Takes away what has been written. What was counted since then stays.
    pub fn subtract(&mut self, written: &Self) {
        for done in written.tallies() {
            let of_day = |tally: &&mut Tally| !tally.is_empty() && tally.day == done.day;
            if let Some(tally) = self.0.iter_mut().find(of_day) {
                tally.requests = tally.requests.saturating_sub(done.requests);
                tally.refused = tally.refused.saturating_sub(done.refused);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn day(number: i32) -> Day {
        Day(number)
    }

    fn tally(number: i32, requests: u32, refused: u32) -> Tally {
        Tally {
            day: day(number),
            requests,
            refused,
        }
    }

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        assert_eq!(Day::at(0).number(), 0);
        assert_eq!(Day::at(DAY - 1).number(), 0);
        assert_eq!(Day::at(DAY).number(), 1);
        assert_eq!(Day::at(-1).number(), -1);
        // 2026-11-29T12:00:00Z.
        assert_eq!(Day::at(1_795_953_600_000_000).number(), 20_786);
        for time in [i64::MIN, i64::MAX] {
            let day = i64::from(Day::at(time).number());
            assert_eq!(day, time.div_euclid(DAY));
        }
    }

    #[test]
    fn around_midnight_both_days_are_kept() {
        let mut daily = Daily::NONE;
        assert!(daily.is_empty());
        daily.count(day(7), Outcome::Admitted);
        daily.count(day(7), Outcome::Refused);
        daily.count(day(8), Outcome::Admitted);
        // It read the clock before midnight and came after.
        daily.count(day(7), Outcome::Admitted);
        let tallies: Vec<_> = daily.tallies().collect();
        assert_eq!(tallies, [tally(7, 2, 1), tally(8, 1, 0)]);
        daily.subtract(&daily.clone());
        assert!(daily.is_empty());
    }

    #[test]
    fn a_third_day_takes_the_place_of_the_earliest() {
        for days in [[7, 8, 9], [8, 7, 9]] {
            let mut daily = Daily::NONE;
            for number in days {
                daily.count(day(number), Outcome::Admitted);
            }
            let tallies: Vec<_> = daily.tallies().collect();
            assert_eq!(tallies, [tally(8, 1, 0), tally(9, 1, 0)]);
        }
    }

    #[test]
    fn what_was_written_is_taken_away_once_and_from_its_own_day() {
        let mut daily = Daily::NONE;
        daily.count(day(7), Outcome::Admitted);
        let written = daily;
        daily.count(day(7), Outcome::Admitted);
        daily.count(day(8), Outcome::Refused);
        daily.subtract(&written);
        let tallies: Vec<_> = daily.tallies().collect();
        assert_eq!(tallies, [tally(7, 1, 0), tally(8, 0, 1)]);
        // Twice is too few at worst, never a number below zero.
        daily.subtract(&written);
        daily.subtract(&written);
        let tallies: Vec<_> = daily.tallies().collect();
        assert_eq!(tallies, [tally(8, 0, 1)]);
    }

    #[test]
    fn a_full_count_does_not_begin_anew() {
        let mut daily = Daily([tally(7, u32::MAX, u32::MAX - 1), Tally::NONE]);
        daily.count(day(7), Outcome::Admitted);
        daily.count(day(7), Outcome::Refused);
        daily.count(day(7), Outcome::Refused);
        let tallies: Vec<_> = daily.tallies().collect();
        assert_eq!(tallies, [tally(7, u32::MAX, u32::MAX)]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Count(bool),
        Wait(i64),
        /// The writer reads what there is.
        Read,
        /// It has committed what it has read last.
        Commit,
        /// It could not write, and has read for nothing.
        Fail,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => any::<bool>().prop_map(Step::Count),
            2 => (0..DAY / 3).prop_map(Step::Wait),
            2 => Just(Step::Read),
            2 => Just(Step::Commit),
            1 => Just(Step::Fail),
        ]
    }

    proptest! {
        /// However counting, reading, committing and failing follow each other, what was written and what waits is
        /// what was counted, day by day; and it is less only for days that a third one has pushed out.
        #[test]
        fn each_request_is_written_once_for_its_own_day(
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut now = 20_000 * DAY;
            let mut daily = Daily::NONE;
            let mut read = None;
            let mut counted: BTreeMap<Day, [u32; 2]> = BTreeMap::new();
            let mut written: BTreeMap<Day, [u32; 2]> = BTreeMap::new();
            let mut lost = std::collections::BTreeSet::new();
            for step in steps {
                match step {
                    Step::Count(is_admitted) => {
                        let today = Day::at(now);
                        let waiting: Vec<_> = daily.tallies().map(|tally| tally.day).collect();
                        if waiting.len() == 2 && !waiting.contains(&today) {
                            lost.insert(waiting[0]);
                        }
                        let outcome = if is_admitted { Outcome::Admitted } else { Outcome::Refused };
                        daily.count(today, outcome);
                        counted.entry(today).or_default()[usize::from(!is_admitted)] += 1;
                    }
                    Step::Wait(micros) => now += micros,
                    Step::Read => read = Some(daily),
                    Step::Commit => if let Some(read) = read.take() {
                        for tally in read.tallies() {
                            let of_day = written.entry(tally.day).or_default();
                            of_day[0] += tally.requests;
                            of_day[1] += tally.refused;
                        }
                        daily.subtract(&read);
                    },
                    Step::Fail => read = None,
                }
            }
            for (day, counts) in counted {
                let mut found = written.get(&day).copied().unwrap_or_default();
                for tally in daily.tallies().filter(|tally| tally.day == day) {
                    found[0] += tally.requests;
                    found[1] += tally.refused;
                }
                match lost.contains(&day) {
                    true => prop_assert!(found[0] <= counts[0] && found[1] <= counts[1]),
                    false => prop_assert_eq!(found, counts),
                }
            }
        }
    }
}
