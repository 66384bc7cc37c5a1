//! Passwords that were forgotten: a code by e-mail, and with it a new one.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::codes::{Address, Purpose};
use supabase_pat_core::error::Error;
use supabase_pat_core::password::Password;

use crate::events;
use crate::passwords::codes::{self, IssuedCode, holder_of};
use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::random;
use crate::pg::rights;
use crate::pg::settings;
use crate::request::http::Origin;
use crate::sessions::known_networks;
use crate::sessions::store::Which;
use crate::signing_keys::ring;
use crate::tokens::store;
use crate::users;
use crate::users::sign_ups;
use crate::users::state::{UserState, state_of_user};

#[pg_extern(schema = "public", requires = ["schema"])]
fn request_password_reset(email: Option<&str>) -> SqlResult<String> {
    reported(|| {
        rights::require_writable("a password reset")?;
        let address = Address::stored(email.ok_or(Error::NullArgument("email"))?)?;
        let issued = IssuedCode::new(address, Purpose::Recovery, Instant::now())?;
        if issued.is_within_limit {
            // Whether the address is anybody's shows in nothing that is done here.
            issued.put_into_outbox()?;
        }
        Ok(issued.token)
    })
}

#[pg_extern(requires = ["schema"])]
fn issue_reset_code(
    email: Option<&str>,
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "pat.issued_reset_code"), ErrorReport> {
    reported(|| {
        rights::require_trusted("issue reset codes")?;
        rights::require_writable("a password reset")?;
        let address = Address::stored(email.ok_or(Error::NullArgument("email"))?)?;
        let issued = IssuedCode::for_backend(address, Purpose::Recovery, Instant::now())?;
        if issued.holder.is_none() {
            return Err(Error::UnknownAddress);
        }
        issued.into_row(call)
    })
}

/// How many digits a code has that is asked for now, for an address at which nobody has been guessing. Tokens say it
/// to everybody anyway.
#[pg_extern(volatile, requires = ["schema"])]
fn reset_code_digits() -> i32 {
    codes::usual_digits() as i32
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn verify_reset_code(token: Option<&str>, code: Option<&str>) -> SqlResult<bool> {
    reported(|| {
        rights::require_writable("verifying a code")?;
        Ok(holder_of(token, code, Purpose::Recovery)?.is_some())
    })
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn reset_password(
    token: Option<&str>,
    code: Option<&str>,
    new_password: Option<&str>,
) -> SqlResult<bool> {
    reported(|| {
        rights::require_writable("a password reset")?;
        let password = new_password.ok_or(Error::NullArgument("new_password"))?;
        let password = Password::new(password, settings::min_password_length())?;
        // No key that the token rests on is revoked from here on.
        ring::lock_to_sign();
        let Some(holder) = holder_of(token, code, Purpose::Recovery)? else {
            return Ok(false);
        };
        pgrx::check_for_interrupts!();
        if let Some(hash) = &holder.password_hash
            && password.is_behind(hash)
        {
            return Err(Error::PasswordUnchanged);
        }
        let hash = password.hash(random::bytes()?)?;
        pgrx::check_for_interrupts!();
        // Before the rows of the user and the sessions: whoever mints has this lock and waits for those.
        let to_revoke = store::lock_to_revoke(holder.user);
        let now = Instant::now();
        users::lock_row(holder.user)?;
        if state_of_user(holder.user)? != UserState::Active {
            return Ok(false); // deleted or banned in the meantime
        }
        if !users::set_password(&holder, &hash, now)? {
            return Ok(false); // somebody else was faster
        }
        crate::sessions::store::end(holder.user, Which::All)?;
        sign_ups::forget(holder.user)?;
        // The mailbox is theirs, so is the place that they come from.
        known_networks::forget(holder.user)?;
        known_networks::note(holder.user, Origin::of_request().address, now)?;
        users::forget_tokens(holder.user)?;
        if settings::reset_revokes_pats() {
            store::revoke_all(&to_revoke, now)?;
        }
        events::record("password_reset", Some(holder.user), None, None)?;
        Ok(true)
    })
}

/// For the statement that stores a password hash, and null at any other time. Whoever owns the table of users
/// calls it, and has the hash anyway.
#[pg_extern(requires = ["schema"])]
fn take_password_hash() -> Option<String> {
    users::take_password_hash().map(|hash| hash.to_string())
}
