//! Refresh tokens. None is stored: a token is the id of its session, the number of its place in the
//! session, and a MAC over both under a key that is derived from a signing key. The session's row
//! knows which number is the live one.

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use uuid::Uuid;

use crate::error::Error;
use crate::signing_key::SigningKey;

/// Tells the form of the bytes, should there ever be another one.
const VERSION: u8 = 1;
const BODY: usize = 1 + 16 + 8;
const MAC: usize = 32;

/// A token that somebody has brought. Whether its MAC is right is another question.
pub struct RefreshToken {
    pub session: Uuid,
    /// Counts from 0.
    pub number: i64,
    bytes: [u8; BODY + MAC],
}

impl RefreshToken {
    /// `None` for a text that is not a token of this form.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        // Before it is copied.
        if text.len() > 2 * (BODY + MAC) {
            return None;
        }
        let bytes: [u8; BODY + MAC] = BASE64URL.decode(text).ok()?.try_into().ok()?;
        let session = Uuid::from_slice(bytes.get(1..17)?).ok()?;
        let number = i64::from_be_bytes(bytes.get(17..BODY)?.try_into().ok()?);
        (bytes[0] == VERSION && number >= 0).then_some(Self {
            session,
            number,
            bytes,
        })
    }

    /// Compares in constant time.
    pub fn is_signed_by(&self, key: &SigningKey) -> bool {
        let (body, mac) = self.bytes.split_at(BODY);
        mac_key(key).is_ok_and(|key| hmac::verify(&key, body, mac).is_ok())
    }
}

/// The token with a number of a session.
pub fn issue(key: &SigningKey, session: Uuid, number: i64) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(BODY + MAC);
    bytes.push(VERSION);
    bytes.extend_from_slice(session.as_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    let mac = hmac::sign(&mac_key(key)?, &bytes);
    bytes.extend_from_slice(mac.as_ref());
    Ok(BASE64URL.encode(bytes))
}

fn mac_key(key: &SigningKey) -> Result<hmac::Key, Error> {
    let secret = key.derive("refresh token")?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret[..]))
}

/// How far a session has come. Times are Unix microseconds.
pub struct Progress {
    /// The number of the live token.
    pub live: i64,
    /// When the live token took the place of its predecessor.
    pub refreshed_at: i64,
    /// When the token before the live one took the place of its own predecessor.
    pub previously_refreshed_at: i64,
}

/// What follows from bringing a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is the live one: the next number takes its place.
    Next,
    /// It was replaced a moment ago. Its holder may have lost the answer, or may have asked twice at once, and
    /// gets the live token again.
    LiveAgain,
    /// It was replaced longer ago, or others were replaced after it. Somebody has a copy.
    Reused,
}

/// A refresh token as somebody presents it.
#[derive(Clone, Copy)]
pub struct Presented {
    pub number: i64,
    /// Unix microseconds.
    pub at: i64,
}

impl Progress {
    /// `reuse_interval` is how long, in microseconds, a token that has been replaced may still be on its way. The token
    /// may be up to two behind the live one, as it is where several requests refresh at once.
    ///
    /// A number ahead of the live one comes from a refresh that was rolled back, or from before a restore. It counts as
    /// reused: else a thief could roll back refreshes to collect future tokens, and use them unnoticed beside the
    /// owner.
    ///
    /// The token that was replaced last gets no more time than the one before it. Otherwise two holders who take turns,
    /// each with the token that was live before the other's turn, could never be told from one who loses answers.
    pub fn outcome(&self, presented: Presented, reuse_interval: i64) -> Outcome {
        let is_on_its_way = |replaced_at: i64| presented.at - replaced_at <= reuse_interval;
        match self.live - presented.number {
            0 => Outcome::Next,
            1 if is_on_its_way(self.refreshed_at) => Outcome::LiveAgain,
            2 if is_on_its_way(self.previously_refreshed_at) => Outcome::LiveAgain,
            _ => Outcome::Reused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Algorithm;
    use crate::signing_key::KeyId;
    use proptest::prelude::*;

    fn key() -> SigningKey {
        SigningKey::generate(KeyId::new("k").unwrap(), Algorithm::EdDsa).unwrap()
    }

    const SESSION: Uuid = Uuid::from_u128(5);

    #[test]
    fn a_token_names_its_session_and_its_number() {
        let key = key();
        let text = issue(&key, SESSION, 7).unwrap();
        let token = RefreshToken::parse(&text).unwrap();
        assert_eq!((token.session, token.number), (SESSION, 7));
        assert!(token.is_signed_by(&key));
        assert!(!token.is_signed_by(&self::key()));
        assert_eq!(text.len(), 76);
        assert_ne!(text, issue(&key, SESSION, 8).unwrap());
    }

    #[test]
    fn a_token_that_was_changed_is_none() {
        let key = key();
        let bytes = BASE64URL.decode(issue(&key, SESSION, 7).unwrap()).unwrap();
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let token = RefreshToken::parse(&BASE64URL.encode(&changed));
            assert!(token.is_none_or(|token| !token.is_signed_by(&key)));
            assert!(RefreshToken::parse(&BASE64URL.encode(&bytes[..place])).is_none());
        }
    }

    #[test]
    fn a_replaced_token_is_forgiven_for_a_moment() {
        let progress = Progress {
            live: 10,
            refreshed_at: 920,
            previously_refreshed_at: 900,
        };
        let outcome = |number, at| progress.outcome(Presented { number, at }, 50);
        assert_eq!(outcome(10, 5_000), Outcome::Next);
        assert_eq!(outcome(11, 5_000), Outcome::Reused);
        assert_eq!(outcome(9, 970), Outcome::LiveAgain);
        assert_eq!(outcome(9, 971), Outcome::Reused);
        assert_eq!(outcome(8, 950), Outcome::LiveAgain);
        assert_eq!(outcome(8, 951), Outcome::Reused);
        assert_eq!(outcome(7, 901), Outcome::Reused);
        assert_eq!(outcome(0, 901), Outcome::Reused);
        // A clock that was set back ends no session.
        assert_eq!(outcome(9, 0), Outcome::LiveAgain);
    }

    /// The session's row, and the holders of its tokens, who each bring the last that they got.
    struct Model {
        progress: Option<Progress>,
        /// The number that each holds.
        held: Vec<i64>,
    }

    const INTERVAL: i64 = 60;

    impl Model {
        fn shared_by(holders: usize) -> Self {
            Self {
                progress: Some(Progress {
                    live: 0,
                    refreshed_at: 0,
                    previously_refreshed_at: 0,
                }),
                held: vec![0; holders],
            }
        }

        /// As `refresh` in src/sessions/mod.rs does it. `None` once the session has ended.
        fn refresh(&mut self, holder: usize, now: i64) -> Option<Outcome> {
            let progress = self.progress.as_mut()?;
            let presented = Presented {
                number: self.held[holder],
                at: now,
            };
            let outcome = progress.outcome(presented, INTERVAL);
            match outcome {
                Outcome::Next => {
                    progress.live = self.held[holder] + 1;
                    progress.previously_refreshed_at = progress.refreshed_at;
                    progress.refreshed_at = now;
                    self.held[holder] = progress.live;
                }
                Outcome::LiveAgain => self.held[holder] = progress.live,
                Outcome::Reused => self.progress = None,
            }
            Some(outcome)
        }
    }

    /// All orders in which two holders of one token refresh so many times, one of them more than the interval after
    /// the other each time.
    #[test]
    fn two_holders_are_found_out_at_the_second_use_after_the_interval() {
        const TURNS: u32 = 10;
        for order in 0..1_u32 << TURNS {
            let mut model = Model::shared_by(2);
            let mut previous = None;
            let mut has_changed = false;
            for turn in 0..TURNS {
                let holder = (order >> turn & 1) as usize;
                let now = i64::from(turn + 1) * (INTERVAL + 1);
                let outcome = model.refresh(holder, now);
                has_changed |= previous.is_some_and(|previous| previous != holder);
                previous = Some(holder);
                // Whoever comes first goes on alone; the first use by the other one ends it.
                match has_changed {
                    true => assert!(model.progress.is_none(), "{order:b} at {turn}"),
                    false => assert_eq!(outcome, Some(Outcome::Next)),
                }
            }
        }
    }

    proptest! {
        /// Whenever two holders come, as soon as one of them brings a token that was replaced longer ago than the interval,
        /// the session is over; and somebody who is alone, and repeats a request whose answer was lost within the interval, is
        /// never thrown out.
        #[test]
        fn holders_are_told_apart_in_any_order(
            steps in proptest::collection::vec((0..2_usize, 0..200_i64), 1..40),
        ) {
            let mut model = Model::shared_by(2);
            let mut replaced = vec![0_i64];
            let mut now = 0;
            for (holder, pause) in steps {
                now += pause;
                let number = model.held[holder] as usize;
                let is_old = replaced.get(number + 1).is_some_and(|&at| now - at > INTERVAL);
                match model.refresh(holder, now) {
                    None => break,
                    Some(Outcome::Next) => replaced.push(now),
                    Some(Outcome::LiveAgain) => prop_assert!(!is_old),
                    Some(Outcome::Reused) => prop_assert!(replaced.len() > number + 1),
                }
                prop_assert!(!is_old || model.progress.is_none());
            }
        }

        #[test]
        fn whoever_is_alone_may_lose_answers(
            steps in proptest::collection::vec((0..100_000_i64, 0..=INTERVAL, any::<bool>()), 1..40),
        ) {
            let mut model = Model::shared_by(1);
            let mut now = 0;
            for (pause, until_again, is_lost) in steps {
                now += pause;
                let before = model.held[0];
                prop_assert_eq!(model.refresh(0, now), Some(Outcome::Next));
                if is_lost {
                    model.held[0] = before;
                    now += until_again;
                    prop_assert_eq!(model.refresh(0, now), Some(Outcome::LiveAgain));
                }
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            let key = key();
            for text in [text, BASE64URL.encode(bytes)] {
                prop_assert!(RefreshToken::parse(&text).is_none_or(|token| !token.is_signed_by(&key)));
            }
        }

        #[test]
        fn every_number_survives(number in 0..i64::MAX, session in any::<u128>()) {
            let key = key();
            let session = Uuid::from_u128(session);
            let token = RefreshToken::parse(&issue(&key, session, number).unwrap()).unwrap();
            prop_assert_eq!((token.session, token.number), (session, number));
            prop_assert!(token.is_signed_by(&key));
        }
    }
}
