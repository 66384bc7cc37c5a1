use serde_json::Value;
use supabase_pat_core::algorithm::Algorithm;
use supabase_pat_core::error::Error;
use supabase_pat_core::jwt::{self, Unverified};
use supabase_pat_core::key_ring::{KeyRing, RingKey, Status, VerificationKeys};
use supabase_pat_core::payload::{ApiKeyPayload, Lifetime};
use supabase_pat_core::secret::Secret;
use supabase_pat_core::signing_key::{KeyId, SigningKey};

use crate::input::{changed, fields, places, text};
use crate::json;
use crate::keys;

/// Keys as they are given, stored and published. Fields: a private JWK; a key id, which is also read as
/// an algorithm and a project ref; the text of a secret.
pub fn jwk(data: &[u8]) {
    let input = text(data);
    let [jwk, name, secret] = fields(&input);
    match SigningKey::from_jwk(jwk, || KeyId::new(name)) {
        Ok(key) => {
            is_what_the_jwk_says(&key, jwk, name);
            comes_back(&key);
            signs_for_itself(&key, data);
        }
        Err(error) => {
            let members = json::members(jwk).unwrap_or_default();
            for (_, value) in members {
                let value = serde_json::from_str::<String>(&value).unwrap_or(value);
                says_nothing_of(&value, &error);
            }
        }
    }
    names(name);
    for status in ["standby", "current", "previous", "revoked", secret] {
        stored(name, status, jwk);
    }
    shared_secrets(secret);
}

fn is_what_the_jwk_says(key: &SigningKey, jwk: &str, name: &str) {
    let members = json::unique_members(jwk).expect("an object that names nothing twice");
    let text = |name: &str| {
        let value = members.get(name).filter(|value| *value != "null")?;
        Some(serde_json::from_str::<String>(value).expect("it is a string"))
    };
    assert_eq!(key.id(), Some(text("kid").as_deref().unwrap_or(name)));
    assert!(text("alg").is_none_or(|alg| alg == key.algorithm().as_str()));
    assert!(text("use").is_none_or(|name| name == "sig"));
    let suits = match text("kty").as_deref() {
        Some("oct") => key.algorithm().min_secret_bytes().is_some(),
        Some("EC") => key.algorithm() == Algorithm::Es256,
        Some("OKP") => key.algorithm() == Algorithm::EdDsa,
        Some("RSA") => key.algorithm() == Algorithm::Rs256,
        _ => false,
    };
    assert!(suits && !members.contains_key("keys"));
}

fn comes_back(key: &SigningKey) {
    let private = key.private_jwk();
    let again = SigningKey::from_jwk(&private, || unreachable!("it has an id"));
    let again = again.expect("what is stored is read");
    assert_eq!(*again.private_jwk(), *private);
    assert_eq!(again.algorithm(), key.algorithm());
    let private: Value = serde_json::from_str(&private).expect("a JWK is JSON");
    let hidden = ["k", "d", "p", "q", "dp", "dq", "qi"];
    let public = key.public_jwk();
    assert_eq!(public.is_none(), key.secret().is_some());
    for published in public.iter().chain([&key.verifying_jwk()]) {
        for name in &hidden[1..] {
            assert!(published.get(name).is_none());
        }
        for (name, value) in published.as_object().expect("a JWK is an object") {
            assert!(name == "key_ops" || private[name] == *value);
        }
    }
    assert!(public.is_none_or(|public| public.get("k").is_none()));
    let uses = ["refresh token", "addresses", ""].map(|name| key.derive(name).expect("it derives"));
    assert!(uses[0] != uses[1] && uses[1] != uses[2]);
}

fn signs_for_itself(key: &SigningKey, data: &[u8]) {
    let token = jwt::sign_text(r#"{"sub":"x"}"#, key).expect("it signs");
    let ring = KeyRing::default();
    let verifies = |key: &SigningKey, token: &str| {
        let keys = VerificationKeys {
            ring: &ring,
            configured: Some(key),
        };
        Unverified::parse(token)
            .and_then(|token| keys.verify(&token))
            .is_ok()
    };
    assert!(verifies(key, &token));
    for place in places(data, token.len()) {
        assert!(!verifies(key, &changed(&token, place)));
    }
    let secret = |key: &SigningKey| {
        let jwk: Value = serde_json::from_str(&key.private_jwk()).expect("a JWK is JSON");
        [jwk["k"].clone(), jwk["d"].clone()]
    };
    for name in keys::NAMES {
        let other = keys::key(name);
        assert!(secret(&other) == secret(key) || !verifies(&other, &token));
    }
}

fn names(name: &str) {
    const LIFETIME: Lifetime = Lifetime {
        issued_at: 0,
        expires_at: 1,
    };
    let is_fit = (1..=200).contains(&name.len()) && name.chars().all(|c| ('!'..='~').contains(&c));
    assert_eq!(KeyId::new(name).is_ok(), is_fit);
    assert!(Algorithm::named(name).is_none_or(|algorithm| algorithm.as_str() == name));
    let is_label = (1..=63).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    assert_eq!(
        ApiKeyPayload::new("anon", Some(name), LIFETIME).is_ok(),
        is_label
    );
}

fn stored(id: &str, status: &str, jwk: &str) {
    let key = RingKey::from_stored(id, status, jwk);
    assert_eq!(key.id, id);
    assert!(key.key.as_ref().is_none_or(|key| key.id() == Some(id)));
    let (status, is_read) = (key.status, key.key.is_some());
    let ring = KeyRing::new(vec![key]);
    match ring.current() {
        Ok(current) => assert_eq!(current.is_some(), status == Status::Current),
        Err(error) => {
            assert!(!is_read && status == Status::Current);
            assert!(id.len() > 200 || error.to_string().len() < 300);
        }
    }
    assert_eq!(
        ring.find(id).is_some(),
        is_read && status != Status::Revoked
    );
}

fn shared_secrets(text: &str) {
    for algorithm in Algorithm::ALL {
        match Secret::from_text(text.as_bytes(), algorithm, "the test") {
            Ok(secret) => {
                let bytes = secret.expose();
                assert!(text.as_bytes().starts_with(bytes));
                assert!(bytes.len() >= algorithm.min_secret_bytes().unwrap_or(0));
                assert!(!bytes.ends_with(b"\n") && !bytes.starts_with(b"-----BEGIN "));
                assert_eq!(format!("{secret:?}"), "Secret");
                assert!(secret.equals(bytes) && !secret.equals(&[bytes, b"x"].concat()));
                let with_end = Secret::from_text(format!("{text}\r\n").as_bytes(), algorithm, "");
                assert_eq!(with_end.expect("line breaks do not count").expose(), bytes);
                if let Ok(key) = SigningKey::shared(None, algorithm, secret) {
                    assert!(key.id().is_none() && key.algorithm() == algorithm);
                } else {
                    assert_eq!(algorithm.min_secret_bytes(), None);
                }
            }
            Err(error) => says_nothing_of(text, &error),
        }
    }
}

fn says_nothing_of(secret: &str, error: &Error) {
    let words = format!("{error} {error:?} {}", error.hint().unwrap_or_default());
    // Shorter ones are words of the messages by chance.
    assert!(
        secret.chars().count() < 24 || is_our_own(secret) || !words.contains(secret),
        "{words}"
    );
}

/// Whether a text is a piece of our own messages.
fn is_our_own(text: &str) -> bool {
    text.contains(' ') || text.starts_with("pat.")
}
