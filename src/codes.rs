//! Codes that are sent by e-mail: issue one with its token, and find whose they are.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::prelude::*;
use supabase_pat_core::error::Error;
use supabase_pat_core::jwt::Unverified;
use supabase_pat_core::key;
use supabase_pat_core::reset_code::{self, Address, Code, CodeToken, Holder, Purpose};
use supabase_pat_core::sealed;
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::outbox::{self, NewMessage};
use crate::pg::ring::{self, KeysInUse};
use crate::pg::{composite, events, settings, users};
use crate::random;

/// A code, and the token that goes with it.
pub struct Issued {
    id: Uuid,
    purpose: Purpose,
    address: Address,
    code: Code,
    pub token: String,
    /// `None` if the address is nobody's.
    pub holder: Option<Holder>,
    pub is_within_limit: bool,
    address_digest: [u8; 32],
    created_at: Instant,
    expires_at: Instant,
}

impl Issued {
    pub fn new(address: Address, purpose: Purpose, now: Instant) -> Result<Self, Error> {
        let key = ring::signing_key()?;
        let address_digest = reset_code::digest(&key, &address)?;
        outbox::sweep(now)?;
        let requests = outbox::count_requests(&address_digest, now)?;
        let holder = users::by_address(&address, now)?;

        let id = key::new_id(now.unix_millis(), &random::bytes()?);
        let code = draw()?;
        let created_at = now.floor_to_second();
        let expires_at = created_at.plus_seconds(settings::reset_lifetime());
        let nobody = Holder::nobody();
        let token = reset_code::issue(
            &key,
            purpose,
            id,
            &address,
            (&code, holder.as_ref().unwrap_or(&nobody)),
            (created_at.unix_seconds(), expires_at.unix_seconds()),
        )?;
        Ok(Self {
            id,
            purpose,
            address,
            code,
            token,
            holder,
            is_within_limit: requests < settings::reset_requests_per_hour(),
            address_digest,
            created_at: now,
            expires_at,
        })
    }

    /// Counts it, and puts it up for the mail worker if that is to send it.
    pub fn put_into_outbox(&self, is_to_be_sent: bool) -> Result<(), Error> {
        let key = ring::signing_key()?;
        let purpose = self.purpose;
        let text =
            zeroize::Zeroizing::new(format!("{} {}", self.code.expose(), self.address.as_str()));
        let sealed = match is_to_be_sent {
            true => Some(sealed::seal(&key, purpose, self.id, &text)?),
            false => None,
        };
        outbox::insert(&NewMessage {
            id: self.id,
            purpose,
            address_digest: &self.address_digest,
            signing_key: key.id(),
            sealed: sealed.as_deref(),
            is_deliverable: match (self.purpose, &self.holder) {
                (_, None) => false,
                (Purpose::Recovery, Some(_)) => true,
                // Whoever has confirmed an address is not asked to do so again.
                (Purpose::SignUp, Some(holder)) => !holder.is_confirmed,
            },
            created_at: self.created_at,
            expires_at: self.expires_at,
        })
    }

    pub fn into_row(
        self,
        call: pg_sys::FunctionCallInfo,
    ) -> Result<PgHeapTuple<'static, AllocatedByRust>, Error> {
        let expires_at: TimestampWithTimeZone = self.expires_at.to_timestamp()?;
        let fields = [
            self.token.into_datum(),
            self.code.expose().into_datum(),
            expires_at.into_datum(),
        ];
        composite::result_row(call, fields)
    }
}

fn draw() -> Result<Code, Error> {
    match settings::debug_reset_code().and_then(|code| Code::typed(&code)) {
        Some(code) => {
            pgrx::log!(
                "supabase_pat.debug_reset_code is set: every reset code is the same, and known"
            );
            Ok(code)
        }
        None => Code::draw(settings::reset_code_length(), random::bytes),
    }
}

/// Whom a token and its code belong to. `None` for whatever is not right about them; a code that is
/// wrong is counted first, and nobody else tries the same token in the meantime.
pub fn holder_of(
    token: Option<&str>,
    code: Option<&str>,
    purpose: Purpose,
) -> Result<Option<Holder>, Error> {
    let (Some(token), Some(code)) = (token, code.and_then(Code::typed)) else {
        return Ok(None);
    };
    let Ok(token) = Unverified::parse(token) else {
        return Ok(None);
    };
    let keys = KeysInUse::for_token(&token)?;
    let keys = keys.borrow();
    let Ok(key) = keys.named_by(&token) else {
        return Ok(None);
    };
    let Ok(token) = CodeToken::read(&token, key, purpose) else {
        return Ok(None);
    };

    let attempts = outbox::attempts(token.id);
    let max = settings::reset_max_attempts();
    // One more is written down, that it was tried at all.
    if attempts > max {
        return Ok(None);
    }
    let now = Instant::now();
    let expires_at = Instant::from_unix_seconds(token.expires_at);
    let holder = users::by_address(&token.address, now)?;
    let user = holder.as_ref().map(|holder| holder.user);
    let is_right = token.belongs_to(&code, holder.as_ref().unwrap_or(&Holder::nobody()), key);
    let reason = match holder {
        _ if attempts == max => "the attempts are used up",
        _ if expires_at <= now => "the code has expired",
        Some(holder) if is_right => return Ok(Some(holder)),
        Some(_) => "the code is wrong, or the account has changed since",
        None => "the address is nobody's",
    };
    outbox::count_attempt(token.id, expires_at, now)?;
    events::record("reset_code_refused", user, None, Some(reason))?;
    Ok(None)
}
