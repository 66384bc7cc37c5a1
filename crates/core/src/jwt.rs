//! JSON Web Tokens (RFC 7519) in the compact form of RFC 7515: signed, taken apart, verified.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::algorithm::Algorithm;
use crate::claims::TOKEN_TYPE;
use crate::denied;
use crate::error::Error;
use crate::json::{Members, push_name};
use crate::key_ring::Keys;
use crate::restrictions::{Carried, Restrictions};
use crate::scope::Scopes;
use crate::signing_key::SigningKey;

/// No server takes a header of this size, so no real token comes near it.
const MAX_BYTES: usize = 128 * 1024;

/// Numeric dates beyond this, 2⁵³, are not exact in the floating point that most parsers use.
const MAX_DATE: f64 = 9_007_199_254_740_992.0;

/// The payload of a personal access token.
#[derive(Serialize)]
pub struct TokenPayload<'a> {
    aud: &'static str,
    role: &'a str,
    iss: &'a str,
    sub: Uuid,
    iat: i64,
    exp: i64,
    jti: Uuid,
    r#type: &'static str,
    /// The key's id, which names no session, on purpose: Supabase Auth answers such a token with
    /// `session_not_found`, so that it cannot change its owner's password or e-mail address.
    session_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_anonymous: Option<bool>,
    #[serde(flatten)]
    carried: Carried,
}

impl<'a> TokenPayload<'a> {
    /// `issued_at` and `expires_at` are Unix time in seconds.
    pub fn new(
        user: Uuid,
        key_id: Uuid,
        scopes: &Scopes,
        (role, issuer): (&'a str, &'a str),
        (issued_at, expires_at): (i64, i64),
    ) -> Self {
        Self {
            aud: "authenticated",
            role,
            iss: issuer,
            sub: user,
            iat: issued_at,
            exp: expires_at,
            jti: key_id,
            r#type: TOKEN_TYPE,
            session_id: key_id,
            scope: scopes.to_claim(),
            is_anonymous: None,
            carried: Carried::default(),
        }
    }

    /// Says of the token what restricts the login that makes it.
    pub fn restricted_as(mut self, restrictions: &Restrictions) -> Self {
        self.is_anonymous = restrictions.is_anonymous();
        self.carried = restrictions.carried().clone();
        self
    }

    /// The claims of a request that is made with an opaque token.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|error| Error::Internal(error.to_string()))
    }
}

/// The payload of a Supabase API key, as Supabase writes it.
#[derive(Serialize)]
pub struct ApiKeyPayload<'a> {
    iss: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#ref: Option<&'a str>,
    role: &'a str,
    iat: i64,
    exp: i64,
}

impl<'a> ApiKeyPayload<'a> {
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|error| Error::Internal(error.to_string()))
    }

    /// `issued_at` and `expires_at` are Unix time in seconds.
    ///
    /// # Errors
    /// [`Error::MalformedRef`]: a project ref is a part of host names.
    pub fn new(
        role: &'a str,
        project_ref: Option<&'a str>,
        (issued_at, expires_at): (i64, i64),
    ) -> Result<Self, Error> {
        let is_label = |text: &str| {
            (1..=63).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        match project_ref.is_none_or(is_label) {
            true => Ok(Self {
                iss: "supabase",
                r#ref: project_ref,
                role,
                iat: issued_at,
                exp: expires_at,
            }),
            false => Err(Error::MalformedRef),
        }
    }
}

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

/// The claims in `json`, with `iat` if they do not have it already, and with `exp` if it is given.
/// Times are Unix seconds. Values stay as they are written.
///
/// # Errors
/// [`Error::ClaimsNotAnObject`].
pub fn with_times(json: &str, issued_at: i64, expires_at: Option<i64>) -> Result<String, Error> {
    let members = Members::parse(json).ok_or(Error::ClaimsNotAnObject)?;
    let mut claims = String::with_capacity(json.len() + 48);
    let mut add = |name: &str, value: &str| {
        claims.push(if claims.is_empty() { '{' } else { ',' });
        push_name(&mut claims, name);
        claims.push_str(value);
    };
    for (name, value) in members.iter() {
        if name != "exp" || expires_at.is_none() {
            add(name, value.get());
        }
    }
    if members.iter().all(|(name, _)| name != "iat") {
        add("iat", &issued_at.to_string());
    }
    if let Some(expires_at) = expires_at {
        add("exp", &expires_at.to_string());
    }
    claims.push('}');
    Ok(claims)
}

/// Why a token is not valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("its algorithm is not supported")]
    UnsupportedAlgorithm,
    #[error("its algorithm is not that of the signing key")]
    WrongAlgorithm,
    #[error("it needs an extension that is not supported")]
    CriticalExtension,
    #[error("its signing key is not known")]
    UnknownKey,
    #[error("its signing key has been revoked")]
    RevokedKey,
    #[error("its signature does not match")]
    BadSignature,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("it has no expiry")]
    NoExpiry,
    #[error("it is meant for another audience")]
    WrongAudience,
    #[error("it is a personal access token that is not live")]
    DeadKey,
    #[error("it has been denied")]
    Denied,
}

impl Rejection {
    /// In one word, as `pat.jwt_status` says it.
    pub fn status(self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::NoExpiry | Self::WrongAudience => "malformed",
            Self::UnsupportedAlgorithm | Self::WrongAlgorithm | Self::CriticalExtension => {
                "unsupported_algorithm"
            }
            Self::UnknownKey => "unknown_key",
            Self::RevokedKey | Self::DeadKey | Self::Denied => "revoked",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
        }
    }
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
    /// [`Rejection::Malformed`], if it is not three parts of base64url without padding, the first
    /// of them a JSON object that names an algorithm and names nothing twice.
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
                .map_err(|_| Malformed("alg or kid in its header is no string"))
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
        let payload = decode(self.payload)?;
        object(&payload)?;
        Ok(payload)
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

    /// Of what is signed: see [`crate::denied`].
    pub fn digest(&self) -> denied::Digest {
        denied::digest_of(self.message)
    }

    /// When it says that it expires, in Unix seconds.
    pub fn expires_at(&self) -> Result<Option<i64>, Rejection> {
        let payload = decode(self.payload)?;
        Ok(date(&object(&payload)?, "exp")?.map(|date| date.floor() as i64))
    }
}

/// What a token must be besides signed.
pub struct Checks<'a> {
    pub audience: Option<&'a str>,
    pub requires_expiry: bool,
    /// Unix seconds.
    pub now: i64,
    /// Who we are in the claim `iss`.
    pub issuer: &'a str,
    /// How far, in seconds, the clock of another issuer may be from ours. Tokens that name none
    /// are taken for our own, and our clock is right.
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
    pub fn check(token: &Unverified, keys: &Keys, checks: &Checks) -> Result<Self, Rejection> {
        keys.verify(token)?;
        let payload = decode(token.payload)?;
        let claims = object(&payload)?;

        let text = |name| {
            let wrong_type = Rejection::Malformed("iss or type in its payload is no string");
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

    /// Whether there is a key besides, which may have been revoked.
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

/// What claims to be the payload of a token, if it has the three parts of one and a JSON object in each of the first
/// two, whatever else is wrong with it: for refusing it, not for trusting it.
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

fn object(payload: &str) -> Result<Members<'_>, Rejection> {
    Members::parse(payload).ok_or(Rejection::Malformed(
        "its payload is no JSON object, or names something twice",
    ))
}

/// A NumericDate (RFC 7519 section 2): seconds since 1970, perhaps with a fraction.
fn date(claims: &Members, name: &str) -> Result<Option<f64>, Rejection> {
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
