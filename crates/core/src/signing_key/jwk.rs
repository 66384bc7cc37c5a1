//! Reading private JSON Web Keys strictly, with errors that repeat nothing of what stands in them.

use std::borrow::Cow;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use zeroize::Zeroizing;

use super::{KeyId, Material, RsaNumbers, SigningKey};
use crate::algorithm::Algorithm;
use crate::error::{Error, JWK};
use crate::json::Members;
use crate::secret::Secret;

const MIN_RSA_BITS: usize = 2048;

/// A JWK whose members have been read, but not put together.
pub(super) struct Jwk<'a>(Members<'a>);

impl<'a> Jwk<'a> {
    pub(super) fn parse(json: &'a str) -> Result<Self, Error> {
        let members = Members::parse(json).ok_or(Error::MalformedJwk(
            "it is no JSON object, or names something twice",
        ))?;
        if members.get("keys").is_some() {
            return Err(Error::MalformedJwk(
                "it is a set of keys: import them one by one",
            ));
        }
        Ok(Self(members))
    }

    pub(super) fn into_key(
        self,
        id: impl FnOnce() -> Result<KeyId, Error>,
    ) -> Result<SigningKey, Error> {
        self.check_use()?;
        let id = match self.text("kid", "its kid is not a string")? {
            Some(id) => KeyId::new(id)?,
            None => id()?,
        };
        let (algorithm, material) = match self.text("kty", "its kty is not a string")?.as_deref() {
            Some("oct") => self.shared()?,
            Some("EC") => self.p256()?,
            Some("OKP") => self.ed25519()?,
            Some("RSA") => self.rsa()?,
            _ => {
                return Err(Error::MalformedJwk(
                    "its kty is none of oct, EC, OKP and RSA",
                ));
            }
        };
        SigningKey::new(Some(id), algorithm, material)
    }

    /// A key that is declared for something else does not sign (RFC 7517 sections 4.2 and 4.3).
    fn check_use(&self) -> Result<(), Error> {
        if !matches!(
            self.text("use", "its use is not a string")?.as_deref(),
            None | Some("sig")
        ) {
            return Err(Error::MalformedJwk("its use is not sig"));
        }
        let Some(operations) = self.0.get("key_ops") else {
            return Ok(());
        };
        let operations: Vec<String> = serde_json::from_str(operations.get())
            .map_err(|_| Error::MalformedJwk("its key_ops are not a list of strings"))?;
        match operations.iter().any(|operation| operation == "sign") {
            true => Ok(()),
            false => Err(Error::MalformedJwk("its key_ops leave out sign")),
        }
    }

    fn shared(&self) -> Result<(Algorithm, Material), Error> {
        let algorithm = self.algorithm(&[Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512])?;
        let bytes = self.bytes("k", "its k is missing", "its k is not base64url")?;
        let secret = Secret::of_length(bytes, algorithm, JWK)?;
        Ok((algorithm, Material::Shared(secret)))
    }

    fn p256(&self) -> Result<(Algorithm, Material), Error> {
        if self.text("crv", "its crv is not a string")?.as_deref() != Some("P-256") {
            return Err(Error::MalformedJwk("its crv is not P-256"));
        }
        let algorithm = self.algorithm(&[Algorithm::Es256])?;
        let number = |name| -> Result<Vec<u8>, Error> {
            let bytes = self.number(name)?;
            match bytes.len() {
                32 => Ok(bytes),
                _ => Err(Error::MalformedJwk(
                    "its x, y and d must have 32 bytes each",
                )),
            }
        };
        Ok((
            algorithm,
            Material::P256 {
                x: number("x")?,
                y: number("y")?,
                d: Zeroizing::new(number("d")?),
            },
        ))
    }

    fn ed25519(&self) -> Result<(Algorithm, Material), Error> {
        if self.text("crv", "its crv is not a string")?.as_deref() != Some("Ed25519") {
            return Err(Error::MalformedJwk("its crv is not Ed25519"));
        }
        let algorithm = self.algorithm(&[Algorithm::EdDsa])?;
        let (x, d) = (self.number("x")?, Zeroizing::new(self.number("d")?));
        match (x.len(), d.len()) {
            (32, 32) => Ok((algorithm, Material::Ed25519 { x, d })),
            _ => Err(Error::MalformedJwk("its x and d must have 32 bytes each")),
        }
    }

    fn rsa(&self) -> Result<(Algorithm, Material), Error> {
        let algorithm = self.algorithm(&[Algorithm::Rs256])?;
        if self.0.get("oth").is_some() {
            return Err(Error::MalformedJwk("it has more than two primes"));
        }
        let (n, e) = (self.number("n")?, self.number("e")?);
        // Zeros would count as length below (RFC 7518 section 2 has none in a Base64urlUInt).
        if [&n, &e].iter().any(|number| number.first() == Some(&0)) {
            return Err(Error::MalformedJwk("its n or e begins with a zero byte"));
        }
        let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if bits < MIN_RSA_BITS {
            return Err(Error::MalformedJwk("its modulus has less than 2048 bits"));
        }
        // The smallest exponent that is in use, and safe with any padding (FIPS 186-5 section A.1.1).
        if e.len() < 3 || e[..] < [1, 0, 1][..] && e.len() == 3 {
            return Err(Error::MalformedJwk("its exponent is smaller than 65537"));
        }
        let secret = |name| self.number(name).map(Zeroizing::new);
        let private = Box::new(RsaNumbers {
            d: secret("d")?,
            p: secret("p")?,
            q: secret("q")?,
            dp: secret("dp")?,
            dq: secret("dq")?,
            qi: secret("qi")?,
        });
        Ok((algorithm, Material::Rsa { n, e, private }))
    }

    /// The algorithm that the key names, or else the first of those that its type allows.
    fn algorithm(&self, allowed: &[Algorithm]) -> Result<Algorithm, Error> {
        let Some(name) = self.text("alg", "its alg is not a string")? else {
            return Ok(allowed[0]);
        };
        Algorithm::named(&name)
            .filter(|algorithm| allowed.contains(algorithm))
            .ok_or(Error::MalformedJwk(
                "its alg is not among HS256, HS384, HS512, ES256, RS256 and EdDSA, or does not suit its kty",
            ))
    }

    fn number(&self, name: &str) -> Result<Vec<u8>, Error> {
        const PRIVATE: [&str; 6] = ["d", "p", "q", "dp", "dq", "qi"];
        let missing = match PRIVATE.contains(&name) {
            true if name == "d" => "it is a public key: the private part d is missing",
            true => "one of its private parts p, q, dp, dq and qi is missing",
            false => "one of its public parts is missing",
        };
        self.bytes(name, missing, "one of its numbers is not base64url")
    }

    fn bytes(
        &self,
        name: &str,
        missing: &'static str,
        malformed: &'static str,
    ) -> Result<Vec<u8>, Error> {
        let text = self.text(name, malformed)?;
        let text = text.ok_or(Error::MalformedJwk(missing))?;
        BASE64URL
            .decode(&*text)
            .map_err(|_| Error::MalformedJwk(malformed))
    }

    fn text(&self, name: &str, wrong_type: &'static str) -> Result<Option<Cow<'a, str>>, Error> {
        self.0
            .text(name)
            .map_err(|_| Error::MalformedJwk(wrong_type))
    }
}
