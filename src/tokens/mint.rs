//! How a token is made: what may be asked for, the text of the token, and its row.

use pgrx::datum::Interval;
use supabase_pat_core::error::Error;
use supabase_pat_core::jwt;
use supabase_pat_core::opaque_token::{OpaqueToken, Prefix};
use supabase_pat_core::payload::{Lifetime, PersonalAccessToken, TokenPayload};
use supabase_pat_core::rate::{Limit, Which};
use supabase_pat_core::restrictions::Restrictions;
use supabase_pat_core::scope::Scopes;
use supabase_pat_core::token::{self, Kind};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::lookup;
use super::store::{self, Details, Limits, Maker, NewToken, Provenance, ToGrant};
use crate::notices::By;
use crate::pg::clock::{self, Instant};
use crate::pg::random;
use crate::pg::settings;
use crate::request::caller::{self, Caller, Judged};
use crate::signing_keys::ring;

/// A token that is to be made.
pub struct Wanted<'a> {
    pub id: Uuid,
    pub name: &'a str,
    pub kind: Kind,
    pub scopes: &'a Scopes,
    pub restrictions: &'a Restrictions,
    pub limits: Limits,
    pub details: Details<'a>,
    pub created_at: Instant,
    /// On a full second.
    pub expires_at: Instant,
}

/// The text of a token, and what its row says to recognise it by.
struct Made {
    text: Zeroizing<String>,
    known_by: store::KnownBy,
}

impl Wanted<'_> {
    /// Makes the token, stores its row, and returns its text, which is stored nowhere.
    ///
    /// # Errors
    /// [`Error::TooManyTokens`], [`Error::RestrictedOpaque`], those of [`lookup::standing_of`] and
    /// [`caller::require_active`], and for a JWT those of [`ring::signing_key`].
    pub fn issue(
        &self,
        caller: &Caller,
        to_grant: &Judged<ToGrant>,
    ) -> Result<Zeroizing<String>, Error> {
        let user = to_grant.user();
        let (state, live) = lookup::standing_of(user)?;
        caller::require_active(user, state)?;
        let max = settings::max_keys_per_user();
        if live >= max {
            return Err(Error::TooManyTokens { user, max });
        }
        let Made { text, known_by } = match self.kind {
            Kind::Jwt => self.signed(user)?,
            Kind::Opaque => self.drawn()?,
        };
        store::insert(
            to_grant,
            &NewToken {
                id: self.id,
                name: self.name,
                scopes: self.scopes,
                hint: token::hint(&text),
                created_at: self.created_at,
                expires_at: self.expires_at,
                known_by,
                by: match (caller.is_trusted(), caller.token_id()) {
                    (true, _) => By::Operator,
                    (false, Some(token)) => By::Token(token),
                    (false, None) => By::User,
                },
                limits: self.limits,
                details: self.details,
                provenance: Provenance {
                    made_with: caller.token().map(|token| Maker {
                        id: token.id,
                        user: token.user,
                    }),
                    claims: self.restrictions.carried().to_json()?,
                },
            },
        )?;
        Ok(text)
    }

    /// A JWT.
    fn signed(&self, user: Uuid) -> Result<Made, Error> {
        let key = ring::signing_key()?;
        let (role, issuer) = (settings::authenticated_role(), settings::issuer());
        let payload = TokenPayload::new(&PersonalAccessToken {
            id: self.id,
            user,
            role: &role,
            issuer: &issuer,
            scopes: self.scopes,
            lifetime: Lifetime {
                issued_at: self.created_at.unix_seconds(),
                expires_at: self.expires_at.unix_seconds(),
            },
        })
        .restricted_as(self.restrictions);
        Ok(Made {
            text: Zeroizing::new(jwt::sign(&payload, &key)?),
            known_by: store::KnownBy::SigningKey(key.id().map(str::to_owned)),
        })
    }

    /// An opaque token, drawn at random.
    fn drawn(&self) -> Result<Made, Error> {
        // An opaque token has only the claims that the gate gives it, which say nothing of a restriction.
        if self.restrictions.kind().is_some() {
            return Err(Error::RestrictedOpaque);
        }
        let prefix = settings::token_prefix();
        let token = OpaqueToken::new(Prefix::of_setting(&prefix), &random::bytes()?)
            .ok_or_else(|| Error::Internal("the random bytes are none".into()))?;
        Ok(Made {
            text: Zeroizing::new(token.expose().to_owned()),
            known_by: store::KnownBy::Digest(token.digest()),
        })
    }
}

/// The scopes that a caller asks for. `None` stands for all.
///
/// # Errors
/// [`Error::NullArgument`], and those of [`Scopes::requested`].
pub fn requested_scopes(scopes: Option<&[Option<String>]>) -> Result<Scopes, Error> {
    let Some(scopes) = scopes else {
        return Ok(Scopes::Unlimited);
    };
    let texts: Option<Vec<&str>> = scopes.iter().map(Option::as_deref).collect();
    Scopes::requested(texts.ok_or(Error::NullArgument("a scope"))?)
}

/// The limit that a caller asks for: so many requests within a window of that length.
///
/// # Errors
/// [`Error::NullArgument`], [`Error::UncountedLimit`], and those of [`Limit::requested`].
pub fn requested_limit(
    which: Which,
    requests: Option<i32>,
    window: Option<Interval>,
) -> Result<Option<Limit>, Error> {
    let Some(requests) = requests else {
        return Ok(None);
    };
    let window = window.ok_or(Error::NullArgument(which.window()))?;
    let micros = match clock::is_infinite(&window) {
        true => i64::MAX,
        false => i64::try_from(window.as_micros()).unwrap_or(i64::MAX),
    };
    let limit = Limit::requested(which, requests, micros)?;
    // The tables of 0.1.0 have no leases: there each connection counts whatever window there is.
    match limit.is_durable() && !settings::is_preloaded() && store::has_details() {
        true => Err(Error::UncountedLimit),
        false => Ok(Some(limit)),
    }
}

/// When a token that is minted now expires, on a full second. Without a wish of the caller's the default lifetime
/// counts.
///
/// # Errors
/// [`Error::LifetimeInfinite`], [`Error::LifetimeTooShort`], [`Error::LifetimeTooLong`].
pub fn expiry(now: Instant, expires_in: Option<Interval>) -> Result<Instant, Error> {
    let max = settings::max_lifetime();
    let Some(expires_in) = expires_in else {
        let lifetime = settings::default_lifetime().min(max);
        return Ok(now.floor_to_second().plus_seconds(lifetime));
    };
    const DAY: i64 = 86_400;
    let too_long = Error::LifetimeTooLong { max_seconds: max };
    if clock::is_infinite(&expires_in) {
        return Err(Error::LifetimeInfinite);
    }
    // Such an interval could be more than can be added to a date. No limit allows as much.
    if expires_in.as_micros().unsigned_abs() > 1000 * 365 * 86_400_000_000 {
        return Err(match expires_in.as_micros() > 0 {
            true => too_long,
            false => Error::LifetimeTooShort,
        });
    }
    let end = now.plus(expires_in);
    if end < now.plus_seconds(1) {
        return Err(Error::LifetimeTooShort);
    }
    let expires_at = end.floor_to_second();
    // '1 year' may be 366 days, and a limit of 365 days means a year.
    let whole_years = match max % (365 * DAY) {
        0 => now.plus(Interval::from_years((max / (365 * DAY)) as i32)),
        _ => now,
    };
    match expires_at <= now.plus_seconds(max).max(whole_years) {
        true => Ok(expires_at),
        false => Err(too_long),
    }
}

/// When the grace of a token that is rotated ends, `None` for at once.
///
/// # Errors
/// [`Error::GraceOutOfRange`].
pub fn grace_end(now: Instant, grace: Interval) -> Result<Option<Instant>, Error> {
    if clock::is_infinite(&grace) || grace.as_micros() < 0 {
        return Err(Error::GraceOutOfRange);
    }
    match grace.as_micros() {
        0 => Ok(None),
        // The token expires earlier than that anyway.
        micros if micros > 1000 * 365 * 86_400_000_000 => {
            Ok(Some(now.plus_seconds(1000 * 365 * 86_400)))
        }
        _ => Ok(Some(now.plus(grace))),
    }
}
