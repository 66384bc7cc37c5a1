//! Verifying a token: its signature, and what its payload must be besides.

use serde_json::value::RawValue;

use crate::claims::TOKEN_TYPE;
use crate::jwt::{Unverified, date, object};
use crate::key_ring::VerificationKeys;
use crate::rejection::Rejection;

/// What is checked of a token besides its signature.
pub struct Checks<'a> {
    pub audience: Option<&'a str>,
    pub requires_expiry: bool,
    /// Unix seconds.
    pub now: i64,
    /// The claim `iss` of our own tokens.
    pub issuer: &'a str,
    /// How far, in seconds, the clock of another issuer may be from ours. Tokens that name no issuer
    /// are taken for our own, and for those our clock counts.
    pub clock_skew: i64,
}

/// The payload of a token whose signature, times and audience are right.
pub struct Verified {
    payload: String,
    is_personal_access_token: bool,
}

impl Verified {
    /// # Errors
    /// The first check that the token fails: signature, form of the payload, times, audience.
    pub fn check(
        token: &Unverified,
        keys: &VerificationKeys,
        checks: &Checks,
    ) -> Result<Self, Rejection> {
        keys.verify(token)?;
        let payload = token.payload()?;
        let claims = object(&payload)?;

        let text = |name| {
            let wrong_type = Rejection::Malformed("iss or type in its payload is not a string");
            claims.text(name).map_err(|_| wrong_type)
        };
        let skew = match text("iss")? {
            Some(issuer) if issuer != checks.issuer => checks.clock_skew,
            _ => 0,
        };
        let now = checks.now as f64;
        // Where a date has a fraction, the clock, which has none, decides against the token.
        match date(&claims, "exp")? {
            Some(expiry) if now >= expiry.floor() + skew as f64 => return Err(Rejection::Expired),
            None if checks.requires_expiry => return Err(Rejection::NoExpiry),
            _ => (),
        }
        if date(&claims, "nbf")?.is_some_and(|start| now < start.ceil() - skew as f64) {
            return Err(Rejection::NotYetValid);
        }
        date(&claims, "iat")?;
        if let Some(audience) = checks.audience
            && !names(claims.get("aud"), audience)
        {
            return Err(Rejection::WrongAudience);
        }
        Ok(Self {
            is_personal_access_token: text("type")?.is_some_and(|kind| kind == TOKEN_TYPE),
            payload,
        })
    }

    /// Whether the token has a row besides, by which it may have been revoked.
    pub fn is_personal_access_token(&self) -> bool {
        self.is_personal_access_token
    }

    pub fn payload(&self) -> &str {
        &self.payload
    }

    pub fn into_payload(self) -> String {
        self.payload
    }
}

/// Whether `aud`, a string or a list of strings, names the audience.
fn names(aud: Option<&RawValue>, audience: &str) -> bool {
    let Some(aud) = aud.map(RawValue::get) else {
        return false;
    };
    serde_json::from_str::<String>(aud).is_ok_and(|one| one == audience)
        || serde_json::from_str::<Vec<String>>(aud)
            .is_ok_and(|all| all.iter().any(|one| one == audience))
}

#[cfg(test)]
mod tests;
