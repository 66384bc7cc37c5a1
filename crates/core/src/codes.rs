//! Codes that a person gets by e-mail and types in, and the tokens that they belong to.
//!
//! Nothing is stored for a token: it carries a MAC over its id, address, purpose and code, over the
//! user and password hash that the address has, and over the database that it is for. So the code cannot be
//! found from the token without the key, a token dies with the password, with the address, and with the
//! key, and one that a copy of the database has made opens nothing in the original.
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

const MAX_ADDRESS_BYTES: usize = 254;

impl Address {
    /// An address that a mail may be sent to although nobody is known to have it, without the spaces around
    /// it, in small letters.
    ///
    /// It has one spelling for a mailbox: ASCII, an unquoted name, a host name. Mail programs and servers map
    /// what is beyond that onto each other (full-width letters, soft hyphens, `ß`), so that somebody
    /// could have one mailbox under any number of addresses, each with limits of its own. A host name
    /// of other letters is given as it is looked up, `xn--…`, which browsers do by themselves in a field of
    /// the type `email`. Supabase Auth takes no other addresses either.
    ///
    /// # Errors
    /// [`Error::MalformedAddress`]. Whether mail arrives is for the code to show.
    pub fn new(typed: &str) -> Result<Self, Error> {
        let Self(address) = Self::stored(typed)?;
        match address.rsplit_once('@') {
            Some((name, host)) if is_plain_name(name) && is_host_name(host) => Ok(Self(address)),
            _ => Err(Error::MalformedAddress),
        }
    }

    /// An address to look somebody up by, who may have come to have it before [`Self::new`] was as strict
    /// as it is, or by other ways. It gets mail only if it is somebody's.
    ///
    /// # Errors
    /// [`Error::MalformedAddress`] for what has no two parts, or has blanks or control characters in it.
    pub fn stored(typed: &str) -> Result<Self, Error> {
        let typed = typed.trim();
        // Before it is copied.
        if typed.len() > MAX_ADDRESS_BYTES {
            return Err(Error::MalformedAddress);
        }
        let address = typed.to_lowercase();
        let has_both_parts = address
            .rsplit_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
        let is_clean = !address.contains(|c: char| c.is_control() || c.is_whitespace());
        match has_both_parts && is_clean && address.len() <= MAX_ADDRESS_BYTES {
            true => Ok(Self(address)),
            false => Err(Error::MalformedAddress),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A Dot-string (RFC 5321, section 4.1.2).
fn is_plain_name(name: &str) -> bool {
    const MAX_BYTES: usize = 64;
    let is_atext =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    name.len() <= MAX_BYTES
        && name
            .split('.')
            .all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

/// Letters, digits and hyphens (RFC 1123, section 2.1), and not what is taken for the number of an address
/// (`127.1`, `0x7f000001`), which has many spellings.
fn is_host_name(host: &str) -> bool {
    const MAX_LABEL: usize = 63;
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    let digits = last.strip_prefix("0x");
    let is_number = digits.map_or(last.bytes().all(|byte| byte.is_ascii_digit()), |digits| {
        digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    host.split('.').all(is_label) && !is_number
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

    /// How many it has.
    pub fn digits(&self) -> u32 {
        self.0.len() as u32
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

/// Where a code is good: in one database of one cluster. A copy of it, restored elsewhere, has the same keys
/// and users, and may be open to more people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Database {
    /// The system identifier. It is in no dump.
    pub cluster: u64,
    pub oid: u32,
    /// Whether the code is the same for everybody, for development. A copy that was made file by file
    /// tells itself from the original by nothing else.
    pub has_debug_code: bool,
}

impl Database {
    /// What something is counted under, which stays the same when the signing key changes. Whoever has the
    /// digests from a dump cannot tell what they are of.
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
    /// No code does. Such a token is like any other to whoever has no key.
    Nothing([u8; 32]),
}

/// A token whose signature and purpose are right. Its code is not known.
pub struct CodeToken {
    pub id: Uuid,
    pub address: Address,
    /// How many its code has.
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
pub struct NewToken<'a> {
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

impl NewToken<'_> {
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

    /// Whether this is the token's code, it is for this database, and the address still has the same
    /// holder with the same password. Takes the same time whatever the code.
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

/// What an address is counted under. Without the key nobody can tell which address it is.
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
        // A key that cannot be derived, which does not happen, makes a MAC that nobody can meet.
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
