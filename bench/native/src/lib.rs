//! The jsonwebtoken crate called natively in a backend: what signing and verifying cost without
//! SQL around them. Installed by `make bench` only.

use std::hint::black_box;
use std::time::Instant;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use pgrx::prelude::*;
use serde_json::Value;

::pgrx::pg_module_magic!(name, version);

/// Microseconds a call.
fn timed<T>(calls: i32, mut f: impl FnMut() -> T) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(f());
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}

/// The key as jsonwebtoken takes it: the secret, PKCS#8 for EC and Ed25519, PKCS#1 for RSA.
fn encoding_key(algorithm: Algorithm, key: &[u8]) -> EncodingKey {
    match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_der(key),
        Algorithm::RS256 => EncodingKey::from_rsa_der(key),
        Algorithm::EdDSA => EncodingKey::from_ed_der(key),
        _ => EncodingKey::from_secret(key),
    }
}

/// The secret, the bare public key for EC and Ed25519, PKCS#1 for RSA.
fn decoding_key(algorithm: Algorithm, key: &[u8]) -> DecodingKey {
    match algorithm {
        Algorithm::ES256 => DecodingKey::from_ec_der(key),
        Algorithm::RS256 => DecodingKey::from_rsa_der(key),
        Algorithm::EdDSA => DecodingKey::from_ed_der(key),
        _ => DecodingKey::from_secret(key),
    }
}

/// From claims as JSON text, which is what SQL has, to a token.
#[pg_extern]
fn native_sign(claims: &str, key: &[u8], algorithm: &str, calls: i32) -> f64 {
    let algorithm: Algorithm = algorithm.parse().expect("an algorithm");
    let key = encoding_key(algorithm, key);
    timed(calls, || {
        let claims: Value = serde_json::from_str(claims).expect("claims");
        jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).expect("a token")
    })
}

/// From a token to claims as JSON text.
#[pg_extern]
fn native_verify(token: &str, key: &[u8], algorithm: &str, calls: i32) -> f64 {
    let algorithm: Algorithm = algorithm.parse().expect("an algorithm");
    let key = decoding_key(algorithm, key);
    timed(calls, || {
        let mut validation = Validation::new(algorithm);
        validation.validate_aud = false;
        let data = jsonwebtoken::decode::<Value>(token, &key, &validation);
        data.expect("a valid token").claims.to_string()
    })
}
