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

/// From claims as JSON text, which is what SQL has, to a token.
#[pg_extern]
fn native_sign(claims: &str, secret: &str, calls: i32) -> f64 {
    timed(calls, || {
        let claims: Value = serde_json::from_str(claims).unwrap_or_default();
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
    })
}

/// From a token to claims as JSON text.
#[pg_extern]
fn native_verify(token: &str, secret: &str, calls: i32) -> f64 {
    timed(calls, || {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_aud = false;
        let key = DecodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::decode::<Value>(token, &key, &validation).map(|data| data.claims.to_string())
    })
}
