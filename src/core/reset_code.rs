//! Codes that a person gets by e-mail and types in, and the tokens that they belong to.
//!
//! Nothing is stored for a token: it carries a MAC over its id, address, purpose and code, and over
//! the user and password hash that the address has. So the code cannot be found from the token without
//! the key, and a token dies with the password, with the address, and with the key.
//!
//! Token and MAC have keys of their own, derived from a signing key for each purpose. Were a token
//! signed with the signing key itself, the REST server would take it for a login.

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use serde::Serialize;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;
use crate::error::Error;
use crate::json::Members;
use crate::jwt::{self, Rejection, Unverified};
use crate::secret::Secret;
use crate::signing_key::SigningKey;

/// What a code is good for. A token for one is none for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A new password for somebody who forgot theirs.
    Recovery,
    /// That the address of a new user is theirs.
    SignUp,
}

impl Purpose {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recovery => "recovery",
            Self::SignUp => "signup",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Self::Recovery, Self::SignUp]
            .into_iter()
            .find(|known| known.as_str() == name)
    }

    /// What a key is derived for.
    pub(crate) fn key_use(self, of: &str) -> String {
        format!("{} {of}", self.as_str())
    }
}

/// An e-mail address as Supabase Auth keeps them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address(String);

impl Address {
    /// Without the spaces around it, in small letters.
    ///
    /// # Errors
    /// [`Error::MalformedAddress`]. Only the form is looked at: whether mail arrives is for the code
    /// to show.
    pub fn new(typed: &str) -> Result<Self, Error> {
        const MAX_BYTES: usize = 254;
        let typed = typed.trim();
        // Before it is copied.
        if typed.len() > MAX_BYTES {
            return Err(Error::MalformedAddress);
        }
        let address = typed.to_lowercase();
        let has_both_parts = address
            .rsplit_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
        let is_clean = !address.contains(|c: char| c.is_control() || c.is_whitespace());
        match has_both_parts && is_clean && address.len() <= MAX_BYTES {
            true => Ok(Self(address)),
            false => Err(Error::MalformedAddress),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Decimal digits, leading zeros included.
pub struct Code(Zeroizing<String>);

impl Code {
    /// Any of the codes of that length, each as likely as any other. `random` gives the next eight
    /// random bytes.
    pub fn draw(
        length: u32,
        mut random: impl FnMut() -> Result<[u8; 8], Error>,
    ) -> Result<Self, Error> {
        let codes = 10u64.pow(length);
        // The last incomplete run of codes would make some of them likelier.
        let usable = u64::MAX - u64::MAX % codes;
        loop {
            let number = u64::from_le_bytes(random()?);
            if number < usable {
                let digits = format!("{:0width$}", number % codes, width = length as usize);
                return Ok(Self(Zeroizing::new(digits)));
            }
        }
    }

    /// What somebody typed: spaces and hyphens do not count, and digits may be full-width, as
    /// Japanese keyboards give them. `None` if there is anything else.
    pub fn typed(text: &str) -> Option<Self> {
        const MAX_TYPED: usize = 100;
        let mut digits = Zeroizing::new(String::new());
        for c in text.chars().take(MAX_TYPED) {
            match c {
                '0'..='9' => digits.push(c),
                '\u{ff10}'..='\u{ff19}' => {
                    digits.push(char::from_digit(c as u32 - 0xff10, 10)?);
                }
                '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ff0d}' => (),
                c if c.is_whitespace() => (),
                _ => return None,
            }
        }
        (!digits.is_empty()).then_some(Self(digits))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Whom an address belongs to.
pub struct Holder {
    pub user: Uuid,
    pub password_hash: Option<String>,
    /// Whether they have shown that the address is theirs.
    pub is_confirmed: bool,
}

impl Holder {
    /// Nobody, for whom the same is done as for somebody.
    pub fn nobody() -> Self {
        Self {
            user: Uuid::nil(),
            password_hash: None,
            is_confirmed: false,
        }
    }
}

/// A token whose signature and purpose are right. Its code is not known.
pub struct CodeToken {
    pub id: Uuid,
    pub address: Address,
    /// Unix seconds.
    pub expires_at: i64,
    purpose: Purpose,
    mac: Vec<u8>,
}

#[derive(Serialize)]
struct Claims<'a> {
    email: &'a str,
    purpose: &'static str,
    jti: Uuid,
    iat: i64,
    exp: i64,
    mac: String,
}

/// Makes the token of a code. Times are Unix seconds.
pub fn issue(
    key: &SigningKey,
    purpose: Purpose,
    id: Uuid,
    address: &Address,
    (code, holder): (&Code, &Holder),
    (issued_at, expires_at): (i64, i64),
) -> Result<String, Error> {
    let mac = mac(key, purpose, id, address, (code, holder));
    let claims = Claims {
        email: address.as_str(),
        purpose: purpose.as_str(),
        jti: id,
        iat: issued_at,
        exp: expires_at,
        mac: BASE64URL.encode(mac),
    };
    jwt::sign(&claims, &token_key(key, purpose)?)
}

impl CodeToken {
    /// Reads a token that `key`, the signing key that it names, was used for. That it has expired is
    /// for the caller to see.
    pub fn read(token: &Unverified, key: &SigningKey, purpose: Purpose) -> Result<Self, Rejection> {
        const MALFORMED: Rejection = Rejection::Malformed("it is no token of a code");
        let token_key = token_key(key, purpose).map_err(|_| Rejection::UnknownKey)?;
        if token.algorithm()? != Algorithm::Hs256 {
            return Err(Rejection::WrongAlgorithm);
        }
        if !token.is_signed_by(&token_key) {
            return Err(Rejection::BadSignature);
        }
        let claims = token.claims()?;
        let claims = Members::parse(&claims).ok_or(MALFORMED)?;
        let text = |name| claims.text(name).ok().flatten().ok_or(MALFORMED);
        if text("purpose")? != purpose.as_str() {
            return Err(MALFORMED);
        }
        let expires_at = claims.get("exp").and_then(|exp| exp.get().parse().ok());
        Ok(Self {
            id: text("jti")?.parse().map_err(|_| MALFORMED)?,
            address: Address::new(&text("email")?).map_err(|_| MALFORMED)?,
            expires_at: expires_at.ok_or(MALFORMED)?,
            purpose,
            mac: BASE64URL.decode(&*text("mac")?).map_err(|_| MALFORMED)?,
        })
    }

    /// Whether this is the token's code, and the address still has the same holder with the same
    /// password. Takes the same time whatever the code.
    pub fn belongs_to(&self, code: &Code, holder: &Holder, key: &SigningKey) -> bool {
        let expected = mac(key, self.purpose, self.id, &self.address, (code, holder));
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.mac, expected.as_ref()).is_ok()
    }
}

/// What an address is counted under. Without the key nobody can tell which address it is.
pub fn digest(key: &SigningKey, address: &Address) -> Result<[u8; 32], Error> {
    digest_of(key, &[address.as_str()])
}

/// As [`digest`], of several texts together.
pub fn digest_of(key: &SigningKey, texts: &[&str]) -> Result<[u8; 32], Error> {
    let secret = key.derive("addresses")?;
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &secret[..]));
    for text in texts {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.sign().as_ref());
    Ok(digest)
}

fn token_key(key: &SigningKey, purpose: Purpose) -> Result<SigningKey, Error> {
    let secret = key.derive(&purpose.key_use("token"))?;
    let secret = Secret::of_length(secret.to_vec(), Algorithm::Hs256, "the signing key")?;
    SigningKey::shared(key.key_id().cloned(), Algorithm::Hs256, secret)
}

fn mac(
    key: &SigningKey,
    purpose: Purpose,
    id: Uuid,
    address: &Address,
    (code, holder): (&Code, &Holder),
) -> hmac::Tag {
    // A key that cannot be derived, which does not happen, makes a MAC that nobody can meet.
    let secret = key.derive(&purpose.key_use("code")).unwrap_or_default();
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &secret[..]));
    // Each part with its length before it, so that none can run into the next.
    let mut add = |part: &[u8]| {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    };
    add(id.as_bytes());
    add(address.as_str().as_bytes());
    add(purpose.as_str().as_bytes());
    add(code.expose().as_bytes());
    add(holder.user.as_bytes());
    match &holder.password_hash {
        Some(hash) => add(hash.as_bytes()),
        None => add(b"none"),
    }
    context.sign()
}

#[cfg(test)]
mod tests;
