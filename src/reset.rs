//! Passwords that were forgotten: a code by e-mail, and with it a new one.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::error::Error;
use supabase_pat_core::password::Password;
use supabase_pat_core::reset_code::{Address, Purpose};

use crate::codes::{Issued, holder_of};
use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::sessions::{self, Which};
use crate::pg::{caller, events, settings, store, users};
use crate::random;

#[pg_extern(schema = "public", requires = ["schema"])]
fn request_password_reset(email: Option<&str>) -> SqlResult<String> {
    reported(|| {
        caller::require_writable("a password reset")?;
        let address = Address::new(email.ok_or(Error::NullArgument("email"))?)?;
        let issued = Issued::new(address, Purpose::Recovery, Instant::now())?;
        if issued.is_within_limit {
            // Whether the address is anybody's shows in nothing that is done here.
            issued.put_into_outbox(true)?;
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
        caller::require_trusted("issue reset codes")?;
        caller::require_writable("a password reset")?;
        let address = Address::new(email.ok_or(Error::NullArgument("email"))?)?;
        let issued = Issued::new(address, Purpose::Recovery, Instant::now())?;
        if issued.holder.is_none() {
            return Err(Error::UnknownAddress);
        }
        if !issued.is_within_limit {
            let max = settings::reset_requests_per_hour();
            return Err(Error::TooManyCodes { max });
        }
        issued.put_into_outbox(false)?;
        issued.into_row(call)
    })
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn verify_reset_code(token: Option<&str>, code: Option<&str>) -> SqlResult<bool> {
    reported(|| {
        caller::require_writable("verifying a code")?;
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
        caller::require_writable("a password reset")?;
        let password = new_password.ok_or(Error::NullArgument("new_password"))?;
        let password = Password::new(password, settings::min_password_length())?;
        let Some(holder) = holder_of(token, code, Purpose::Recovery)? else {
            return Ok(false);
        };
        if let Some(hash) = &holder.password_hash
            && password.is_behind(hash)
        {
            return Err(Error::PasswordUnchanged);
        }
        let now = Instant::now();
        let hash = password.hash(random::bytes()?)?;
        if !users::set_password(&holder, &hash, now)? {
            return Ok(false); // somebody else was faster
        }
        sessions::end(holder.user, Which::All)?;
        users::forget_tokens(holder.user)?;
        if settings::reset_revokes_pats() {
            store::lock_keys_of(holder.user);
            store::revoke_all(holder.user, now)?;
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
