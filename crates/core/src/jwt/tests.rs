//! Tokens as others make them, and as nobody should.

use super::*;
use crate::key_ring::{KeyRing, RingKey};
use crate::secret::Secret;
use crate::signing_key::KeyId;
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
    let keys = Keys {
        ring: &ring,
        configured: Some(key),
    };
    Verified::check(&Unverified::parse(token)?, &keys, checks)
        .map(|verified| serde_json::from_str(verified.payload()).unwrap())
}

fn check(token: &str, keys: &Keys) -> Result<Verified, Rejection> {
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
            let keys = Keys {
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
fn the_examples_of_the_rfcs_come_out_as_printed() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("../../../../tests/vectors/rfc.json")).unwrap();
    assert_eq!(vectors.len(), 4);
    for vector in vectors {
        let key = SigningKey::from_jwk(&vector["jwk"].to_string(), || KeyId::new("k")).unwrap();
        let token = vector["token"].as_str().unwrap();
        let parsed = Unverified::parse(token).unwrap();
        assert!(parsed.is_signed_by(&key), "{}", vector["name"]);
        let (message, signature) = token.rsplit_once('.').unwrap();
        let ours = BASE64URL.encode(key.signature_of(message.as_bytes()).unwrap());
        assert_eq!(
            ours == signature,
            vector["deterministic"].as_bool().unwrap()
        );
        let changed = token.replacen('.', ".e", 1);
        assert!(!Unverified::parse(&changed).unwrap().is_signed_by(&key));
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
fn an_ecdsa_signature_in_der_is_refused() {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let key = generated("k", Algorithm::Es256);
    let jwk: Value = serde_json::from_str(&key.private_jwk()).unwrap();
    let bytes = |name: &str| BASE64URL.decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [vec![4], bytes("x"), bytes("y")].concat();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &bytes("d"),
        &point,
    )
    .unwrap();
    let token = sign(&json!({"exp": NOW + 1}), &key).unwrap();
    let message = token.rsplit_once('.').unwrap().0;
    let der = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    let token = format!("{message}.{}", BASE64URL.encode(der));
    assert!(!Unverified::parse(&token).unwrap().is_signed_by(&key));
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
        let keys = Keys {
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
    let keys = Keys {
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
    let keys = Keys {
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
    let keys = Keys {
        ring: &ring,
        configured: None,
    };
    let token = sign(&json!({"exp": NOW + 1}), &generated("b", Algorithm::Hs256)).unwrap();
    assert_eq!(check(&token, &keys).err(), Some(Rejection::UnknownKey));
}

#[test]
fn a_token_of_a_megabyte_is_refused_unread() {
    let long = format!("{}.{}.x", "e".repeat(500_000), "e".repeat(500_000));
    assert!(matches!(
        Unverified::parse(&long),
        Err(Rejection::Malformed(_))
    ));
    assert!(Unverified::parse(&".".repeat(100_000)).is_err());
}

#[test]
fn the_token_of_a_header_is_found() {
    for header in [
        "Bearer a.b.c",
        "bearer  a.b.c",
        " BEARER a.b.c ",
        "Bearer\ta.b.c",
        "bEARER \t a.b.c",
    ] {
        assert_eq!(bearer_token(header), Some("a.b.c"), "{header}");
    }
    for header in [
        "",
        "Bearer",
        "Bearer ",
        "Basic a.b.c",
        "Bearera.b.c",
        "a.b.c",
        "Bearer a b",
        "Bearer\ta\tb",
    ] {
        assert_eq!(bearer_token(header), None, "{header}");
    }
}

#[test]
fn an_api_key_has_the_claims_of_supabase() {
    let json = |project_ref| {
        let payload = ApiKeyPayload::new("anon", project_ref, (1, 2))?;
        Ok::<_, Error>(serde_json::to_string(&payload).unwrap())
    };
    assert_eq!(
        json(None).unwrap(),
        r#"{"iss":"supabase","role":"anon","iat":1,"exp":2}"#
    );
    assert_eq!(
        json(Some("abcdefghijklmnopqrst")).unwrap(),
        r#"{"iss":"supabase","ref":"abcdefghijklmnopqrst","role":"anon","iat":1,"exp":2}"#
    );
    for project_ref in ["", "a b", "a.b", "\u{e9}", &"a".repeat(64)] {
        assert!(matches!(json(Some(project_ref)), Err(Error::MalformedRef)));
    }
}

#[test]
fn times_are_added_where_there_are_none() {
    assert_eq!(
        with_times(r#"{"a": 1.50, "b\n\"": {"c": []}}"#, 5, Some(9)).unwrap(),
        r#"{"a":1.50,"b\n\"":{"c": []},"iat":5,"exp":9}"#
    );
    assert_eq!(
        with_times(r#"{"iat": 1, "exp": 2}"#, 5, None).unwrap(),
        r#"{"iat":1,"exp":2}"#
    );
    assert_eq!(
        with_times(r#"{"exp": 2}"#, 5, Some(9)).unwrap(),
        r#"{"iat":5,"exp":9}"#
    );
    assert_eq!(with_times("{}", 5, None).unwrap(), r#"{"iat":5}"#);
    for json in ["[1]", "null", "1", "\"a\"", "", "{"] {
        assert!(
            matches!(with_times(json, 5, None), Err(Error::ClaimsNotAnObject)),
            "{json}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_taken_apart_without_panic(text in ".*") {
        let _ = Unverified::parse(&text).map(|token| token.expires_at());
    }

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

#[test]
fn the_payload_of_a_token_that_is_refused_for_anything_else_is_found() {
    let token = |header: &str, payload: &str| {
        format!(
            "{}.{}.x",
            BASE64URL.encode(header),
            BASE64URL.encode(payload)
        )
    };
    for payload in [
        r#"{"exp":1e300}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"role":"x\u0000"}"#,
    ] {
        let token = token(r#"{"alg":"XX","alg":"YY","crit":[]}"#, payload);
        assert!(Unverified::parse(&token).is_err());
        assert_eq!(payload_of_any(&token).as_deref(), Some(payload));
    }
    for bad in [
        String::new(),
        "a.b.c".into(),
        token("{}", "[]"),
        token("[]", "{}"),
        token("{}", "{}") + ".y",
        token("{}", "{}").replace(".x", ""),
    ] {
        assert_eq!(payload_of_any(&bad), None, "{bad}");
    }
}
