//! What a summary of the usage of all tokens is about: of which days, by which count it is ordered, and how many rows
//! it has.

use crate::daily::Day;
use crate::error::Error;

/// Somewhat more than a year: as long as days are kept by default.
pub const MAX_DAYS: i32 = 400;
/// Whoever wants all rows has the view.
pub const MAX_ROWS: i32 = 1000;

/// 9999-12-31. Later days are not written with four digits for the year, which many programs want.
const LAST: i32 = 2_932_896;

/// Days that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Period {
    first: Day,
    last: Day,
}

impl Period {
    /// So many days, of which `last` is the last one. It is `None` for a day that is not counted as days from 1970 on.
    ///
    /// # Errors
    /// [`Error::DayOutOfRange`]; [`Error::OutOfRange`] for `days`.
    pub fn ending(last: Option<Day>, days: i32) -> Result<Self, Error> {
        let in_range = |day: &Day| (0..=LAST).contains(&day.number());
        let last = last.filter(in_range).ok_or(Error::DayOutOfRange)?;
        let days = up_to("days", days, MAX_DAYS)?;
        Ok(Self {
            first: Day::numbered(last.number() - (days - 1)),
            last,
        })
    }

    pub fn first(self) -> Day {
        self.first
    }

    pub fn last(self) -> Day {
        self.last
    }

    /// All of them, in order.
    pub fn days(self) -> impl Iterator<Item = Day> {
        (self.first.number()..=self.last.number()).map(Day::numbered)
    }
}

/// The count by which rows are ordered. Those that have none of it are left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Requests,
    Refused,
}

impl Order {
    /// # Errors
    /// [`Error::UnknownOrder`].
    pub fn named(name: &str) -> Result<Self, Error> {
        match name {
            "requests" => Ok(Self::Requests),
            "refused" => Ok(Self::Refused),
            _ => Err(Error::UnknownOrder),
        }
    }
}

/// # Errors
/// [`Error::OutOfRange`].
pub fn rows(max_rows: i32) -> Result<i32, Error> {
    up_to("max_rows", max_rows, MAX_ROWS)
}

fn up_to(argument: &'static str, value: i32, max: i32) -> Result<i32, Error> {
    match (1..=max).contains(&value) {
        true => Ok(value),
        false => Err(Error::OutOfRange { argument, max }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME_DAY: i32 = 20_786;

    fn ending(last: i32, days: i32) -> Result<Period, Error> {
        Period::ending(Some(Day::numbered(last)), days)
    }

    #[test]
    fn a_period_has_as_many_days_as_were_asked_for() {
        let period = ending(SOME_DAY, 3).unwrap();
        let days: Vec<i32> = period.days().map(Day::number).collect();
        assert_eq!(days, [SOME_DAY - 2, SOME_DAY - 1, SOME_DAY]);
        assert_eq!(
            (period.first().number(), period.last().number()),
            (SOME_DAY - 2, SOME_DAY)
        );
        assert_eq!(ending(SOME_DAY, 1).unwrap().days().count(), 1);
        assert_eq!(ending(SOME_DAY, MAX_DAYS).unwrap().days().count(), 400);
        // It may begin before the days that are counted.
        assert_eq!(ending(0, MAX_DAYS).unwrap().first().number(), -399);
    }

    #[test]
    fn a_period_that_is_too_long_or_has_no_day_is_refused() {
        for days in [i32::MIN, -1, 0, MAX_DAYS + 1, i32::MAX] {
            let error = ending(SOME_DAY, days).unwrap_err();
            assert_eq!(error.to_string(), "days must be from 1 to 400");
        }
        for max_rows in [i32::MIN, 0, MAX_ROWS + 1, i32::MAX] {
            let error = rows(max_rows).unwrap_err();
            assert_eq!(error.to_string(), "max_rows must be from 1 to 1000");
        }
        assert_eq!((rows(1).unwrap(), rows(MAX_ROWS).unwrap()), (1, MAX_ROWS));
    }

    #[test]
    fn a_day_that_no_calendar_needs_is_refused() {
        for last in [i32::MIN, -1, LAST + 1, i32::MAX] {
            assert!(matches!(ending(last, 400), Err(Error::DayOutOfRange)));
        }
        assert!(matches!(Period::ending(None, 1), Err(Error::DayOutOfRange)));
        assert!(ending(LAST, 400).is_ok());
    }

    #[test]
    fn rows_are_ordered_by_one_of_two_counts() {
        assert_eq!(Order::named("requests").unwrap(), Order::Requests);
        assert_eq!(Order::named("refused").unwrap(), Order::Refused);
        for name in ["", "Refused", "key_id; drop table pat.api_keys"] {
            let error = Order::named(name).unwrap_err();
            assert_eq!(error.to_string(), "order_by must be requests or refused");
        }
    }
}
