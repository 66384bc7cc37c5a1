//! Leases: how a limit whose window is a day or longer survives whatever ends the server.
//!
//! A table says how many requests of a window a token has been granted, and is on disk before any of them is made. The
//! counter in shared memory admits up to what is granted and no further; the worker grants more ahead of use. When the
//! memory is lost, all that was granted counts as used. So a window never has more requests than the limit, and whoever
//! holds a token loses at most what was granted ahead, about what is used between two visits of the worker.
//!
//! Only the worker begins a window of such a limit, since only the table knows whether one is running.

use crate::rate::{Counter, Limit, Limits, Which};

/// What a token has used of both its limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Counters {
    rate: Counter,
    quota: Counter,
}

/// Why a request is not admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocked {
    /// The window of that limit is used up. The next one begins after so many microseconds, at least one.
    UsedUp(Which, i64),
    /// There is no lease for one more request.
    NeedsLease,
}

impl Counters {
    pub const NEW: Self = Self {
        rate: Counter::NEW,
        quota: Counter::NEW,
    };

    pub fn of(&self, which: Which) -> &Counter {
        match which {
            Which::Rate => &self.rate,
            Which::Quota => &self.quota,
        }
    }

    pub fn of_mut(&mut self, which: Which) -> &mut Counter {
        match which {
            Which::Rate => &mut self.rate,
            Which::Quota => &mut self.quota,
        }
    }

    /// Counts a request at the time `now`, microseconds since 1970. One that either limit refuses uses up neither.
    ///
    /// # Errors
    /// The limit that is used up for longest, or else that a lease is missing.
    pub fn admit(&mut self, limits: &Limits, now: i64) -> Result<(), Blocked> {
        let mut next = *self;
        let mut blocked: Option<Blocked> = None;
        for (which, limit) in limits.each() {
            let counter = next.of_mut(which);
            let counted = match limits.is_leased(limit) {
                true => counter.admit_leased(limit, now),
                false => counter.admit(limit, now).map_err(Some),
            };
            blocked = match (counted, blocked) {
                (Ok(()), _) => blocked,
                (Err(Some(micros)), Some(Blocked::UsedUp(_, longer))) if longer >= micros => {
                    blocked
                }
                (Err(Some(micros)), _) => Some(Blocked::UsedUp(which, micros)),
                (Err(None), Some(Blocked::UsedUp(..))) => blocked,
                (Err(None), _) => Some(Blocked::NeedsLease),
            };
        }
        match blocked {
            Some(blocked) => Err(blocked),
            None => {
                *self = next;
                Ok(())
            }
        }
    }

    /// Whether they can be forgotten at the time `now` without letting anybody make a request too many.
    pub fn are_over(&self, now: i64) -> bool {
        self.rate.is_over(now) && self.quota.is_over(now)
    }
}

impl Counter {
    /// Whether its window is the present one.
    fn runs(self, limit: Limit, now: i64) -> bool {
        self.at(limit, now).end == self.end
    }

    /// As [`Counter::admit`], within what is granted. `None` if that is not enough.
    fn admit_leased(&mut self, limit: Limit, now: i64) -> Result<(), Option<i64>> {
        if !self.runs(limit, now) {
            return Err(None);
        }
        if self.used >= limit.requests {
            return Err(Some((self.end - now).max(1)));
        }
        if self.used >= self.granted {
            return Err(None);
        }
        self.used += 1;
        Ok(())
    }
}

/// What is kept beside a counter so that the worker knows what to grant: the limit as the last request had it, and how
/// much was used when the worker came last.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Demand {
    requests: u32,
    /// Zero if the limit needs no lease.
    seconds: u32,
    used_then: u32,
}

impl Demand {
    pub const NONE: Self = Self {
        requests: 0,
        seconds: 0,
        used_then: 0,
    };

    /// Notes the limit of a request.
    pub fn note(&mut self, limit: Option<Limit>) {
        match limit {
            Some(limit) => {
                self.requests = limit.requests;
                // A part of a second counts as a whole one.
                let seconds = limit.window.saturating_add(999_999) / 1_000_000;
                self.seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            }
            None => *self = Self::NONE,
        }
    }

    fn limit(&self) -> Option<Limit> {
        (self.seconds > 0).then_some(Limit {
            requests: self.requests,
            window: i64::from(self.seconds) * 1_000_000,
        })
    }

    /// What the worker is to grant for a counter at the time `now`, if there is anything. A window begins only if a
    /// request is waiting for it.
    pub fn wanted(&self, counter: &Counter, is_waiting: bool, now: i64) -> Option<Wanted> {
        let limit = self.limit()?;
        let ahead = match counter.runs(limit, now) {
            true => {
                let since = counter.used.saturating_sub(self.used_then);
                let left = counter.granted.saturating_sub(counter.used);
                let is_all = counter.granted.max(counter.used) >= limit.requests;
                if is_all || left > 0 && left >= since {
                    return None;
                }
                ahead(limit, since, left == 0)
            }
            false if is_waiting => ahead(limit, 0, false),
            false => return None,
        };
        Some(Wanted {
            counter: *counter,
            limit,
            ahead,
        })
    }

    /// Notes that the worker has come.
    pub fn settle(&mut self, counter: &Counter) {
        self.used_then = counter.used;
    }
}

/// How many requests to grant ahead, where so many were made since the worker came last: half as many again, or twice as
/// many if the last lease was too short; and at least a thirty-second of the limit, up to 32, so that nobody waits for each
/// request.
fn ahead(limit: Limit, since: u32, was_too_short: bool) -> u32 {
    let least = (limit.requests / 32).clamp(1, 32);
    let more = match was_too_short {
        true => since.saturating_mul(2),
        false => since.saturating_add(since / 2),
    };
    more.max(least)
}

/// A lease that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    counter: Counter,
    limit: Limit,
    ahead: u32,
}

/// A lease, as the table has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Microseconds since 1970.
    pub end: i64,
    pub granted: u32,
}

/// A lease that the table has come to have, and how much of it counts as used where the memory knows no better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    pub stored: Stored,
    limit: Limit,
    used: u32,
    /// The end of the window that the counter had when the lease was asked for.
    seen: i64,
}

impl Wanted {
    /// The lease to be written at the time `now` in the place of what the table has.
    pub fn lease(&self, stored: Option<Stored>, now: i64) -> Lease {
        let of_table = stored.map_or(Counter::NEW, |stored| Counter {
            end: stored.end,
            used: stored.granted,
            granted: stored.granted,
        });
        let limit = self.limit;
        let present = match (self.counter.runs(limit, now), of_table.runs(limit, now)) {
            // The memory knows what was used. If it does not know of all that was granted, it is the table that counts.
            (true, true) if self.counter.end == of_table.end => Counter {
                used: match self.counter.granted {
                    0 => self.counter.used.max(of_table.used),
                    _ => self.counter.used,
                },
                granted: self.counter.granted.max(of_table.granted),
                ..self.counter
            },
            // Nobody ends one of them by the other.
            (true, true) => Counter {
                end: self.counter.end.max(of_table.end),
                used: self.counter.used.max(of_table.used),
                granted: self.counter.granted.max(of_table.granted),
            },
            (true, false) => self.counter,
            (false, true) => of_table,
            (false, false) => Counter {
                end: self.counter.end.max(of_table.end),
                ..Counter::NEW
            }
            .at(limit, now),
        };
        let most = limit.requests.max(present.granted);
        Lease {
            limit,
            stored: Stored {
                end: present.end,
                granted: present
                    .used
                    .saturating_add(self.ahead)
                    .clamp(present.granted, most),
            },
            used: present.used,
            seen: self.counter.end,
        }
    }
}

impl Lease {
    /// Lets a counter admit what the table grants. It may have been given another lease meanwhile, or be a new one, which
    /// does not know what the old one had counted: then it asks again.
    pub fn give(&self, counter: &mut Counter, demand: &mut Demand, now: i64) {
        let Stored { end, granted } = self.stored;
        let runs = counter.runs(self.limit, now);
        if counter.end == end && counter.granted > 0 {
            counter.granted = counter.granted.max(granted);
        } else if counter.end == self.seen {
            *counter = Counter {
                end,
                used: self.used.max(if runs { counter.used } else { 0 }),
                granted,
            };
            // What was used before the memory was lost, or in another window, says nothing of what is used now.
            demand.settle(counter);
        }
    }
}

#[cfg(test)]
mod tests;
