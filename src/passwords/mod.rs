//! Passwords and the codes that are sent by mail: signing up, signing in, and a password that was forgotten.

pub mod attempts;
mod codes;
pub mod mail;
mod outbox;
pub mod reset;
pub mod sign_in;
pub mod throttle;

use pgrx::extension_sql_file;

extension_sql_file!(
    "../../sql/passwords.sql",
    name = "passwords",
    requires = [
        reset::request_password_reset,
        reset::issue_reset_code,
        reset::reset_code_digits,
        reset::verify_reset_code,
        reset::reset_password,
        reset::take_password_hash,
        mail::claim_messages,
        mail::message_sent,
        mail::message_failed,
        sign_in::sign_up,
        sign_in::confirm_sign_up,
        sign_in::sign_in
    ]
);
