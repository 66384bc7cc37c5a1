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
        let address = typed.trim().to_lowercase();
        let has_both_parts = address
            .rsplit_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
        let is_clean = !address.contains(|c: char| c.is_control() || c.is_whitespace());
        match has_both_parts && is_clean && address.len() <= 254 {
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
mod tests {
    use super::*;
    use crate::claims::{ClaimSettings, Credential, Identity};
    use crate::jwt::{Checks, Verified};
    use crate::key_ring::{KeyRing, Keys, RingKey};
    use crate::signing_key::KeyId;
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000;
    const ID: Uuid = Uuid::from_u128(7);

    fn key(id: &str) -> SigningKey {
        SigningKey::generate(KeyId::new(id).unwrap(), Algorithm::Hs256).unwrap()
    }

    fn address(text: &str) -> Address {
        Address::new(text).unwrap()
    }

    fn code(text: &str) -> Code {
        Code::typed(text).unwrap()
    }

    fn holder(hash: Option<&str>) -> Holder {
        Holder {
            user: Uuid::from_u128(1),
            password_hash: hash.map(str::to_owned),
            is_confirmed: true,
        }
    }

    fn token(key: &SigningKey, holder: &Holder) -> String {
        let to = address("alice@example.com");
        let parts = (&code("012345"), holder);
        issue(key, Purpose::Recovery, ID, &to, parts, (NOW, NOW + 900)).unwrap()
    }

    fn read(token: &str, key: &SigningKey) -> Result<CodeToken, Rejection> {
        CodeToken::read(&Unverified::parse(token)?, key, Purpose::Recovery)
    }

    #[test]
    fn the_code_belongs_to_its_token_and_no_other_does() {
        let key = key("k");
        let alice = holder(Some("hash"));
        let token = read(&token(&key, &alice), &key).unwrap();
        assert_eq!(token.id, ID);
        assert_eq!(token.expires_at, NOW + 900);
        assert!(token.belongs_to(&code("012345"), &alice, &key));
        for other in ["012346", "12345", "0012345", "543210"] {
            assert!(!token.belongs_to(&code(other), &alice, &key));
        }
    }

    #[test]
    fn a_token_dies_with_the_password_and_with_the_holder_of_the_address() {
        let key = key("k");
        let token = read(&token(&key, &holder(Some("old"))), &key).unwrap();
        let code = code("012345");
        assert!(!token.belongs_to(&code, &holder(Some("new")), &key));
        assert!(!token.belongs_to(&code, &holder(None), &key));
        assert!(!token.belongs_to(&code, &Holder::nobody(), &key));
        let another = Holder {
            user: Uuid::from_u128(2),
            password_hash: Some("old".to_owned()),
            is_confirmed: true,
        };
        assert!(!token.belongs_to(&code, &another, &key));
    }

    #[test]
    fn a_token_of_a_code_is_no_login() {
        // The REST server and pat.verify_jwt have the signing key, not the one derived from it.
        let key = key("k");
        let token = token(&key, &holder(None));
        let ring = KeyRing::new(vec![RingKey::from_stored(
            "k",
            "current",
            &key.private_jwk(),
        )]);
        let keys = Keys {
            ring: &ring,
            configured: None,
        };
        let checks = Checks {
            audience: None,
            requires_expiry: true,
            now: NOW,
            issuer: "us",
            clock_skew: 0,
        };
        let parsed = Unverified::parse(&token).unwrap();
        assert!(matches!(
            Verified::check(&parsed, &keys, &checks),
            Err(Rejection::BadSignature)
        ));
        // Nor does it name a user, should anybody take its claims for those of a request.
        let settings = ClaimSettings {
            claims: Some(&parsed.claims().unwrap()),
            ..ClaimSettings::default()
        };
        let identity = Identity::from_settings(&settings);
        assert!(identity.user.is_none());
        assert!(matches!(identity.credential, Credential::Login));
    }

    #[test]
    fn no_other_token_is_one_of_a_code() {
        let key = key("k");
        let claims = serde_json::json!({
            "email": "alice@example.com", "purpose": "recovery", "jti": ID, "iat": NOW,
            "exp": NOW + 900, "mac": BASE64URL.encode([0; 32]),
        });
        let signed = jwt::sign(&claims, &key).unwrap();
        assert_eq!(read(&signed, &key).err(), Some(Rejection::BadSignature));
        let other_key = self::key("k");
        let other = token(&other_key, &holder(None));
        assert_eq!(read(&other, &key).err(), Some(Rejection::BadSignature));
        let parts = (&code("012345"), &holder(None));
        let to = address("alice@example.com");
        let times = (NOW, NOW + 900);
        let of_another_purpose = issue(&key, Purpose::SignUp, ID, &to, parts, times).unwrap();
        let found = read(&of_another_purpose, &key).err();
        assert_eq!(found, Some(Rejection::BadSignature));
        let mut wrong = claims.clone();
        wrong["purpose"] = "signup".into();
        let signed = jwt::sign(&wrong, &token_key(&key, Purpose::Recovery).unwrap()).unwrap();
        assert!(matches!(read(&signed, &key), Err(Rejection::Malformed(_))));
        for name in ["email", "purpose", "jti", "exp", "mac"] {
            let mut wrong = claims.clone();
            wrong.as_object_mut().unwrap().remove(name);
            let signed = jwt::sign(&wrong, &token_key(&key, Purpose::Recovery).unwrap()).unwrap();
            assert!(
                matches!(read(&signed, &key), Err(Rejection::Malformed(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn tokens_look_alike_whether_the_address_is_somebody_s() {
        let key = key("k");
        let known = token(&key, &holder(Some("hash")));
        let unknown = token(&key, &Holder::nobody());
        assert_eq!(known.len(), unknown.len());
        let names = |token: &str| {
            let claims = Unverified::parse(token).unwrap().claims().unwrap();
            let claims = Members::parse(&claims).unwrap();
            claims
                .iter()
                .map(|(name, _)| name.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&known), names(&unknown));
        assert_eq!(
            names(&known),
            ["email", "purpose", "jti", "iat", "exp", "mac"]
        );
    }

    #[test]
    fn codes_are_uniform_and_keep_their_zeros() {
        let fixed = |number: u64| move || Ok(number.to_le_bytes());
        assert_eq!(Code::draw(6, fixed(0)).unwrap().expose(), "000000");
        assert_eq!(Code::draw(6, fixed(1_000_042)).unwrap().expose(), "000042");
        assert_eq!(
            Code::draw(10, fixed(9_999_999_999)).unwrap().expose(),
            "9999999999"
        );
        // Numbers beyond the last whole run of codes are drawn again.
        let mut numbers = [u64::MAX, u64::MAX - 1, 5].into_iter();
        let code = Code::draw(6, || Ok(numbers.next().unwrap().to_le_bytes()));
        assert_eq!(code.unwrap().expose(), "000005");
        // Chi-squared over the first digit: 9 degrees of freedom, 27.9 is exceeded once in a
        // thousand; the generator here is seeded, so that it is not.
        let mut state = 1u64;
        let mut counts = [0u32; 10];
        for _ in 0..10_000 {
            let code = Code::draw(6, || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                Ok((state ^ (state >> 29)).to_le_bytes())
            });
            let first = code.unwrap().expose().as_bytes()[0];
            counts[usize::from(first - b'0')] += 1;
        }
        let deviation: f64 = counts
            .iter()
            .map(|&count| (f64::from(count) - 1000.0).powi(2) / 1000.0)
            .sum();
        assert!(deviation < 27.9, "{counts:?}");
    }

    #[test]
    fn codes_are_read_as_people_type_them() {
        for typed in [
            "012345",
            " 012345\n",
            "012 345",
            "012-345",
            "0 1 2 3 4 5",
            "\u{ff10}\u{ff11}\u{ff12}\u{ff13}\u{ff14}\u{ff15}",
            "012\u{2013}345",
            "012\u{a0}345",
        ] {
            assert_eq!(Code::typed(typed).unwrap().expose(), "012345", "{typed:?}");
        }
        for typed in [
            "",
            " ",
            "-",
            "01234a",
            "O12345",
            "0.12345",
            "+012345",
            "\u{661}2345",
        ] {
            assert!(Code::typed(typed).is_none(), "{typed:?}");
        }
    }

    #[test]
    fn addresses_are_compared_without_case_and_spaces() {
        assert_eq!(
            address(" Alice@Example.COM\n").as_str(),
            "alice@example.com"
        );
        assert_eq!(address("\u{c4}@x").as_str(), "\u{e4}@x");
        for text in [
            "",
            " ",
            "alice",
            "@example.com",
            "alice@",
            "a b@c",
            "a@b\0",
            &"a".repeat(300),
        ] {
            assert!(Address::new(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_a_token_without_panic(text in any::<String>(), code in any::<String>()) {
            let key = key("k");
            prop_assert!(read(&text, &key).is_err());
            let _ = Code::typed(&code);
            let _ = Address::new(&text);
        }
    }
}
