//! JSON Web Tokens (RFC 7519) in the compact form of RFC 7515: signed, and taken apart. What verifies them is
//! [`crate::verification`].

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use serde::Serialize;

use crate::algorithm::Algorithm;
use crate::denied;
use crate::error::Error;
use crate::json::Members;
use crate::rejection::Rejection;
use crate::signing_key::SigningKey;

/// No server takes a header of this size, so no real token comes near it.
const MAX_BYTES: usize = 128 * 1024;

/// Numeric dates beyond this, 2⁵³, are not exact in the floating point that most parsers use.
const MAX_DATE: f64 = 9_007_199_254_740_992.0;

/// The token in an Authorization header (RFC 6750 section 2.1): the scheme in any case (RFC 9110
/// section 11.1), and after it one token and nothing else. Between them is a space; PostgREST takes a tab too.
pub fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(char::is_whitespace)?;
    let token = token.trim_start();
    let is_one = !token.is_empty() && !token.contains(char::is_whitespace);
    (scheme.eq_ignore_ascii_case("bearer") && is_one).then_some(token)
}

/// Signs claims.
pub fn sign(claims: &impl Serialize, key: &SigningKey) -> Result<String, Error> {
    let payload =
        serde_json::to_string(claims).map_err(|error| Error::Internal(error.to_string()))?;
    sign_text(&payload, key)
}

/// Signs a payload as the text that it is. The header names the key, if the key has a name.
pub fn sign_text(payload: &str, key: &SigningKey) -> Result<String, Error> {
    let mut token = String::with_capacity(payload.len() * 4 / 3 + 512);
    token.push_str(key.encoded_header());
    BASE64URL.encode_string(payload, &mut token);
    let signature = key.signature_of(token.as_bytes())?;
    token.push('.');
    BASE64URL.encode_string(signature, &mut token);
    Ok(token)
}

/// A token taken apart. Nothing in it has been checked, so nothing in it can be trusted.
pub struct Unverified<'a> {
    header: String,
    /// Header and payload as they were signed, still encoded.
    message: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
    algorithm: Result<Algorithm, Rejection>,
    key_id: Option<String>,
}

impl<'a> Unverified<'a> {
    /// # Errors
    /// [`Rejection::Malformed`], if it does not have three parts of base64url without padding, of which the
    /// first is a JSON object that names an algorithm and names nothing twice.
    pub fn parse(token: &'a str) -> Result<Self, Rejection> {
        use Rejection::Malformed;
        if token.len() > MAX_BYTES {
            return Err(Malformed("it is longer than 128 KiB"));
        }
        let malformed = Malformed("it does not have three parts");
        let (message, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = message.split_once('.').ok_or(malformed)?;
        if payload.contains('.') {
            return Err(malformed);
        }
        let header = decode(header)?;
        let members = Members::parse(&header).ok_or(Malformed(
            "its header is no JSON object, or names something twice",
        ))?;
        let text = |name| {
            members
                .text(name)
                .map_err(|_| Malformed("alg or kid in its header is not a string"))
        };
        let name = text("alg")?.ok_or(Malformed("its header names no algorithm"))?;
        let key_id = text("kid")?.map(|id| id.into_owned());
        let algorithm = match members.get("crit") {
            // We understand no extension, so there is none that we could honour (RFC 7515 4.1.11).
            Some(_) => Err(Rejection::CriticalExtension),
            None => Algorithm::named(&name).ok_or(Rejection::UnsupportedAlgorithm),
        };
        Ok(Self {
            message,
            payload,
            signature: BASE64URL
                .decode(signature)
                .map_err(|_| Malformed("its signature is not base64url"))?,
            algorithm,
            key_id,
            header,
        })
    }

    /// The JSON of the header.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// What claims to be the payload.
    ///
    /// # Errors
    /// [`Rejection::Malformed`], if it is no JSON object, or names something twice.
    pub fn claims(&self) -> Result<String, Rejection> {
        let payload = self.payload()?;
        object(&payload)?;
        Ok(payload)
    }

    pub(crate) fn payload(&self) -> Result<String, Rejection> {
        decode(self.payload)
    }

    pub(crate) fn algorithm(&self) -> Result<Algorithm, Rejection> {
        self.algorithm
    }

    pub(crate) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    pub(crate) fn is_signed_by(&self, key: &SigningKey) -> bool {
        key.has_signed(self.message.as_bytes(), &self.signature)
    }

    /// The digest of what is signed: see [`crate::denied`].
    pub fn digest(&self) -> denied::Digest {
        denied::digest_of(self.message)
    }

    /// When the token says that it expires, in Unix seconds.
    pub fn expires_at(&self) -> Result<Option<i64>, Rejection> {
        let payload = self.payload()?;
        Ok(date(&object(&payload)?, "exp")?.map(|date| date.floor() as i64))
    }
}

/// What claims to be the payload of a token. It is for refusing a token, not for trusting it: the token must have three
/// parts with a JSON object in each of the first two, and anything else may be wrong with it.
pub fn payload_of_any(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (header, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let json = |part| {
        let text = decode(part).ok()?;
        Members::parse_lenient(&text).is_ok().then_some(text)
    };
    json(header)?;
    json(payload).filter(|_| parts.next().is_none())
}

fn decode(part: &str) -> Result<String, Rejection> {
    let bytes = BASE64URL
        .decode(part)
        .map_err(|_| Rejection::Malformed("a part of it is not base64url"))?;
    String::from_utf8(bytes).map_err(|_| Rejection::Malformed("a part of it is not UTF-8"))
}

pub(crate) fn object(payload: &str) -> Result<Members<'_>, Rejection> {
    Members::parse(payload).ok_or(Rejection::Malformed(
        "its payload is no JSON object, or names something twice",
    ))
}

/// A NumericDate (RFC 7519 section 2): seconds since 1970, perhaps with a fraction.
pub(crate) fn date(claims: &Members, name: &str) -> Result<Option<f64>, Rejection> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let date: Option<f64> = serde_json::from_str(value.get()).ok();
    date.filter(|date| (0.0..=MAX_DATE).contains(date))
        .map(Some)
        .ok_or(Rejection::Malformed(
            "exp, nbf or iat in its payload is no number of seconds from 0 to 2^53",
        ))
}

#[cfg(test)]
mod tests;
