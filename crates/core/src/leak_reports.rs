//! What a report of leaked tokens may say, and how many tokens strangers may report.
//!
//! A report needs no login: whoever has the whole token has shown that it is out. So each token that is reported is
//! worth some work, and what there may be of it is limited: for whoever reports, and for all strangers together. What is
//! used of it grows back evenly within an hour.

use aws_lc_rs::digest::{Context, SHA256};

use crate::error::Error;
use crate::guessing::{Cost, LookupKey, Used};

/// How many tokens a report may have.
pub const MAX_TOKENS: usize = 100;

/// Bytes. Servers refuse headers of that size, so that no token that works is as long.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Characters that are kept of where tokens were found.
const MAX_PLACE: usize = 200;

/// Where tokens were found, as the events have it. The owner of a token reads there what a stranger has written. So it is
/// one line of text that goes one way.
///
/// # Errors
/// [`Error::PlaceWithControlCharacters`].
pub fn place(found_at: &str) -> Result<Option<String>, Error> {
    // Those that Unicode calls Bidi_Control, and the two that end a line or a paragraph.
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if found_at.chars().any(|c| c.is_control() || turns(c)) {
        return Err(Error::PlaceWithControlCharacters);
    }
    let place: String = found_at.trim().chars().take(MAX_PLACE).collect();
    Ok(Some(place).filter(|place| !place.is_empty()))
}

/// Microseconds.
const HOUR: i64 = 3_600_000_000;

/// So many tokens may be reported at once, and as many more in an hour.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    tokens: i64,
}

/// For one user, and for one network of strangers.
pub const REPORTER: Budget = Budget { tokens: 300 };
/// For all strangers of a database together. Ten networks use it up, which is fewer than a set of places has: so nobody is
/// taken for another because places give way.
pub const STRANGERS: Budget = Budget { tokens: 3000 };

/// What is used of a budget.
pub type Spent = Used<HOUR>;

impl Budget {
    /// What so many tokens take of it.
    pub fn cost(self, tokens: usize) -> Cost {
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        Cost(tokens.saturating_mul(HOUR / self.tokens))
    }
}

/// What a reporter's budget is found by. `database` keeps those of several databases apart.
pub fn reporter_key(database: u32, kind: &str, reporter: &[u8]) -> LookupKey {
    let mut context = Context::new(&SHA256);
    context.update(&database.to_be_bytes());
    context.update(kind.as_bytes());
    context.update(&[0]);
    context.update(reporter);
    let mut key = [0; 16];
    key.copy_from_slice(&context.finish().as_ref()[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guessing::Amount;

    const NOW: i64 = 1_800_000_000_000_000;

    #[test]
    fn where_a_token_was_found_is_one_line_that_goes_one_way() {
        let of = |text: &str| place(text).unwrap();
        assert_eq!(
            of(" https://example.com/a?b#L1 "),
            Some("https://example.com/a?b#L1".into())
        );
        assert_eq!(of("  "), None);
        assert_eq!(of(&"\u{e9}".repeat(300)), Some("\u{e9}".repeat(200)));
        for bad in [
            "a\nb",
            "a\0",
            "\u{1b}[31m",
            "a\u{85}b",
            "a\u{202e}b",
            "a\u{61c}b",
            "a\u{2028}b",
            "a\u{2066}b",
        ] {
            assert!(
                matches!(place(bad), Err(Error::PlaceWithControlCharacters)),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_budget_is_used_up_and_grows_back_within_an_hour() {
        let mut spent = Spent::NONE;
        for _ in 0..3 {
            assert!(spent.has_room(REPORTER.cost(100), NOW));
            spent.raise(REPORTER.cost(100), NOW);
        }
        assert!(!spent.has_room(REPORTER.cost(1), NOW));
        assert!(spent.has_room(REPORTER.cost(0), NOW));
        assert!(spent.has_room(REPORTER.cost(1), NOW + HOUR / 300));
        assert!(!spent.has_room(REPORTER.cost(2), NOW + HOUR / 300));
        assert!(spent.has_room(REPORTER.cost(300), NOW + HOUR));
        assert!(!spent.has_room(REPORTER.cost(301), NOW + 10 * HOUR));
        // A clock that is set back takes nothing away for longer than an hour.
        assert!(!spent.has_room(REPORTER.cost(1), NOW - 100 * HOUR));
        let mut early = spent;
        early.raise(REPORTER.cost(0), NOW - 100 * HOUR);
        assert!(early.has_room(REPORTER.cost(300), NOW - 99 * HOUR));
    }

    #[test]
    fn reporters_are_told_apart() {
        let keys = [
            reporter_key(1, "user", b"a"),
            reporter_key(2, "user", b"a"),
            reporter_key(1, "network", b"a"),
            reporter_key(1, "user", b"b"),
        ];
        for (place, key) in keys.iter().enumerate() {
            assert!(!keys[..place].contains(key));
        }
    }
}
