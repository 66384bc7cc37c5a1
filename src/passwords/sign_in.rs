//! Signing up and signing in with a password, for databases without Supabase Auth.

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;
use supabase_pat_core::account::{Address, Holder};
use supabase_pat_core::codes::Purpose;
use supabase_pat_core::error::Error;
use supabase_pat_core::json::Members;
use supabase_pat_core::password::{self, Password};
use supabase_pat_core::session::Method;
use uuid::Builder;

use crate::events::{self, About};
use crate::passwords::codes::{IssuedCode, holder_of};
use crate::passwords::throttle::{self, TryDigests};
use crate::pg::clock::Instant;
use crate::pg::composite::{self, Field};
use crate::pg::error::reported;
use crate::pg::json::JsonbText;
use crate::pg::random;
use crate::pg::rights;
use crate::pg::settings;
use crate::request::http::{self, Origin};
use crate::sessions::known_networks;
use crate::sessions::{self, IssuedSession};
use crate::signing_keys::ring;
use crate::users::sign_ups;
use crate::users::{self, MayLogIn, NewUser};

/// In bytes, for `raw_user_meta_data`, which every access token carries.
const MAX_METADATA: usize = 8 * 1024;

#[pg_extern(schema = "public", requires = ["schema"])]
fn sign_up(
    email: Option<&str>,
    password: Option<&str>,
    data: default!(Option<JsonbText>, "'{}'"),
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "public.signed_up"), ErrorReport> {
    reported(|| {
        if !settings::enable_sign_up() {
            return Err(Error::Disabled("signing up"));
        }
        rights::require_writable("signing up")?;
        let address = Address::new(email.ok_or(Error::NullArgument("email"))?)?;
        let password = password.ok_or(Error::NullArgument("password"))?;
        let password = Password::new(password, settings::min_password_length())?;
        let metadata = data.map_or("{}".to_owned(), |JsonbText(data)| data);
        if metadata.len() > MAX_METADATA || Members::parse(&metadata).is_none() {
            return Err(Error::UnfitMetadata { max: MAX_METADATA });
        }
        let new = NewSignUp {
            address,
            // The password is hashed also for an address that is taken, so that the time does not tell which ones are.
            hash: password.hash(random::bytes()?)?,
            metadata,
        };
        let (session, token) = match settings::confirm_sign_up() {
            true => (None, Some(new.ask_for_confirmation()?)),
            false => (Some(new.begin_session()?), None),
        };
        let token = Field::new(c"confirmation_token", token);
        composite::result_row(
            call,
            IssuedSession::fields(session).into_iter().chain([token]),
        )
    })
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn confirm_sign_up(
    token: Option<&str>,
    code: Option<&str>,
    call: pg_sys::FunctionCallInfo,
) -> Option<pgrx::composite_type!('static, "public.minted_session")> {
    let confirmed = reported(|| {
        rights::require_writable("confirming an address")?;
        // From here on, the key that the token is signed with is not revoked.
        ring::lock_to_sign();
        let Some(holder) = holder_of(token, code, Purpose::SignUp)? else {
            return refused();
        };
        let user = match locked(&holder)? {
            Ok(user) if is_pending(&user)? => user,
            _ => return refused(),
        };
        let now = Instant::now();
        if !users::confirm(user.id(), now)? {
            return refused();
        }
        let session = sessions::begin(&user, Method::Code, now)?;
        session.into_row(call).map(Some)
    });
    confirmed.unwrap_or_report()
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn sign_in(
    email: Option<&str>,
    password: Option<&str>,
    call: pg_sys::FunctionCallInfo,
) -> Option<pgrx::composite_type!('static, "public.minted_session")> {
    let signed_in = reported(|| {
        if !settings::enable_sign_in() {
            return Err(Error::Disabled("signing in"));
        }
        rights::require_writable("signing in")?;
        let Some((address, password)) = email.zip(password).and_then(|(email, password)| {
            Address::stored(email)
                .ok()
                .map(|address| (address, password))
        }) else {
            return refused();
        };
        let now = Instant::now();
        let from = Origin::of_request().address;
        let holder = users::by_address(&address, now)?;
        let user = holder.as_ref().map(|holder| holder.user);
        let is_known = known_networks::is_known_here(user, from, now)?;
        // The try is counted before the password is looked at, since that takes long enough to be cut short.
        let Some(attempt) = throttle::begin(TryDigests::of(&address, from)?, is_known)? else {
            http::answer_with("429")?;
            return Ok(None);
        };
        if let Some(user) = user
            && attempt.unrecorded > 0
        {
            let (detail, count) = ("the tries were cut short", attempt.unrecorded);
            events::record_counted("sign_in_refused", user, detail, count.into())?;
        }
        let reason = why_not(holder.as_ref(), password);
        // If the statement has been cancelled meanwhile, it ends here, whatever the password was.
        pgrx::check_for_interrupts!();
        let may_log_in = match (&holder, reason) {
            (Some(holder), None) => locked(holder)?,
            (_, reason) => Err(reason.unwrap_or_default()),
        };
        let may_log_in = match may_log_in {
            Ok(may_log_in) => may_log_in,
            Err(reason) => {
                attempt.was_wrong()?;
                if user.is_some() {
                    events::record("sign_in_refused", About::user(user), Some(reason))?;
                }
                return refused();
            }
        };
        attempt.was_right()?;
        events::record("signed_in", About::user(user), None)?;
        let session = sessions::begin(&may_log_in, Method::Password, Instant::now())?;
        session.into_row(call).map(Some)
    });
    signed_in.unwrap_or_report()
}

/// The answer to everything that is wrong: the caller is not told what it is.
fn refused<T>() -> Result<Option<T>, Error> {
    http::answer_with("401")?;
    Ok(None)
}

/// Why the holder of an address may not sign in with the password `text`, `None` if they may. It takes as long for an
/// address that is nobody's.
fn why_not(holder: Option<&Holder>, text: &str) -> Option<&'static str> {
    let hash = holder.and_then(|holder| holder.password_hash.as_deref());
    let is_right = password::is_behind(text, hash.unwrap_or(password::NOBODY));
    match (holder, hash) {
        (None, _) => Some("the address is nobody's"),
        (Some(_), None) => Some("the user has no password"),
        (Some(_), Some(hash)) if !password::is_verifiable(hash) => {
            Some("the password hash is of a kind that cannot be verified here, or takes too long")
        }
        (Some(_), Some(_)) if !is_right => Some("the password is wrong"),
        (Some(holder), Some(_)) if settings::confirm_sign_up() && !holder.is_confirmed => {
            Some("the address is not confirmed")
        }
        (Some(_), Some(_)) => None,
    }
}

/// Locks the holder of an address. The inner error is the reason why they may have no session now.
fn locked(holder: &Holder) -> Result<Result<MayLogIn, &'static str>, Error> {
    match users::lock(holder.user) {
        Ok(user) if user.has_hash(holder.password_hash.as_deref()) => Ok(Ok(user)),
        Ok(_) => Ok(Err("the password has been changed meanwhile")),
        Err(error) => sessions::reason_of(error).map(Err),
    }
}

/// Whether `sign_up` has made the user.
fn is_pending(user: &MayLogIn) -> Result<bool, Error> {
    // The tables of version 0.1.0 do not say it.
    Ok(!sign_ups::is_there() || sign_ups::find(user.id())?.is_some())
}

/// Somebody who signs up: the address, the hash of the password, and `raw_user_meta_data`, a JSON object.
struct NewSignUp {
    address: Address,
    hash: String,
    metadata: String,
}

impl NewSignUp {
    /// Adds the user, and returns the id. `None` if the address is taken.
    fn create_user(&self, is_confirmed: bool, now: Instant) -> Result<Option<uuid::Uuid>, Error> {
        let id = Builder::from_random_bytes(random::bytes()?).into_uuid();
        let role = settings::authenticated_role();
        let user = NewUser {
            id,
            address: &self.address,
            password_hash: &self.hash,
            role: &role,
            metadata: &self.metadata,
            is_confirmed,
        };
        Ok(users::create(&user, now)?.then_some(id))
    }

    fn begin_session(&self) -> Result<IssuedSession, Error> {
        let now = Instant::now();
        let user = self.create_user(true, now)?.ok_or(Error::AddressTaken)?;
        events::record("signed_up", About::user(user), None)?;
        sessions::begin(&users::lock(user)?, Method::Password, now)
    }

    /// Sends a code to the address, if nobody has it or only a user whom `sign_up` has made and who has not confirmed
    /// it. Returns the token that goes with the code. If no code is sent, the token looks the same.
    fn ask_for_confirmation(&self) -> Result<String, Error> {
        let now = Instant::now();
        let is_pending = match users::by_address(&self.address, now)? {
            Some(holder) => self.sign_up_again(&holder, now)?,
            None => match self.create_user(false, now)? {
                Some(user) => {
                    // The event is written first: an upgrade from 0.1.0 takes over what the events say, and writing one
                    // waits for an upgrade that is under way.
                    events::record("signed_up", About::user(user), None)?;
                    sign_ups::note(user, &self.hash)?;
                    true
                }
                // Somebody else has just signed up with the address. Without this, the code would confirm the password
                // that they have chosen.
                None => match users::by_address(&self.address, now)? {
                    Some(holder) => self.sign_up_again(&holder, now)?,
                    None => false,
                },
            },
        };
        let mut issued = IssuedCode::new(self.address.clone(), Purpose::SignUp, now)?;
        if !is_pending {
            issued.holder = None; // there is nothing for them to confirm
        }
        if issued.is_within_limit {
            issued.put_into_outbox()?;
        }
        Ok(issued.token)
    }

    /// Gives this password to a user whom `sign_up` has made and who has not shown since that the address is theirs.
    /// Otherwise somebody who signs up first with another person's address would have chosen the password that this
    /// person confirms. The token of the earlier sign-up is no longer valid after that.
    ///
    /// Returns false for every other user, whose password and metadata stay as they are.
    fn sign_up_again(&self, holder: &Holder, now: Instant) -> Result<bool, Error> {
        if holder.is_confirmed {
            return Ok(false);
        }
        let Some(hash) = users::lock_untouched(holder.user)? else {
            return Ok(false);
        };
        let pending = sign_ups::find(holder.user)?;
        if !pending.is_some_and(|pending| pending.has_hash(hash.as_deref())) {
            return Ok(false);
        }
        users::sign_up_again(holder.user, &self.hash, &self.metadata, now)?;
        sign_ups::note(holder.user, &self.hash)?;
        Ok(true)
    }
}
