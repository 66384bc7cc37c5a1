//! Passwords and the codes that are sent by mail: signing up, signing in, and a password that was forgotten.

pub mod attempts;
mod codes;
pub mod mail;
mod outbox;
pub mod reset;
pub mod sign_in;
pub mod throttle;
