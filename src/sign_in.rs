//! Signing up and signing in with a password, for databases without Supabase Auth.

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;
use supabase_pat_core::error::Error;
use supabase_pat_core::json::Members;
use supabase_pat_core::password::{self, Password};
use supabase_pat_core::reset_code::{Address, Holder, Purpose, digest_of};
use supabase_pat_core::session::Method;
use uuid::Builder;

use crate::codes::{Issued, holder_of};
use crate::pg::clock::Instant;
use crate::pg::error::reported;
use crate::pg::http::{self, Origin};
use crate::pg::json::JsonbText;
use crate::pg::throttle::{self, Keys};
use crate::pg::users::{self, NewUser};
use crate::pg::{caller, composite, events, ring, settings};
use crate::random;
use crate::session::{self, Fields};

/// For `raw_user_meta_data`, which travels in every access token.
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
        caller::require_writable("signing up")?;
        let address = Address::new(email.ok_or(Error::NullArgument("email"))?)?;
        let password = password.ok_or(Error::NullArgument("password"))?;
        let password = Password::new(password, settings::min_password_length())?;
        let metadata = data.map_or("{}".to_owned(), |JsonbText(data)| data);
        if metadata.len() > MAX_METADATA || Members::parse(&metadata).is_none() {
            return Err(Error::UnfitMetadata { max: MAX_METADATA });
        }
        let new = NewSignUp {
            address,
            // Also for an address that is taken, so that the time does not tell.
            hash: password.hash(random::bytes()?)?,
            metadata,
        };
        let (session, token) = match settings::confirm_sign_up() {
            true => ([const { None }; 6], Some(new.ask_for_confirmation()?)),
            false => (new.begin_session()?, None),
        };
        let fields = session.into_iter().chain([token.into_datum()]);
        composite::result_row(call, fields)
    })
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn confirm_sign_up(
    token: Option<&str>,
    code: Option<&str>,
    call: pg_sys::FunctionCallInfo,
) -> Option<pgrx::composite_type!('static, "public.minted_session")> {
    let confirmed = reported(|| {
        caller::require_writable("confirming an address")?;
        let now = Instant::now();
        match holder_of(token, code, Purpose::SignUp)? {
            Some(holder) if users::confirm(holder.user, now)? => {
                let session = session::begin(holder.user, Method::Code, now)?;
                composite::result_row(call, session).map(Some)
            }
            _ => {
                http::answer_with("401")?;
                Ok(None)
            }
        }
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
        caller::require_writable("signing in")?;
        let Some((address, password)) = email.zip(password).and_then(|(email, password)| {
            Address::new(email).ok().map(|address| (address, password))
        }) else {
            return refused();
        };
        let now = Instant::now();
        let keys = throttle_keys(&address)?;
        if throttle::is_paused(&keys, now)? {
            http::answer_with("429")?;
            return Ok(None);
        }
        let holder = users::by_address(&address, now)?;
        match refusal(holder.as_ref(), password) {
            None => (),
            Some(reason) => {
                throttle::count(&keys, now)?;
                if let Some(holder) = holder {
                    events::record("sign_in_refused", Some(holder.user), None, Some(reason))?;
                }
                return refused();
            }
        }
        let Some(holder) = holder else {
            return refused(); // there is no refusal without one
        };
        throttle::forget(&keys)?;
        events::record("signed_in", Some(holder.user), None, None)?;
        let session = session::begin(holder.user, Method::Password, now)?;
        composite::result_row(call, session).map(Some)
    });
    signed_in.unwrap_or_report()
}

/// Wrong, whatever it is: the caller is not told.
fn refused<T>() -> Result<Option<T>, Error> {
    http::answer_with("401")?;
    Ok(None)
}

/// Why somebody may not sign in. Takes as long for an address that is nobody's.
fn refusal(holder: Option<&Holder>, text: &str) -> Option<&'static str> {
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

fn throttle_keys(address: &Address) -> Result<Keys, Error> {
    let key = ring::signing_key()?;
    let account = address.as_str();
    let from = Origin::of_request().address.map(|ip| ip.to_string());
    Ok(Keys {
        account_from_address: match &from {
            Some(from) => Some(digest_of(&key, &["from", account, from])?),
            None => None,
        },
        address: match &from {
            Some(from) => Some(digest_of(&key, &["address", from])?),
            None => None,
        },
        account: digest_of(&key, &["account", account])?,
    })
}

struct NewSignUp {
    address: Address,
    hash: String,
    metadata: String,
}

impl NewSignUp {
    fn user(&self, is_confirmed: bool, now: Instant) -> Result<Option<uuid::Uuid>, Error> {
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

    fn begin_session(&self) -> Result<Fields, Error> {
        let now = Instant::now();
        let user = self.user(true, now)?.ok_or(Error::AddressTaken)?;
        events::record("signed_up", Some(user), None, None)?;
        session::begin(user, Method::Password, now)
    }

    /// Sends a code to the address, if it is not that of somebody who has confirmed it, and returns the
    /// token for it. The answer is the same.
    fn ask_for_confirmation(&self) -> Result<String, Error> {
        let now = Instant::now();
        match users::by_address(&self.address, now)? {
            None => {
                if let Some(user) = self.user(false, now)? {
                    events::record("signed_up", Some(user), None, None)?;
                }
            }
            // Whoever signed up first with somebody else's address must not have chosen the password
            // that its holder confirms. The token of the earlier sign-up dies by this.
            Some(holder) if !holder.is_confirmed => {
                users::sign_up_again(holder.user, &self.hash, &self.metadata, now)?;
            }
            Some(_) => (),
        }
        let issued = Issued::new(self.address.clone(), Purpose::SignUp, now)?;
        if issued.is_within_limit {
            issued.put_into_outbox(true)?;
        }
        Ok(issued.token)
    }
}
