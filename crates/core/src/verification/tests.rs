//! Tokens as others make them, and as nobody should.

use super::*;
use crate::algorithm::Algorithm;
use crate::error::Error;
use crate::jwt::{sign, sign_text};
use crate::key_ring::{KeyRing, RingKey};
use crate::payload::with_times;
use crate::secret::Secret;
use crate::signing_key::{KeyId, SigningKey};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use proptest::prelude::*;
use serde_json::{Value, json};

const SECRET: &str = "a-secret-of-more-than-32-bytes-for-the-tests";
const NOW: i64 = 1_800_000_000;

fn shared(secret: &str) -> SigningKey {
    let secret = Secret::from_text(secret.as_bytes(), Algorithm::Hs256, "the test").unwrap();
    SigningKey::shared(None, Algorithm::Hs256, secret).unwrap()
}

fn generated(id: &str, algorithm: Algorithm) -> SigningKey {
    SigningKey::generate(KeyId::new(id).unwrap(), algorithm).unwrap()
}

const CHECKS: Checks = Checks {
    audience: None,
    requires_expiry: true,
    now: NOW,
    issuer: "us",
    clock_skew: 30,
};

fn outcome(token: &str, key: &SigningKey, checks: &Checks) -> Result<Value, Rejection> {
    let ring = KeyRing::default();
    let keys = VerificationKeys {
        ring: &ring,
        configured: Some(key),
    };
    Verified::check(&Unverified::parse(token)?, &keys, checks)
        .map(|verified| serde_json::from_str(verified.payload()).unwrap())
}

fn check(token: &str, keys: &VerificationKeys) -> Result<Verified, Rejection> {
    Verified::check(&Unverified::parse(token)?, keys, &CHECKS)
}

fn of(claims: Value) -> Result<Value, Rejection> {
    let key = shared(SECRET);
    outcome(&sign(&claims, &key).unwrap(), &key, &CHECKS)
}

#[test]
fn what_is_signed_is_verified_with_every_algorithm() {
    for algorithm in Algorithm::ALL {
        let ring = |status: &str, key: &SigningKey| {
            KeyRing::new(vec![RingKey::from_stored("k", status, &key.private_jwk())])
        };
        let key = generated("k", algorithm);
        let token = sign(&json!({"sub": "x", "exp": NOW + 1}), &key).unwrap();
        let header = Unverified::parse(&token).unwrap().header().to_owned();
        assert_eq!(
            header,
            format!(r#"{{"alg":"{algorithm}","kid":"k","typ":"JWT"}}"#)
        );
        let outcome = |status, key: &SigningKey| {
            let ring = ring(status, key);
            let keys = VerificationKeys {
                ring: &ring,
                configured: None,
            };
            check(&token, &keys).map(Verified::into_payload)
        };
        for status in ["standby", "current", "previous"] {
            assert_eq!(
                outcome(status, &key).unwrap(),
                format!(r#"{{"exp":{},"sub":"x"}}"#, NOW + 1)
            );
        }
        assert_eq!(outcome("revoked", &key), Err(Rejection::RevokedKey));
        let other = generated("k", algorithm);
        assert_eq!(outcome("current", &other), Err(Rejection::BadSignature));
        let other = generated(
            "k",
            match algorithm {
                Algorithm::Hs256 => Algorithm::Hs384,
                _ => Algorithm::Hs256,
            },
        );
        assert_eq!(outcome("current", &other), Err(Rejection::WrongAlgorithm));
    }
}

#[test]
fn every_hostile_token_is_seen_for_what_it_is() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/hostile.json")).unwrap();
    let key = shared(vectors["secret"].as_str().unwrap());
    let tokens = vectors["tokens"].as_array().unwrap();
    assert!(tokens.len() > 80);
    for vector in tokens {
        let token = match vector["token"].as_str() {
            Some(token) => token.to_owned(),
            None => {
                let part = |name: &str| BASE64URL.encode(vector[name].as_str().unwrap());
                let message = part("header") + "." + &part("payload");
                let signature = key.signature_of(message.as_bytes()).unwrap();
                message + "." + &BASE64URL.encode(signature)
            }
        };
        let status = match outcome(&token, &key, &CHECKS) {
            Ok(_) => "valid",
            Err(rejection) => rejection.status(),
        };
        assert_eq!(status, vector["status"], "{}", vector["name"]);
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    // The classic confusion: HS256 with the text of an RSA or EC key that everybody knows.
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let key = generated("k", algorithm);
        let ring = KeyRing::new(vec![RingKey::from_stored(
            "k",
            "current",
            &key.private_jwk(),
        )]);
        let keys = VerificationKeys {
            ring: &ring,
            configured: None,
        };
        let public = key.public_jwk().unwrap();
        let mut guesses = vec![public.to_string().into_bytes()];
        for name in ["n", "x"] {
            if let Some(text) = public[name].as_str() {
                guesses.push(BASE64URL.decode(text).unwrap());
            }
        }
        for guess in guesses {
            for id in [Some(KeyId::new("k").unwrap()), None] {
                let secret = Secret::of_any_length(&guess);
                let forger = SigningKey::shared(id, Algorithm::Hs256, secret).unwrap();
                let token = sign(&json!({"exp": NOW + 1}), &forger).unwrap();
                assert!(check(&token, &keys).is_err());
            }
        }
    }
}

#[test]
fn a_token_expires_to_the_second() {
    assert_eq!(of(json!({"exp": NOW})), Err(Rejection::Expired));
    assert!(of(json!({"exp": NOW + 1})).is_ok());
    assert_eq!(
        of(json!({"exp": NOW as f64 + 0.9})),
        Err(Rejection::Expired)
    );
    assert!(of(json!({"nbf": NOW, "exp": NOW + 1})).is_ok());
    assert_eq!(
        of(json!({"nbf": NOW + 1, "exp": NOW + 2})),
        Err(Rejection::NotYetValid)
    );
    assert_eq!(
        of(json!({"nbf": NOW as f64 + 0.1, "exp": NOW + 2})),
        Err(Rejection::NotYetValid)
    );
}

#[test]
fn the_clocks_of_other_issuers_may_differ() {
    assert_eq!(
        of(json!({"iss": "us", "exp": NOW})),
        Err(Rejection::Expired)
    );
    assert!(of(json!({"iss": "them", "exp": NOW - 29})).is_ok());
    assert_eq!(
        of(json!({"iss": "them", "exp": NOW - 30})),
        Err(Rejection::Expired)
    );
    assert!(of(json!({"iss": "them", "nbf": NOW + 30, "exp": NOW + 60})).is_ok());
    assert_eq!(
        of(json!({"iss": "them", "nbf": NOW + 31, "exp": NOW + 60})),
        Err(Rejection::NotYetValid)
    );
}

#[test]
fn an_expiry_is_needed_unless_the_caller_says_otherwise() {
    assert_eq!(of(json!({})), Err(Rejection::NoExpiry));
    let key = shared(SECRET);
    let lenient = Checks {
        requires_expiry: false,
        ..CHECKS
    };
    let token = sign(&json!({}), &key).unwrap();
    assert!(outcome(&token, &key, &lenient).is_ok());
    let token = sign(&json!({"exp": NOW}), &key).unwrap();
    assert_eq!(outcome(&token, &key, &lenient), Err(Rejection::Expired));
}

#[test]
fn an_audience_is_checked_only_if_asked_for() {
    let key = shared(SECRET);
    let check = |aud: Value, audience| {
        let token = sign(&json!({"exp": NOW + 1, "aud": aud}), &key).unwrap();
        outcome(&token, &key, &Checks { audience, ..CHECKS }).is_ok()
    };
    for aud in [json!("authenticated"), json!(["a", "authenticated"])] {
        assert!(check(aud.clone(), Some("authenticated")));
        assert!(check(aud.clone(), None));
        assert!(!check(aud, Some("other")));
    }
    for aud in [json!(null), json!({"authenticated": 1}), json!(["a", 1])] {
        assert!(!check(aud, Some("authenticated")));
    }
}

#[test]
fn a_token_without_the_name_of_its_key_is_tried_with_those_of_its_algorithm() {
    let stored =
        |id, status, key: &SigningKey| RingKey::from_stored(id, status, &key.private_jwk());
    let (a, b) = (
        generated("a", Algorithm::Es256),
        generated("b", Algorithm::Es256),
    );
    let configured = shared(SECRET);
    let nameless = |key: &SigningKey| {
        let message = format!(
            "{}.{}",
            BASE64URL.encode(format!(r#"{{"alg":"{}"}}"#, key.algorithm())),
            BASE64URL.encode(format!(r#"{{"exp":{}}}"#, NOW + 1))
        );
        let signature = BASE64URL.encode(key.signature_of(message.as_bytes()).unwrap());
        format!("{message}.{signature}")
    };
    let ring = KeyRing::new(vec![
        stored("a", "previous", &a),
        stored("b", "revoked", &b),
    ]);
    let keys = VerificationKeys {
        ring: &ring,
        configured: Some(&configured),
    };
    let outcome = |token: &str| check(token, &keys).map(|_| ());
    assert_eq!(outcome(&nameless(&a)), Ok(()));
    assert_eq!(outcome(&nameless(&b)), Err(Rejection::RevokedKey));
    assert_eq!(outcome(&nameless(&configured)), Ok(()));
    assert_eq!(
        outcome(&nameless(&shared("another-secret-of-more-than-32-bytes"))),
        Err(Rejection::BadSignature)
    );
    assert_eq!(
        outcome(&nameless(&generated("c", Algorithm::EdDsa))),
        Err(Rejection::UnknownKey)
    );
    assert_eq!(
        outcome(&sign(&json!({"exp": NOW + 1}), &generated("c", Algorithm::Es256)).unwrap()),
        Err(Rejection::UnknownKey)
    );
}

#[test]
fn a_configured_secret_that_was_revoked_in_the_ring_is_dead() {
    let configured = shared(SECRET);
    let imported = SigningKey::shared(
        Some(KeyId::new("old").unwrap()),
        Algorithm::Hs256,
        Secret::from_text(SECRET.as_bytes(), Algorithm::Hs256, "the test").unwrap(),
    )
    .unwrap();
    let ring = KeyRing::new(vec![RingKey::from_stored(
        "old",
        "revoked",
        &imported.private_jwk(),
    )]);
    let keys = VerificationKeys {
        ring: &ring,
        configured: Some(&configured),
    };
    for key in [&configured, &imported] {
        let token = sign(&json!({"exp": NOW + 1}), key).unwrap();
        assert_eq!(check(&token, &keys).err(), Some(Rejection::RevokedKey));
    }
    assert_eq!(keys.verifier_jwks(), json!({"keys": []}));
}

#[test]
fn a_key_that_cannot_be_read_verifies_nothing() {
    let ring = KeyRing::new(vec![
        RingKey::from_stored("a", "current", "{}"),
        RingKey::from_stored(
            "b",
            "standby",
            &generated("other", Algorithm::Hs256).private_jwk(),
        ),
    ]);
    assert!(matches!(ring.current(), Err(Error::UnreadableKey(id)) if id == "a"));
    assert_eq!(ring.public_jwks(), json!({"keys": []}));
    let keys = VerificationKeys {
        ring: &ring,
        configured: None,
    };
    let token = sign(&json!({"exp": NOW + 1}), &generated("b", Algorithm::Hs256)).unwrap();
    assert_eq!(check(&token, &keys).err(), Some(Rejection::UnknownKey));
}

proptest! {
    #[test]
    fn any_parts_are_verified_without_panic(header in ".*", payload in ".*", algorithm in 0..6usize) {
        let key = shared(SECRET);
        let header = match algorithm {
            0..=2 => header,
            3 => r#"{"alg":"HS256"}"#.to_owned(),
            _ => format!(r#"{{"alg":"HS256","kid":{}}}"#, json!(header)),
        };
        let message = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload));
        let signature = BASE64URL.encode(key.signature_of(message.as_bytes()).unwrap());
        let _ = outcome(&format!("{message}.{signature}"), &key, &CHECKS);
    }

    #[test]
    fn any_claims_come_back_as_they_were_signed(
        claims in proptest::collection::btree_map("[^\\x00]{0,12}", "[^\\x00]*", 0..8)
    ) {
        let key = shared(SECRET);
        let mut claims = json!(claims);
        for name in ["exp", "nbf", "iat", "iss", "type", "aud"] {
            claims.as_object_mut().unwrap().remove(name);
        }
        let text = with_times(&claims.to_string(), NOW, Some(NOW + 1)).unwrap();
        claims["iat"] = NOW.into();
        claims["exp"] = (NOW + 1).into();
        let token = sign_text(&text, &key).unwrap();
        prop_assert_eq!(outcome(&token, &key, &CHECKS), Ok(claims));
    }

    #[test]
    fn a_token_with_any_character_changed_is_refused(place in 0..1000usize, to in "[A-Za-z0-9_.=-]") {
        let key = shared(SECRET);
        let token = sign(&json!({"sub": "x", "exp": NOW + 1}), &key).unwrap();
        let place = place % token.len();
        prop_assume!(token[place..=place] != to);
        let changed = format!("{}{to}{}", &token[..place], &token[place + 1..]);
        prop_assert!(outcome(&changed, &key, &CHECKS).is_err());
    }
}
