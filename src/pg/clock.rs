//! Postgres's clock and calendar.
#![allow(unsafe_code)]

use pgrx::datum::{Date, Interval, TimestampWithTimeZone};
use pgrx::{IntoDatum, direct_function_call, pg_sys};
use supabase_pat_core::daily::Day;
use supabase_pat_core::error::Error;

use crate::pg::unguarded;

/// Microseconds between the Unix epoch and that of Postgres, 2000-01-01.
const EPOCH_DIFFERENCE: i64 = 946_684_800 * 1_000_000;

/// A point in time, in microseconds since 2000-01-01 UTC, as Postgres stores it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pg_sys::TimestampTz);

impl Instant {
    /// Postgres's `infinity`.
    pub const END: Self = Self(i64::MAX);

    /// The present time, which goes on within a transaction (`clock_timestamp()`).
    pub fn now() -> Self {
        // SAFETY: it only reads the system's clock, and raises no error.
        Self(unsafe { unguarded::GetCurrentTimestamp() })
    }

    /// From the value of a timestamptz.
    pub fn from_datum(datum: pg_sys::Datum) -> Self {
        Self(datum.value() as pg_sys::TimestampTz)
    }

    /// As the value of a timestamptz.
    pub fn datum(self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.0)
    }

    /// From pgrx's type for a timestamptz.
    pub fn from_timestamp(timestamp: TimestampWithTimeZone) -> Self {
        Self(timestamp.into_inner())
    }

    /// From seconds since 1970.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000) - EPOCH_DIFFERENCE)
    }

    /// From microseconds since 1970.
    pub fn from_unix_micros(micros: i64) -> Self {
        Self(micros.saturating_sub(EPOCH_DIFFERENCE))
    }

    /// Seconds since 1970, rounded down.
    pub fn unix_seconds(self) -> i64 {
        self.unix_micros().div_euclid(1_000_000)
    }

    /// Microseconds since 1970.
    pub fn unix_micros(self) -> i64 {
        self.0.saturating_add(EPOCH_DIFFERENCE)
    }

    /// Milliseconds since 1970, rounded down.
    pub fn unix_millis(self) -> u64 {
        self.unix_micros().div_euclid(1000) as u64
    }

    /// The start of the second. Times in a JWT have no fractions here, and the table is to say what the JWT says.
    pub fn floor_to_second(self) -> Self {
        Self(self.0 - self.0.rem_euclid(1_000_000))
    }

    /// This time and so many seconds more, at most the greatest value that there is.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// Whole seconds from `earlier` to this, rounded towards zero.
    pub fn seconds_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }

    /// Adds an interval as SQL does: a month is as long as that month of the calendar. Raises 22008 if the result is
    /// out of range.
    pub fn plus(self, interval: Interval) -> Self {
        let arguments = [self.0.into_datum(), interval.into_datum()];
        // SAFETY: the function takes a timestamptz and an interval, both not null, and returns a timestamptz or raises
        // an error, here under pgrx's guard.
        let sum: Option<i64> =
            unsafe { direct_function_call(pg_sys::timestamptz_pl_interval, &arguments) };
        Self(sum.unwrap_or(i64::MAX))
    }

    /// For Postgres.
    ///
    /// # Errors
    /// [`Error::Internal`] out of the range that Postgres has.
    pub fn to_timestamp(self) -> Result<TimestampWithTimeZone, Error> {
        TimestampWithTimeZone::try_from(self.0)
            .map_err(|_| Error::Internal("a timestamp is out of range".into()))
    }
}

/// Days from 1970-01-01 to 2000-01-01.
const EPOCH: i32 = 10_957;

/// The day that a date is. `None` for an infinite one.
pub fn day(date: Date) -> Option<Day> {
    match date.is_infinity() || date.is_neg_infinity() {
        true => None,
        false => date
            .to_pg_epoch_days()
            .checked_add(EPOCH)
            .map(Day::numbered),
    }
}

/// A day, for Postgres.
///
/// # Errors
/// [`Error::Internal`] out of the range that Postgres has.
pub fn date(day: Day) -> Result<Date, Error> {
    let out_of_range = || Error::Internal("a date is out of range".into());
    let days = day.number().checked_sub(EPOCH).ok_or_else(out_of_range)?;
    Date::try_from(days).map_err(|_| out_of_range())
}

/// An interval of so many seconds, as whole days and the rest, like the difference of two timestamps. `None` for more
/// days than an interval can have.
pub fn interval(seconds: i64) -> Option<Interval> {
    const DAY: i64 = 86_400;
    let days = i32::try_from(seconds / DAY).ok()?;
    Interval::new(0, days, seconds % DAY * 1_000_000).ok()
}

/// The length of a stored interval in microseconds. A month counts as 30 days.
pub fn micros(interval: &pg_sys::Interval) -> i64 {
    const DAY: i64 = 86_400_000_000;
    let days = i64::from(interval.month) * 30 + i64::from(interval.day);
    interval.time.saturating_add(days.saturating_mul(DAY))
}

/// Whether an interval is `infinity` or `-infinity`, which exist since Postgres 17.
pub fn is_infinite(interval: &Interval) -> bool {
    let parts = (interval.months(), interval.days(), interval.micros());
    parts == (i32::MAX, i32::MAX, i64::MAX) || parts == (i32::MIN, i32::MIN, i64::MIN)
}
