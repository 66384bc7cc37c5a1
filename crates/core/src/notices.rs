//! Notices: what users are told by mail of their tokens, and when it is too late to tell them.
//!
//! A user has an own notice for each of the first ten tokens of a kind and day (UTC), and one more for all that come
//! after them, at the end of the day. So a user, or whoever has got hold of one of their tokens, can neither flood a
//! mailbox nor fill the table.

use crate::json::Members;

/// What a notice tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// There is a new token.
    Minted,
    /// A token expires soon.
    Expiring,
    /// A token has been revoked.
    Revoked,
    /// A token was found where it should not be, and has been revoked.
    Leaked,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Minted, Self::Expiring, Self::Revoked, Self::Leaked];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minted => "minted",
            Self::Expiring => "expiring",
            Self::Revoked => "revoked",
            Self::Leaked => "leaked",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The events of which the notices of this kind tell. The notice that stands for several counts them.
    pub fn events(self) -> &'static [&'static str] {
        match self {
            Self::Minted => &["token_minted", "token_rotated"],
            Self::Expiring => &[],
            Self::Revoked => &["token_revoked", "token_deleted"],
            Self::Leaked => &["token_leaked"],
        }
    }

    /// For how many seconds after it is due a notice is still worth sending.
    fn is_news_for(self) -> i64 {
        match self {
            Self::Minted => DAY,
            Self::Revoked => 3 * DAY,
            Self::Expiring | Self::Leaked => 7 * DAY,
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Seconds.
pub const DAY: i64 = 86_400;

/// How many notices of a kind a user has on a day that tell of one token. There is one more, for all others.
pub const OWN_A_DAY: i32 = 10;

/// What room there is for one more notice of a kind, user and day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// It may tell of its token.
    Own,
    /// Only for the one that stands for all others.
    Last,
    None,
}

impl Room {
    /// The room that is left after so many notices.
    pub fn after(told: i32) -> Self {
        match told {
            ..OWN_A_DAY => Self::Own,
            OWN_A_DAY => Self::Last,
            _ => Self::None,
        }
    }
}

/// How long the row of a notice is kept: until nobody could send it, and it counts for no day.
pub const KEPT: i64 = 9 * DAY;

/// The kinds that are sent, as `supabase_pat.notices` lists them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kinds(u8);

impl Kinds {
    pub const NONE: Self = Self(0);

    /// A list with commas. `None` if there is something else in it.
    pub fn parse(list: &str) -> Option<Self> {
        let mut kinds = Self::NONE;
        if list.trim().is_empty() {
            return Some(kinds);
        }
        for name in list.split(',') {
            kinds.0 |= Kind::named(name.trim())?.bit();
        }
        Some(kinds)
    }

    pub fn has(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }
}

/// One of the times before a token expires at which its user is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Threshold {
    /// So many days before.
    pub days: i16,
    /// Whoever has not been told when so few days are left is told by the next threshold instead.
    pub until_days: i16,
}

pub const THRESHOLDS: [Threshold; 3] = [
    Threshold {
        days: 30,
        until_days: 7,
    },
    Threshold {
        days: 7,
        until_days: 1,
    },
    Threshold {
        days: 1,
        until_days: 0,
    },
];

impl Threshold {
    pub fn of_days(days: i16) -> Option<Self> {
        THRESHOLDS.into_iter().find(|it| it.days == days)
    }

    /// Which tokens are to be told of now: those that expire after the first time and not after the second one.
    /// `reached` is up to where this has been done before. All times are in microseconds.
    pub fn span(self, reached: Option<i64>, now: i64) -> (i64, i64) {
        let begin = now + i64::from(self.until_days) * DAY * 1_000_000;
        let end = now + i64::from(self.days) * DAY * 1_000_000;
        (reached.map_or(begin, |reached| reached.max(begin)), end)
    }

    /// Whether a mark can be right: else the clock was wrong when it was written, and nobody would be told until the
    /// time comes that it was set to. All times are in microseconds.
    pub fn is_credible(self, reached: i64, now: i64) -> bool {
        const MAX_WRONG: i64 = 30 * DAY * 1_000_000;
        let (_, end) = self.span(None, now);
        reached <= end.saturating_add(MAX_WRONG)
    }

    /// How many seconds a token must live from its creation on, for this to be in the second half of its life. Nobody wants
    /// to be told of a token that they have just minted.
    pub fn least_life(self) -> i64 {
        2 * i64::from(self.days) * DAY
    }
}

/// A token as it is when a notice that it expires is about to be sent. Times are in seconds.
#[derive(Clone, Copy)]
pub struct TokenNow {
    pub expires_at: i64,
    pub is_revoked: bool,
    pub is_disabled: bool,
    pub is_replaced: bool,
}

/// What decides whether a notice is still to be sent. Times are in seconds.
#[derive(Clone, Copy)]
pub struct Pending {
    pub kind: Kind,
    pub due_at: i64,
    /// For a notice that one token expires.
    pub expiry: Option<Expiry>,
}

#[derive(Clone, Copy)]
pub struct Expiry {
    pub threshold: Option<Threshold>,
    /// The end of the token when the notice was written.
    pub told: i64,
    /// `None` if the token has been deleted.
    pub token: Option<TokenNow>,
}

impl Pending {
    /// Why the notice is not to be sent any more, if it is not.
    pub fn lapse(&self, now: i64) -> Option<&'static str> {
        if now > self.due_at + self.kind.is_news_for() {
            return Some("it is too old");
        }
        self.expiry.and_then(|expiry| expiry.lapse(now))
    }
}

impl Expiry {
    fn lapse(&self, now: i64) -> Option<&'static str> {
        let Some(token) = self.token else {
            return Some("the token was deleted");
        };
        let nearer = self
            .threshold
            .map_or(0, |threshold| i64::from(threshold.until_days) * DAY);
        if token.is_revoked {
            Some("the token was revoked")
        } else if token.is_replaced {
            Some("the token was rotated")
        } else if token.is_disabled {
            Some("the token was disabled")
        } else if token.expires_at > self.told {
            Some("the token lives longer now")
        } else if token.expires_at <= now {
            Some("the token has expired")
        } else if token.expires_at - now <= nearer {
            Some("a later notice tells of it")
        } else {
            None
        }
    }
}

/// Bytes. No language has a tag that long.
const MAX_LANGUAGE: usize = 35;

/// The language that a user wants, from their metadata: `locale`, or else `language`. Users write these themselves, so
/// what is no tag of a language (BCP 47, or with an underscore) is none. In lower case, with hyphens.
pub fn language(user_metadata: &str) -> Option<String> {
    let members = Members::parse(user_metadata)?;
    let text = |name| members.text(name).ok().flatten();
    ["locale", "language"].into_iter().find_map(|name| {
        let tag = text(name)?.trim().replace('_', "-").to_ascii_lowercase();
        is_language_tag(&tag).then_some(tag)
    })
}

fn is_language_tag(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let is_of = |part: &str, min, max| {
        (min..=max).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let is_language =
        |part: &str| is_of(part, 2, 3) && part.bytes().all(|byte| byte.is_ascii_alphabetic());
    tag.len() <= MAX_LANGUAGE
        && parts.next().is_some_and(is_language)
        && parts.all(|part| is_of(part, 1, 8))
}

/// Characters that a mail shows of a text that somebody else has written.
const MAX_SHOWN: usize = 200;

/// A text of somebody else's as a mail may show it: one line that goes one way, cut. Names are checked when tokens are
/// minted, but who may write to the table can write anything.
pub fn shown(text: &str) -> String {
    // Those that Unicode calls Bidi_Control, and the two that end a line or a paragraph.
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = |c: char| match c.is_control() || turns(c) {
        true => ' ',
        false => c,
    };
    let mut shown: String = text.chars().take(MAX_SHOWN).map(plain).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('\u{2026}');
    }
    shown.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn the_setting_lists_kinds() {
        let kinds = Kinds::parse(" minted,leaked ").unwrap();
        for (kind, has) in [
            (Kind::Minted, true),
            (Kind::Expiring, false),
            (Kind::Revoked, false),
            (Kind::Leaked, true),
        ] {
            assert_eq!(kinds.has(kind), has, "{kind:?}");
        }
        assert_eq!(Kinds::parse(" "), Some(Kinds::NONE));
        for list in [
            ",",
            "minted,",
            "Minted",
            "minted leaked",
            "all",
            "minted;leaked",
        ] {
            assert_eq!(Kinds::parse(list), None, "{list}");
        }
    }

    #[test]
    fn there_is_room_for_ten_and_one_more() {
        let rooms: Vec<Room> = (0..13).map(Room::after).collect();
        assert!(rooms[..10].iter().all(|room| *room == Room::Own));
        assert_eq!(rooms[10..], [Room::Last, Room::None, Room::None]);
    }

    #[test]
    fn each_token_is_told_of_by_one_threshold_at_a_time() {
        // Nothing has been told before: what is past several thresholds is told of by the nearest alone.
        for days_left in 0..40 {
            let now = NOW * 1_000_000;
            let end = now + (days_left * DAY + DAY / 2) * 1_000_000;
            let telling = THRESHOLDS
                .into_iter()
                .filter(|it| {
                    let (after, until) = it.span(None, now);
                    end > after && end <= until
                })
                .count();
            assert_eq!(telling, usize::from(days_left < 30), "{days_left} days");
        }
    }

    #[test]
    fn each_threshold_tells_of_a_token_once_whenever_it_is_looked_at() {
        const DAY: i64 = super::DAY * 1_000_000;
        const NOW: i64 = super::tests::NOW * 1_000_000;
        for step in [DAY / 3, DAY, 5 * DAY, 20 * DAY] {
            let end = NOW + 99 * DAY + DAY / 2;
            let mut told = Vec::new();
            for it in THRESHOLDS {
                let mut reached = None;
                let mut now = NOW;
                while now < end + 40 * DAY {
                    let (after, until) = it.span(reached, now);
                    if end > after && end <= until {
                        told.push(it.days);
                    }
                    reached = Some(until.max(after));
                    now += step;
                }
            }
            let expected: &[i16] = match step {
                _ if step <= DAY => &[30, 7, 1],
                _ if step == 5 * DAY => &[30, 7],
                // It was looked at when 20 days were left, and then when the token had expired.
                _ => &[30],
            };
            assert_eq!(told, expected, "every {step} s");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_tells_of_nothing_twice() {
        let it = THRESHOLDS[2];
        let now = NOW * 1_000_000;
        let (_, reached) = it.span(None, now);
        let (after, until) = it.span(Some(reached), now - 10 * DAY * 1_000_000);
        assert!(after >= until);
        assert!(it.is_credible(reached, now - 10 * DAY * 1_000_000));
    }

    #[test]
    fn a_clock_that_was_years_ahead_is_forgotten() {
        let now = NOW * 1_000_000;
        for it in THRESHOLDS {
            let (_, reached) = it.span(None, now + 365 * DAY * 1_000_000);
            assert!(!it.is_credible(reached, now), "{}", it.days);
        }
    }

    fn expiring(
        threshold: i16,
        left: i64,
        change: impl FnOnce(&mut TokenNow),
    ) -> Option<&'static str> {
        let mut token = TokenNow {
            expires_at: NOW + left,
            is_revoked: false,
            is_disabled: false,
            is_replaced: false,
        };
        change(&mut token);
        let expiry = Expiry {
            threshold: Threshold::of_days(threshold),
            told: NOW + left,
            token: Some(token),
        };
        Pending {
            kind: Kind::Expiring,
            due_at: NOW,
            expiry: Some(expiry),
        }
        .lapse(NOW)
    }

    #[test]
    fn nothing_is_told_that_is_over() {
        assert_eq!(expiring(7, 7 * DAY, |_| ()), None);
        assert_eq!(expiring(7, 7 * DAY, |token| token.expires_at -= DAY), None);
        assert!(expiring(7, 7 * DAY, |token| token.is_revoked = true).is_some());
        assert!(expiring(7, 7 * DAY, |token| token.is_disabled = true).is_some());
        assert!(expiring(7, 7 * DAY, |token| token.is_replaced = true).is_some());
        assert!(expiring(7, 7 * DAY, |token| token.expires_at += DAY).is_some());
        assert!(expiring(1, 0, |_| ()).is_some());
        assert_eq!(expiring(1, 1, |_| ()), None);
        // The one for seven days is on its way, or has been sent.
        assert!(expiring(30, 7 * DAY, |_| ()).is_some());
        assert_eq!(expiring(30, 7 * DAY + 1, |_| ()), None);
        let deleted = Pending {
            kind: Kind::Expiring,
            due_at: NOW,
            expiry: Some(Expiry {
                threshold: None,
                told: NOW + DAY,
                token: None,
            }),
        };
        assert!(deleted.lapse(NOW).is_some());
    }

    #[test]
    fn news_grow_old() {
        for (kind, days) in [
            (Kind::Minted, 1),
            (Kind::Revoked, 3),
            (Kind::Expiring, 7),
            (Kind::Leaked, 7),
        ] {
            let pending = Pending {
                kind,
                due_at: NOW,
                expiry: None,
            };
            assert_eq!(pending.lapse(NOW + days * DAY), None, "{kind:?}");
            assert!(pending.lapse(NOW + days * DAY + 1).is_some(), "{kind:?}");
            assert!(kind.is_news_for() + DAY < KEPT, "{kind:?}");
            assert_eq!(Kind::named(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::named("recovery"), None);
    }

    #[test]
    fn a_language_is_a_tag_or_nothing() {
        for (metadata, expected) in [
            (r#"{"locale": "es"}"#, Some("es")),
            (r#"{"locale": "es_MX", "language": "de"}"#, Some("es-mx")),
            (r#"{"language": " zh-Hant-TW "}"#, Some("zh-hant-tw")),
            (
                r#"{"locale": "../../etc/passwd", "language": "de"}"#,
                Some("de"),
            ),
            (r#"{"locale": "e"}"#, None),
            (r#"{"locale": "es\nBcc: x"}"#, None),
            (r#"{"locale": "es-"}"#, None),
            (r#"{"locale": "\u202ees"}"#, None),
            (r#"{"locale": 7}"#, None),
            (r#"{"locale": null}"#, None),
            (r#"{}"#, None),
            ("[]", None),
            ("null", None),
        ] {
            assert_eq!(language(metadata).as_deref(), expected, "{metadata}");
        }
        let long = format!(r#"{{"locale": "es{}"}}"#, "-abcdefgh".repeat(4));
        assert_eq!(language(&long), None);
    }

    #[test]
    fn what_somebody_else_has_written_is_one_line_that_goes_one_way() {
        assert_eq!(shown(" a\r\nBcc: b\u{85}c\u{0} "), "a  Bcc: b c");
        assert_eq!(shown("a\u{202e}b\u{2028}c\u{2066}d\u{61c}e"), "a b c d e");
        assert_eq!(
            shown("\u{5d0}\u{5d1} \u{1f511}"),
            "\u{5d0}\u{5d1} \u{1f511}"
        );
        let long = shown(&"\u{1f511}".repeat(10_000));
        assert_eq!(long.chars().count(), MAX_SHOWN + 1);
        assert!(long.ends_with('\u{2026}'));
        assert_eq!(shown(&"x".repeat(MAX_SHOWN)).len(), MAX_SHOWN);
    }
}
