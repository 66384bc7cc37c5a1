//! A key that signs and verifies tokens, and its form as a private JSON Web Key (RFC 7517, RFC 7518
//! section 6, RFC 8037).
//!
//! The jsonwebtoken crate signs and verifies. AWS-LC, which is under it, makes keys, and checks that
//! the parts of an imported one belong together. Its generator is seeded by the operating system,
//! and takes no other randomness.

mod jwk;
mod strength;
#[cfg(test)]
mod tests;

use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin};
use aws_lc_rs::hkdf;
use aws_lc_rs::rsa::{KeyPairComponents, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use jsonwebtoken::crypto::{JwtSigner, JwtVerifier, aws_lc};
use jsonwebtoken::{DecodingKey, EncodingKey};
use pkcs1::{RsaPrivateKeyRef, UintRef};
use pkcs8::der::Decode;
use pkcs8::{PrivateKeyInfoRef, SecretDocument};
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

use crate::algorithm::Algorithm;
use crate::error::Error;
use crate::secret::Secret;
use crate::weakness::Weakness;

const MAX_KEY_ID_LENGTH: usize = 200;

/// What tells keys apart, the `kid` of headers and JWKs: printable ASCII without spaces, so that it
/// can stand in a file name, a log and a header alike.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyId(String);

impl KeyId {
    pub fn new(text: impl Into<String>) -> Result<Self, Error> {
        let text = text.into();
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        match is_printable && (1..=MAX_KEY_ID_LENGTH).contains(&text.len()) {
            true => Ok(Self(text)),
            false => Err(Error::MalformedKeyId(MAX_KEY_ID_LENGTH)),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub struct SigningKey {
    id: Option<KeyId>,
    algorithm: Algorithm,
    material: Material,
    weakness: Option<Weakness>,
    /// The first part of a token, with the full stop after it.
    encoded_header: String,
    signer: Box<dyn JwtSigner>,
    verifier: Box<dyn JwtVerifier>,
}

/// What the key is made of, as unsigned big-endian bytes.
enum Material {
    Shared(Secret),
    P256 {
        x: Vec<u8>,
        y: Vec<u8>,
        d: Zeroizing<Vec<u8>>,
    },
    Ed25519 {
        x: Vec<u8>,
        d: Zeroizing<Vec<u8>>,
    },
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
        private: Box<RsaNumbers>,
    },
}

struct RsaNumbers {
    d: Zeroizing<Vec<u8>>,
    p: Zeroizing<Vec<u8>>,
    q: Zeroizing<Vec<u8>>,
    dp: Zeroizing<Vec<u8>>,
    dq: Zeroizing<Vec<u8>>,
    qi: Zeroizing<Vec<u8>>,
}

impl SigningKey {
    /// A shared secret. One without an id, such as PostgREST's `jwt-secret`, may have signed a token whatever key
    /// the token names.
    ///
    /// # Errors
    /// [`Error::UnknownAlgorithm`] for one that has no shared secret.
    pub fn shared(id: Option<KeyId>, algorithm: Algorithm, secret: Secret) -> Result<Self, Error> {
        match algorithm.min_secret_bytes() {
            Some(_) => Self::new(id, algorithm, Material::Shared(secret)),
            None => Err(Error::UnknownAlgorithm),
        }
    }

    /// A new key.
    pub fn generate(id: KeyId, algorithm: Algorithm) -> Result<Self, Error> {
        let failed = |_| Error::Internal(format!("no {algorithm} key could be generated"));
        let material = match algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
                let mut bytes = vec![0; algorithm.min_secret_bytes().unwrap_or_default()];
                aws_lc_rs::rand::fill(&mut bytes).map_err(failed)?;
                Material::Shared(Secret::of_length(bytes, algorithm, "the generator")?)
            }
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
                let pair = pair.map_err(failed)?;
                let d: EcPrivateKeyBin = pair.private_key().as_be_bytes().map_err(failed)?;
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                Material::P256 {
                    x: x.to_vec(),
                    y: y.to_vec(),
                    d: Zeroizing::new(d.as_ref().to_vec()),
                }
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::generate().map_err(failed)?;
                let d = pair.seed().and_then(|seed| seed.as_be_bytes());
                Material::Ed25519 {
                    x: pair.public_key().as_ref().to_vec(),
                    d: Zeroizing::new(d.map_err(failed)?.as_ref().to_vec()),
                }
            }
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                let der = pair.as_der().map_err(failed)?;
                rsa_from_pkcs8(der.as_ref())
                    .ok_or_else(|| Error::Internal("the generated RSA key is unreadable".into()))?
            }
        };
        Self::new(Some(id), algorithm, material)
    }

    /// A private JSON Web Key, with the id that it has itself, or else `id`.
    ///
    /// # Errors
    /// [`Error::MalformedJwk`] says what is wrong, never with what value.
    pub fn from_jwk(json: &str, id: impl FnOnce() -> Result<KeyId, Error>) -> Result<Self, Error> {
        jwk::Jwk::parse(json)?.into_key(id)
    }

    fn new(id: Option<KeyId>, algorithm: Algorithm, material: Material) -> Result<Self, Error> {
        let mut header = format!(r#"{{"alg":"{algorithm}""#);
        if let Some(KeyId(id)) = &id {
            header += &format!(r#","kid":{}"#, json!(id));
        }
        header += r#","typ":"JWT"}"#;
        let (encoding, decoding) = material.in_jsonwebtoken()?;
        let name = algorithm.in_jsonwebtoken();
        let unusable = |_| Error::MalformedJwk("it cannot be used");
        Ok(Self {
            id,
            algorithm,
            weakness: strength::weakness_of(&material),
            material,
            encoded_header: BASE64URL.encode(header) + ".",
            signer: (aws_lc::DEFAULT_PROVIDER.signer_factory)(&name, &encoding)
                .map_err(unusable)?,
            verifier: (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&name, &decoding)
                .map_err(unusable)?,
        })
    }

    pub fn id(&self) -> Option<&str> {
        self.id.as_ref().map(KeyId::as_str)
    }

    pub fn key_id(&self) -> Option<&KeyId> {
        self.id.as_ref()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The shared secret, if that is what the key is.
    pub fn secret(&self) -> Option<&Secret> {
        match &self.material {
            Material::Shared(secret) => Some(secret),
            _ => None,
        }
    }

    pub(crate) fn encoded_header(&self) -> &str {
        &self.encoded_header
    }

    pub(crate) fn signature_of(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.signer
            .try_sign(message)
            .map_err(|error| Error::Internal(format!("signing failed: {error}")))
    }

    /// Compares in constant time where somebody could guess a secret.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &Vec<u8>) -> bool {
        self.verifier.verify(message, signature).is_ok()
    }

    /// A key for another use, from which neither this one nor that for any third use can be found
    /// (HKDF, RFC 5869).
    pub fn derive(&self, key_use: &str) -> Result<Zeroizing<[u8; 32]>, Error> {
        let bytes = match &self.material {
            Material::Shared(secret) => secret.expose(),
            Material::P256 { d, .. } | Material::Ed25519 { d, .. } => d,
            Material::Rsa { private, .. } => &private.d,
        };
        let mut derived = Zeroizing::new([0; 32]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"supabase_pat")
            .extract(bytes)
            .expand(&[key_use.as_bytes()], hkdf::HKDF_SHA256)
            .and_then(|key| key.fill(&mut derived[..]))
            .map_err(|_| Error::Internal("no key could be derived".into()))?;
        Ok(derived)
    }

    /// The key as a JWK that signs. It is for storing the key, and for no other eyes.
    pub fn private_jwk(&self) -> Zeroizing<String> {
        let mut jwk = self.jwk(&["sign", "verify"]);
        let mut add = |name: &str, bytes: &[u8]| jwk[name] = BASE64URL.encode(bytes).into();
        match &self.material {
            Material::Shared(secret) => add("k", secret.expose()),
            Material::P256 { d, .. } | Material::Ed25519 { d, .. } => add("d", d),
            Material::Rsa { private, .. } => {
                for (name, number) in private.by_name() {
                    add(name, number);
                }
            }
        }
        let text = Zeroizing::new(jwk.to_string());
        if let Some(members) = jwk.as_object_mut() {
            for value in members.values_mut() {
                if let serde_json::Value::String(text) = value {
                    text.zeroize();
                }
            }
        }
        text
    }

    /// The key as a JWK for whoever verifies: `None` for a shared secret, which has no public half.
    pub fn public_jwk(&self) -> Option<serde_json::Value> {
        match &self.material {
            Material::Shared(_) => None,
            _ => Some(self.jwk(&["verify"])),
        }
    }

    /// As [`Self::public_jwk`], but with the secret if the key is one.
    pub fn verifying_jwk(&self) -> serde_json::Value {
        let mut jwk = self.jwk(&["verify"]);
        if let Material::Shared(secret) = &self.material {
            jwk["k"] = BASE64URL.encode(secret.expose()).into();
        }
        jwk
    }

    fn jwk(&self, operations: &[&str]) -> serde_json::Value {
        let text = |bytes: &[u8]| BASE64URL.encode(bytes);
        let mut jwk = match &self.material {
            Material::Shared(_) => json!({"kty": "oct"}),
            Material::P256 { x, y, .. } => {
                json!({"kty": "EC", "crv": "P-256", "x": text(x), "y": text(y)})
            }
            Material::Ed25519 { x, .. } => json!({"kty": "OKP", "crv": "Ed25519", "x": text(x)}),
            Material::Rsa { n, e, .. } => json!({"kty": "RSA", "n": text(n), "e": text(e)}),
        };
        jwk["alg"] = self.algorithm.as_str().into();
        jwk["use"] = "sig".into();
        jwk["key_ops"] = json!(operations);
        if let Some(id) = self.id() {
            jwk["kid"] = id.into();
        }
        jwk
    }
}

impl RsaNumbers {
    /// By their names in a JWK (RFC 7518 section 6.3.2).
    fn by_name(&self) -> [(&'static str, &[u8]); 6] {
        [
            ("d", &self.d),
            ("p", &self.p),
            ("q", &self.q),
            ("dp", &self.dp),
            ("dq", &self.dq),
            ("qi", &self.qi),
        ]
    }
}

impl Material {
    /// # Errors
    /// [`Error::MalformedJwk`] if the private half does not belong to the public one.
    fn in_jsonwebtoken(&self) -> Result<(EncodingKey, DecodingKey), Error> {
        let mismatch = |_| Error::MalformedJwk("its private and public parts do not match");
        let unusable = |_| Error::MalformedJwk("it cannot be used");
        let text = |bytes: &[u8]| BASE64URL.encode(bytes);
        Ok(match self {
            Self::Shared(secret) => (
                EncodingKey::from_secret(secret.expose()),
                DecodingKey::from_secret(secret.expose()),
            ),
            Self::P256 { x, y, d } => {
                let point = [&[4], &x[..], &y[..]].concat(); // uncompressed
                let pair = EcdsaKeyPair::from_private_key_and_public_key(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    d,
                    &point,
                )
                .map_err(mismatch)?;
                let der = pair.to_pkcs8v1().map_err(|_| unusable(()))?;
                let decoding = DecodingKey::from_ec_components(&text(x), &text(y));
                (
                    EncodingKey::from_ec_der(der.as_ref()),
                    decoding.map_err(|_| unusable(()))?,
                )
            }
            Self::Ed25519 { x, d } => {
                let pair = Ed25519KeyPair::from_seed_and_public_key(d, x).map_err(mismatch)?;
                let der = pair.to_pkcs8v1().map_err(|_| unusable(()))?;
                let decoding = DecodingKey::from_ed_components(&text(x));
                (
                    EncodingKey::from_ed_der(der.as_ref()),
                    decoding.map_err(|_| unusable(()))?,
                )
            }
            Self::Rsa { n, e, private } => {
                RsaKeyPair::from_components(&KeyPairComponents {
                    public_key: PublicKeyComponents { n, e },
                    d: &private.d[..],
                    p: &private.p[..],
                    q: &private.q[..],
                    dP: &private.dp[..],
                    dQ: &private.dq[..],
                    qInv: &private.qi[..],
                })
                .map_err(mismatch)?;
                let der = rsa_to_pkcs1(n, e, private).map_err(|_| unusable(()))?;
                (
                    EncodingKey::from_rsa_der(der.as_bytes()),
                    DecodingKey::from_rsa_raw_components(n, e),
                )
            }
        })
    }
}

fn rsa_to_pkcs1(
    n: &[u8],
    e: &[u8],
    private: &RsaNumbers,
) -> Result<SecretDocument, pkcs8::der::Error> {
    let key = RsaPrivateKeyRef {
        modulus: UintRef::new(n)?,
        public_exponent: UintRef::new(e)?,
        private_exponent: UintRef::new(&private.d)?,
        prime1: UintRef::new(&private.p)?,
        prime2: UintRef::new(&private.q)?,
        exponent1: UintRef::new(&private.dp)?,
        exponent2: UintRef::new(&private.dq)?,
        coefficient: UintRef::new(&private.qi)?,
        other_prime_infos: None,
    };
    SecretDocument::encode_msg(&key)
}

fn rsa_from_pkcs8(der: &[u8]) -> Option<Material> {
    let info = PrivateKeyInfoRef::from_der(der).ok()?;
    let key = RsaPrivateKeyRef::from_der(info.private_key.as_bytes()).ok()?;
    let secret = |number: UintRef| Zeroizing::new(number.as_bytes().to_vec());
    Some(Material::Rsa {
        n: key.modulus.as_bytes().to_vec(),
        e: key.public_exponent.as_bytes().to_vec(),
        private: Box::new(RsaNumbers {
            d: secret(key.private_exponent),
            p: secret(key.prime1),
            q: secret(key.prime2),
            dp: secret(key.exponent1),
            dq: secret(key.exponent2),
            qi: secret(key.coefficient),
        }),
    })
}
