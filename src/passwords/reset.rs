//! Forgotten passwords: a user gets a code by e-mail, and sets a new password with it.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::account::Address;
use supabase_pat_core::codes::Purpose;
use supabase_pat_core::error::Error;
use supabase_pat_core::password::Password;

use crate::events::{self, About};
use crate::passwords::codes::{self, IssuedCode, holder_of};
use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::random;
use crate::pg::rights;
use crate::pg::settings;
use crate::request::http::Origin;
use crate::sessions::store::Which;
use crate::sessions::{self, known_networks};
use crate::signing_keys::ring;
use crate::tokens;
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
            // Nothing that is done here shows whether the address is anybody's.
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

/// How many digits a code has that is asked for now, for an address at which nobody has been guessing. The token
/// of a code says it too, so it is no secret.
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
        // From here on, the key that the token is signed with is not revoked.
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
        // This lock comes before those of the rows of the user and the sessions, since a transaction that mints a token
        // takes it first, and then waits for these rows.
        let to_revoke = tokens::store::lock_to_revoke(holder.user);
        let now = Instant::now();
        users::lock_row(holder.user)?;
        if state_of_user(holder.user)? != UserState::Active {
            return Ok(false); // deleted or banned in the meantime
        }
        if !users::set_password(&holder, &hash, now)? {
            return Ok(false); // somebody else was faster
        }
        sessions::store::end(holder.user, Which::All)?;
        sign_ups::forget(holder.user)?;
        // The user has shown that the mailbox is theirs, so the network that they come from is known from now on.
        known_networks::forget(holder.user)?;
        known_networks::note(holder.user, Origin::of_request().address, now)?;
        users::forget_supabase_tokens(holder.user)?;
        if settings::reset_revokes_pats() {
            tokens::revocation::revoke_all(&to_revoke, now)?;
        }
        events::record("password_reset", About::user(holder.user), None)?;
        Ok(true)
    })
}

/// The password hash for the statement that stores it, null at any other time. The statement runs as the owner of the
/// table of users, who can read the hash there anyway.
#[pg_extern(requires = ["schema"])]
fn take_password_hash() -> Option<String> {
    users::take_password_hash().map(|hash| hash.to_string())
}
