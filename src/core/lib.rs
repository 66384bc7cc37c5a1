//! The logic, without Postgres: everything here is a function of its arguments, time and
//! randomness included, so that it runs under plain `cargo test`.

pub mod claims;
pub mod error;
pub mod jwt;
pub mod key;
pub mod scope;
pub mod secret;
