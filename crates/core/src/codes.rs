//! Codes that a person gets by e-mail and types in, and the tokens that they belong to.
//!
//! Nothing is stored for a token: it carries a MAC over its id, address, purpose and code, over the
//! user and password hash that the address has, and over the database that it is for. So nobody can find the
//! code from the token without the key; a token dies when the password, the address or the key changes; and a
//! token that a copy of the database has made opens nothing in the original.
//!
//! Token and MAC have keys of their own, derived from a signing key for each purpose. Were a token
//! signed with the signing key itself, the REST server would take it for a login.

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use serde::Serialize;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::account::{Address, Holder};
use crate::algorithm::Algorithm;
use crate::error::Error;
use crate::json::Members;
use crate::jwt::{self, Unverified};
use crate::rejection::Rejection;
use crate::secret::Secret;
use crate::signing_key::SigningKey;

/// What a code is good for. A token for one purpose is not valid for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To give a new password to somebody who forgot theirs.
    Recovery,
    /// To show that the address of a new user is theirs.
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

    /// The use of a key that is derived for this purpose.
    pub(crate) fn key_use(self, of: &str) -> String {
        format!("{} {of}", self.as_str())
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

    /// How many digits the code has.
    pub fn digits(&self) -> u32 {
        self.0.len() as u32
    }
}

/// Where a code is good: in one database of one cluster. A copy of it, restored elsewhere, has the same keys
/// and users, and may be open to more people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Database {
    /// The system identifier. It is in no dump.
    pub cluster: u64,
    pub oid: u32,
    /// Whether the code is the same for everybody, for development. Nothing else tells a copy that was made
    /// file by file from the original.
    pub has_debug_code: bool,
}

impl Database {
    /// A digest under which something is counted. It stays the same when the signing key changes, and whoever
    /// has it from a dump cannot tell what it is of.
    pub fn digest_of(&self, texts: &[&str]) -> [u8; 16] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.cluster.to_be_bytes());
        let mut context = hmac::Context::with_key(&key);
        context.update(&self.oid.to_be_bytes());
        let digest = digest_with(context, texts);
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        short
    }
}

/// What opens a token.
pub enum Opener<'a> {
    Code(&'a Code),
    /// No code opens the token. Whoever does not have the key cannot tell it from any other.
    Nothing([u8; 32]),
}

/// A token whose signature and purpose are right. Its code is not known.
pub struct CodeToken {
    pub id: Uuid,
    pub address: Address,
    /// How many digits its code has.
    pub digits: u32,
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
    digits: u32,
    mac: String,
}

/// A token that is to be made.
pub struct NewCodeToken<'a> {
    pub purpose: Purpose,
    pub id: Uuid,
    pub address: &'a Address,
    pub database: Database,
    pub opener: Opener<'a>,
    /// How many digits the code has, or would have.
    pub digits: u32,
    pub holder: &'a Holder,
    /// Unix seconds.
    pub issued_at: i64,
    pub expires_at: i64,
}

impl NewCodeToken<'_> {
    pub fn sign(&self, key: &SigningKey) -> Result<String, Error> {
        let mac = Bound {
            purpose: self.purpose,
            id: self.id,
            address: self.address,
            database: self.database,
            holder: self.holder,
        }
        .mac(key, &self.opener);
        let claims = Claims {
            email: self.address.as_str(),
            purpose: self.purpose.as_str(),
            jti: self.id,
            iat: self.issued_at,
            exp: self.expires_at,
            digits: self.digits,
            mac: BASE64URL.encode(mac),
        };
        jwt::sign(&claims, &token_key(key, self.purpose)?)
    }
}

impl CodeToken {
    /// Reads a token that was made with `key`, the signing key that it names. The caller has to see whether it
    /// has expired.
    pub fn read(token: &Unverified, key: &SigningKey, purpose: Purpose) -> Result<Self, Rejection> {
        const MALFORMED: Rejection = Rejection::Malformed("it is not the token of a code");
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
        let digits = claims
            .get("digits")
            .and_then(|digits| digits.get().parse().ok());
        Ok(Self {
            id: text("jti")?.parse().map_err(|_| MALFORMED)?,
            address: Address::stored(&text("email")?).map_err(|_| MALFORMED)?,
            digits: digits.ok_or(MALFORMED)?,
            expires_at: expires_at.ok_or(MALFORMED)?,
            purpose,
            mac: BASE64URL.decode(&*text("mac")?).map_err(|_| MALFORMED)?,
        })
    }

    /// Whether this is the code of the token, the token is for this database, and the address still has the
    /// same holder with the same password. It takes the same time whatever the code.
    pub fn belongs_to(
        &self,
        code: &Code,
        holder: &Holder,
        database: Database,
        key: &SigningKey,
    ) -> bool {
        let expected = Bound {
            purpose: self.purpose,
            id: self.id,
            address: &self.address,
            database,
            holder,
        }
        .mac(key, &Opener::Code(code));
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.mac, expected.as_ref()).is_ok()
    }
}

/// A digest under which an address is counted. Without the key nobody can tell which address it is.
pub fn digest(key: &SigningKey, address: &Address) -> Result<[u8; 32], Error> {
    digest_of(key, &[address.as_str()])
}

/// As [`digest`], of several texts together.
pub fn digest_of(key: &SigningKey, texts: &[&str]) -> Result<[u8; 32], Error> {
    let secret = key.derive("addresses")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret[..]);
    Ok(digest_with(hmac::Context::with_key(&key), texts))
}

fn digest_with(mut context: hmac::Context, texts: &[&str]) -> [u8; 32] {
    for text in texts {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.sign().as_ref());
    digest
}

fn token_key(key: &SigningKey, purpose: Purpose) -> Result<SigningKey, Error> {
    let secret = key.derive(&purpose.key_use("token"))?;
    let secret = Secret::of_length(secret.to_vec(), Algorithm::Hs256, "the signing key")?;
    SigningKey::shared(key.key_id().cloned(), Algorithm::Hs256, secret)
}

/// All that a code is bound to.
struct Bound<'a> {
    purpose: Purpose,
    id: Uuid,
    address: &'a Address,
    database: Database,
    holder: &'a Holder,
}

impl Bound<'_> {
    fn mac(&self, key: &SigningKey, opener: &Opener) -> hmac::Tag {
        // A key from which nothing can be derived, which does not happen, signs no token either.
        let secret = key
            .derive(&self.purpose.key_use("code"))
            .unwrap_or_default();
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &secret[..]));
        // Each part with its length before it, so that none can run into the next.
        let mut add = |part: &[u8]| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        };
        add(self.id.as_bytes());
        add(self.address.as_str().as_bytes());
        add(self.purpose.as_str().as_bytes());
        add(&self.database.cluster.to_be_bytes());
        add(&self.database.oid.to_be_bytes());
        add(&[self.database.has_debug_code.into()]);
        match opener {
            Opener::Code(code) => {
                add(b"code");
                add(code.expose().as_bytes());
            }
            Opener::Nothing(random) => {
                add(b"none");
                add(random);
            }
        }
        add(self.holder.user.as_bytes());
        match &self.holder.password_hash {
            Some(hash) => add(hash.as_bytes()),
            None => add(b"none"),
        }
        context.sign()
    }
}

#[cfg(test)]
mod tests;
