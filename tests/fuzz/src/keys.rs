//! Keys of each algorithm that are the same in every run. Those with key pairs are the examples of
//! RFC 7515 (appendix A) and RFC 8037 (appendix A), as in `tests/vectors/rfc.json`.

use std::rc::Rc;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use serde_json::{Value, json};
use supabase_pat_core::signing_key::{KeyId, SigningKey};

/// The secret that is configured, as text.
pub const SECRET: &str =
    "the-secret-of-the-fuzz-targets-is-long-enough-for-any-of-HS256-HS384-HS512";
/// Somebody else's.
pub const OTHER_SECRET: &str =
    "another-secret-that-nobody-has-configured-here-but-just-as-long-as-the-first";

pub const NAMES: [&str; 7] = ["h1", "h2", "h3", "h5", "e1", "d1", "r1"];

thread_local! {
    static KEYS: Vec<Rc<SigningKey>> = NAMES.into_iter().map(|name| Rc::new(make(name))).collect();
}

/// A key by its name, which is its id: h1, h2 (HS256), h3 (HS384), h5 (HS512), e1 (ES256),
/// d1 (EdDSA), r1 (RS256).
pub fn named(name: &str) -> Option<Rc<SigningKey>> {
    let place = NAMES.iter().position(|known| *known == name)?;
    Some(KEYS.with(|keys| keys[place].clone()))
}

pub fn key(name: &str) -> Rc<SigningKey> {
    named(name).expect("there is a key of that name")
}

fn make(name: &str) -> SigningKey {
    let vectors: Value =
        serde_json::from_str(include_str!("../../vectors/rfc.json")).expect("the vectors are JSON");
    let of_rfc = |kty: &str| {
        let mut found = vectors
            .as_array()
            .expect("the vectors are a list")
            .iter()
            .map(|vector| vector["jwk"].clone());
        found
            .find(|jwk| jwk["kty"] == kty)
            .expect("there is a vector of that type")
    };
    let shared =
        |alg: &str, secret: &str| json!({"kty": "oct", "alg": alg, "k": BASE64URL.encode(secret)});
    let jwk = match name {
        "h1" => shared("HS256", SECRET),
        "h2" => shared("HS256", OTHER_SECRET),
        "h3" => shared("HS384", SECRET),
        "h5" => shared("HS512", SECRET),
        "e1" => of_rfc("EC"),
        "d1" => of_rfc("OKP"),
        _ => of_rfc("RSA"),
    };
    SigningKey::from_jwk(&jwk.to_string(), || KeyId::new(name)).expect("the key is right")
}

/// Signs any header and payload with a key of that name, whatever the header says, without the core.
pub fn sign(header: &str, payload: &str, name: &str) -> String {
    let message = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload));
    let signature = signature(&message, name);
    format!("{message}.{signature}")
}

/// The signature of a message, as base64url.
pub fn signature(message: &str, name: &str) -> String {
    SIGNERS.with(|signers| {
        let place = NAMES.iter().position(|known| *known == name);
        let signer = &signers[place.expect("there is a key of that name")];
        BASE64URL.encode(signer.sign(message.as_bytes()))
    })
}

thread_local! {
    static SIGNERS: Vec<Signer> = NAMES.into_iter().map(Signer::new).collect();
}

enum Signer {
    Hmac(Box<hmac::Key>),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    fn new(name: &str) -> Self {
        let private: Value = serde_json::from_str(&key(name).private_jwk()).expect("a JWK is JSON");
        let number = |member: &str| -> Vec<u8> {
            let text = private[member].as_str().expect("the member is there");
            BASE64URL.decode(text).expect("it is base64url")
        };
        let shared = |algorithm| Self::Hmac(Box::new(hmac::Key::new(algorithm, &number("k"))));
        match name {
            "h1" | "h2" => shared(hmac::HMAC_SHA256),
            "h3" => shared(hmac::HMAC_SHA384),
            "h5" => shared(hmac::HMAC_SHA512),
            "e1" => {
                let point = [vec![4], number("x"), number("y")].concat();
                let pair = EcdsaKeyPair::from_private_key_and_public_key(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    &number("d"),
                    &point,
                );
                Self::Ecdsa(pair.expect("the key is right"))
            }
            "d1" => Self::Ed25519(
                Ed25519KeyPair::from_seed_and_public_key(&number("d"), &number("x"))
                    .expect("the key is right"),
            ),
            _ => {
                let pair = RsaKeyPair::from_components(&KeyPairComponents {
                    public_key: PublicKeyComponents {
                        n: number("n"),
                        e: number("e"),
                    },
                    d: number("d"),
                    p: number("p"),
                    q: number("q"),
                    dP: number("dp"),
                    dQ: number("dq"),
                    qInv: number("qi"),
                });
                Self::Rsa(Box::new(pair.expect("the key is right")))
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(key) => hmac::sign(key, message).as_ref().to_vec(),
            Self::Ecdsa(pair) => pair
                .sign(&random, message)
                .expect("it signs")
                .as_ref()
                .to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("it signs");
                signature
            }
        }
    }
}
