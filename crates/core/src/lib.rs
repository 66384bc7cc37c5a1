//! The logic, without Postgres: everything here is a function of its arguments, time and randomness included, so that
//! it runs under plain `cargo test`. There are three exceptions, for which AWS-LC takes no randomness but its own: a
//! new signing key, a signature by ES256, and the nonce of a [sealed] message. No two modules import each other,
//! directly or through others.

pub mod account;
pub mod algorithm;
pub mod api_key;
pub mod attributes;
pub mod auth_functions;
pub mod claims;
pub mod codes;
pub mod daily;
pub mod denied;
pub mod error;
pub mod forwarded;
pub mod guessing;
pub mod headers;
pub mod introspection;
pub mod json;
pub mod json_schema;
pub mod jwt;
pub mod key_ring;
pub mod leak_reports;
pub mod lease;
pub mod live_claims;
pub mod merge_patch;
pub mod metrics;
pub mod notices;
pub mod opaque_token;
pub mod own_sql;
pub mod password;
pub mod payload;
pub mod pgjwt;
pub mod places;
pub mod presented;
pub mod rate;
pub mod rate_headers;
pub mod refresh_token;
pub mod refusal;
pub mod rejection;
pub mod restrictions;
pub mod route;
pub mod scope;
pub mod sealed;
pub mod secret;
pub mod service_account;
pub mod session;
pub mod signing_key;
pub mod throttle;
pub mod token;
pub mod usage_summary;
pub mod user_settings;
pub mod verification;
pub mod weakness;
