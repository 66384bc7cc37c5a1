//! Refresh tokens. None is stored: a token is the id of its session, the number of its place in the
//! session, and a MAC over both under a key that is derived from a signing key. The session's row
//! knows which number is the live one.

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use uuid::Uuid;

use crate::error::Error;
use crate::signing_key::SigningKey;

/// The form of the bytes, should there ever be another.
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
    /// `None` for what is no token of this form.
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
    /// When the token before the live one took the place of its own predecessor.
    pub previously_refreshed_at: i64,
}

/// What follows from bringing a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is the live one: the next number takes its place.
    Next,
    /// It has been replaced, but by a token that was never brought, so that its holder may not have
    /// got the answer, or asked twice at once: they get the live token again.
    LiveAgain,
    /// It was replaced before its successor was. Somebody has a copy.
    Reused,
}

impl Progress {
    /// `reuse_interval` is how long, in microseconds, a token that is two behind may still be on its
    /// way, which happens where several requests refresh at once.
    pub fn outcome(&self, number: i64, now: i64, reuse_interval: i64) -> Outcome {
        match self.live - number {
            // Ahead of the row only after a restore, and the MAC says that it is ours.
            behind if behind <= 0 => Outcome::Next,
            1 => Outcome::LiveAgain,
            2 if now - self.previously_refreshed_at <= reuse_interval => Outcome::LiveAgain,
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
    fn a_replaced_token_is_forgiven_as_long_as_its_successor_was_not_used() {
        let progress = Progress {
            live: 10,
            previously_refreshed_at: 900,
        };
        assert_eq!(progress.outcome(10, 5_000, 50), Outcome::Next);
        assert_eq!(progress.outcome(11, 5_000, 50), Outcome::Next);
        assert_eq!(progress.outcome(9, 5_000, 50), Outcome::LiveAgain);
        assert_eq!(progress.outcome(8, 950, 50), Outcome::LiveAgain);
        assert_eq!(progress.outcome(8, 951, 50), Outcome::Reused);
        assert_eq!(progress.outcome(7, 901, 50), Outcome::Reused);
        assert_eq!(progress.outcome(0, 901, 50), Outcome::Reused);
    }

    proptest! {
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
