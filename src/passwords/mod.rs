//! Passwords, and the codes that are sent by mail: signing up, signing in, and setting a new password.

pub mod attempts;
mod codes;
pub mod mail;
mod outbox;
pub mod reset;
pub mod sign_in;
pub mod throttle;

use std::ffi::CStr;

use pgrx::extension_sql_file;

use crate::pg::relations;

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

/// Whether a table of the extension's has a column that 0.1.0 did not know.
fn has_column(table: &CStr, column: &CStr) -> bool {
    let table = relations::find_table(c"pat", table);
    table.is_some_and(|table| relations::find_column(table.oid, column, None).is_some())
}
