use std::sync::LazyLock;

use super::*;
use crate::jwt::{Unverified, sign};
use crypto_bigint::{BoxedUint, Resize};
use proptest::prelude::*;
use serde_json::Value;

const MESSAGE: &[u8] = b"header.payload";
const PRIVATE: [&str; 7] = ["k", "d", "p", "q", "dp", "dq", "qi"];

const NO_OBJECT: &str = "it is no JSON object, or names something twice";
const MISMATCH: &str = "its private and public parts do not match";
const NOT_BASE64URL: &str = "one of its numbers is not base64url";
const UNSUITABLE: &str = "or does not suit its kty";
const BAD_KEY_ID: &str = "a key id must have 1 to 200 printable ASCII characters and no spaces";
const FEW_PRIMES: &str = "one of its private parts p, q, dp, dq and qi is missing";
const NOT_32_BYTES: &str = "its x, y and d must have 32 bytes each";
const LEADING_ZERO: &str = "its n or e begins with a zero byte";

/// One private JWK of each algorithm: making those of RSA takes long.
static GENERATED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let generate = |algorithm| SigningKey::generate(id("the-kid-itself"), algorithm).unwrap();
    Algorithm::ALL
        .map(|algorithm| generate(algorithm).private_jwk().to_string())
        .to_vec()
});

static VECTORS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../../tests/vectors/rfc.json")).unwrap()
});

fn id(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

fn import(jwk: &str) -> Result<SigningKey, Error> {
    SigningKey::from_jwk(jwk, || Ok(id("given")))
}

fn imported(jwk: &str) -> SigningKey {
    import(jwk).unwrap_or_else(|error| panic!("{error}"))
}

fn generated(algorithm: Algorithm) -> SigningKey {
    let place = Algorithm::ALL.iter().position(|other| *other == algorithm);
    imported(&GENERATED[place.unwrap()])
}

/// The JWK of an RFC that has this type.
fn example(kty: &str) -> Value {
    let mut jwks = VECTORS.iter().map(|vector| &vector["jwk"]);
    jwks.find(|jwk| jwk["kty"] == kty).unwrap().clone()
}

/// An example with other members in it; `null` takes one away.
fn changed(kty: &str, changes: Value) -> String {
    let mut jwk = example(kty);
    let members = jwk.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => members.remove(name),
            value => members.insert(name.clone(), value.clone()),
        };
    }
    jwk.to_string()
}

fn bytes(jwk: &Value, name: &str) -> Vec<u8> {
    BASE64URL.decode(jwk[name].as_str().unwrap()).unwrap()
}

fn has_signed(signer: &SigningKey, verifier: &SigningKey) -> bool {
    verifier.has_signed(MESSAGE, &signer.signature_of(MESSAGE).unwrap())
}

fn names(jwk: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = jwk.as_object().unwrap().keys().map(|n| &**n).collect();
    names.sort_unstable();
    names
}

/// Whether 12 characters of a private member stand in an error.
fn tells_of(jwk: &Value, error: &Error) -> bool {
    let words = format!("{error} {error:?}");
    let values = PRIVATE.iter().filter_map(|name| jwk[*name].as_str());
    values
        .flat_map(|value| value.as_bytes().windows(12))
        .any(|piece| words.contains(std::str::from_utf8(piece).unwrap()))
}

#[test]
fn a_key_comes_back_from_its_private_jwk_as_it_was() {
    for algorithm in Algorithm::ALL {
        let key = SigningKey::generate(id("a"), algorithm).unwrap();
        let again = SigningKey::from_jwk(&key.private_jwk(), || unreachable!()).unwrap();
        assert_eq!(again.id(), Some("a"));
        assert_eq!(again.algorithm(), algorithm);
        assert_eq!(*again.private_jwk(), *key.private_jwk());
        assert_eq!(again.public_jwk(), key.public_jwk());
        assert_eq!(again.verifying_jwk(), key.verifying_jwk());
        assert!(has_signed(&key, &again) && has_signed(&again, &key));
        assert!(!has_signed(&key, &generated(algorithm)), "{algorithm}");
    }
}

#[test]
fn a_public_jwk_has_what_verifiers_need_and_nothing_private() {
    for (algorithm, members) in [
        (
            Algorithm::Es256,
            &["alg", "crv", "key_ops", "kid", "kty", "use", "x", "y"][..],
        ),
        (
            Algorithm::Rs256,
            &["alg", "e", "key_ops", "kid", "kty", "n", "use"],
        ),
        (
            Algorithm::EdDsa,
            &["alg", "crv", "key_ops", "kid", "kty", "use", "x"],
        ),
    ] {
        let key = generated(algorithm);
        let jwk = key.public_jwk().unwrap();
        assert_eq!(names(&jwk), members);
        assert_eq!(jwk["alg"], algorithm.as_str());
        assert_eq!(jwk["kid"], "the-kid-itself");
        assert_eq!(jwk["use"], "sig");
        assert_eq!(jwk["key_ops"], json!(["verify"]));
        assert_eq!(key.verifying_jwk(), jwk);
        assert!(key.secret().is_none());
    }
}

#[test]
fn a_shared_secret_has_no_public_jwk_and_is_in_the_one_for_verifying() {
    for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
        let key = generated(algorithm);
        assert_eq!(key.public_jwk(), None);
        let jwk = key.verifying_jwk();
        assert_eq!(
            names(&jwk),
            ["alg", "k", "key_ops", "kid", "kty", "use"],
            "{algorithm}"
        );
        assert_eq!(jwk["key_ops"], json!(["verify"]));
        assert_eq!(bytes(&jwk, "k"), key.secret().unwrap().expose());
    }
}

#[test]
fn the_keys_of_the_rfcs_are_imported_with_the_algorithm_of_their_type() {
    for vector in VECTORS.iter() {
        let jwk = &vector["jwk"];
        let key = imported(&jwk.to_string());
        let algorithm = match jwk["kty"].as_str().unwrap() {
            "oct" => Algorithm::Hs256,
            "EC" => Algorithm::Es256,
            "OKP" => Algorithm::EdDsa,
            _ => Algorithm::Rs256,
        };
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(key.id(), Some("given"));

        let stored: Value = serde_json::from_str(&key.private_jwk()).unwrap();
        for (name, value) in jwk.as_object().unwrap() {
            assert_eq!(stored[name], *value, "{name} of {}", vector["name"]);
        }
        let token = Unverified::parse(vector["token"].as_str().unwrap()).unwrap();
        assert!(token.is_signed_by(&imported(&stored.to_string())));
    }
}

#[test]
fn a_jwk_may_say_what_it_is_for() {
    for changes in [
        json!({"use": "sig"}),
        json!({"key_ops": ["verify", "sign"]}),
        json!({"alg": "HS512", "ext": true, "x5c": [1]}),
        json!({"kid": "own"}),
    ] {
        assert!(import(&changed("oct", changes)).is_ok());
    }
    let key = imported(&changed("oct", json!({"kid": "own", "alg": "HS384"})));
    assert_eq!(key.id(), Some("own"));
    assert_eq!(key.algorithm(), Algorithm::Hs384);
}

#[test]
fn malformed_jwks_are_refused_with_what_is_wrong_and_without_their_values() {
    let (rsa, ec, okp) = (example("RSA"), example("EC"), example("OKP"));
    let other = |algorithm: Algorithm| -> Value {
        serde_json::from_str(&generated(algorithm).private_jwk()).unwrap()
    };
    let (other_rsa, other_ec, other_okp) = (
        other(Algorithm::Rs256),
        other(Algorithm::Es256),
        other(Algorithm::EdDsa),
    );
    let text = |bytes: &[u8]| BASE64URL.encode(bytes);
    let after_zeros = |count, bytes: &[u8]| text(&[&vec![0; count], bytes].concat());
    let n = bytes(&rsa, "n");
    let k = bytes(&example("oct"), "k");
    let d = bytes(&ec, "d");
    let padded = format!("{}=", ec["x"].as_str().unwrap());
    let doubled = |name: &str| {
        let member = format!(r#"{{"{name}":"a-second-value","#);
        changed("oct", json!({"kid": "the-kid-itself"})).replacen('{', &member, 1)
    };

    for (jwk, words) in [
        ("".to_owned(), NO_OBJECT),
        ("[]".to_owned(), NO_OBJECT),
        ("null".to_owned(), NO_OBJECT),
        (ec["d"].to_string(), NO_OBJECT),
        (json!([ec]).to_string(), NO_OBJECT),
        (doubled("k"), NO_OBJECT),
        (doubled("kid"), NO_OBJECT),
        (doubled("\\u006b"), NO_OBJECT),
        (changed("oct", json!({"kid": "a\0b"})), NO_OBJECT),
        (changed("oct", json!({"x\0": "an-extension"})), NO_OBJECT),
        (json!({"keys": [ec]}).to_string(), "it is a set of keys"),
        (changed("EC", json!({"kty": null})), "its kty is none of"),
        (changed("EC", json!({"kty": "DSA"})), "its kty is none of"),
        (changed("oct", json!({"kty": "OCT"})), "its kty is none of"),
        (changed("EC", json!({"kty": 1})), "its kty is not a string"),
        (
            changed("EC", json!({"alg": ["ES-256"]})),
            "its alg is not a string",
        ),
        (changed("EC", json!({"d": null})), "it is a public key"),
        (changed("OKP", json!({"d": null})), "it is a public key"),
        (changed("RSA", json!({"d": null})), "it is a public key"),
        // RSA
        (
            changed("RSA", json!({"n": text(&n[..128])})),
            "its modulus has less than 2048 bits",
        ),
        (
            changed("RSA", json!({"n": text(&[&[0x7f], &n[1..]].concat())})),
            "its modulus has less than 2048 bits",
        ),
        (
            changed("RSA", json!({"n": after_zeros(1, &n)})),
            LEADING_ZERO,
        ),
        (
            changed("RSA", json!({"n": after_zeros(128, &n[..128])})),
            LEADING_ZERO,
        ),
        (
            changed("RSA", json!({"n": ""})),
            "its modulus has less than 2048 bits",
        ),
        (
            changed("RSA", json!({"e": text(&[3])})),
            "its exponent is smaller than 65537",
        ),
        (
            changed("RSA", json!({"e": text(&[1, 0, 0])})),
            "its exponent is smaller than 65537",
        ),
        (
            changed("RSA", json!({"e": ""})),
            "its exponent is smaller than 65537",
        ),
        (
            changed("RSA", json!({"e": after_zeros(3, &[3])})),
            LEADING_ZERO,
        ),
        (
            changed("RSA", json!({"n": null})),
            "one of its public parts is missing",
        ),
        (
            changed("RSA", json!({"e": null})),
            "one of its public parts is missing",
        ),
        (changed("RSA", json!({"p": null})), FEW_PRIMES),
        (changed("RSA", json!({"q": null})), FEW_PRIMES),
        (changed("RSA", json!({"dp": null})), FEW_PRIMES),
        (changed("RSA", json!({"dq": null})), FEW_PRIMES),
        (changed("RSA", json!({"qi": null})), FEW_PRIMES),
        (
            changed("RSA", json!({"oth": []})),
            "it has more than two primes",
        ),
        (
            changed("RSA", json!({"dp": rsa["dq"], "dq": rsa["dp"]})),
            MISMATCH,
        ),
        (
            changed("RSA", json!({"p": rsa["q"], "q": rsa["p"]})),
            MISMATCH,
        ),
        (changed("RSA", json!({"d": other_rsa["d"]})), MISMATCH),
        (changed("RSA", json!({"n": other_rsa["n"]})), MISMATCH),
        (changed("RSA", json!({"n": text(&n.repeat(40))})), MISMATCH),
        (changed("RSA", json!({"qi": ""})), MISMATCH),
        (changed("RSA", json!({"e": text(&[1, 0, 3])})), MISMATCH),
        (changed("RSA", json!({"e": text(&[0xff; 300])})), MISMATCH),
        (changed("RSA", json!({"d": "+/"})), NOT_BASE64URL),
        (changed("RSA", json!({"alg": "PS256"})), UNSUITABLE),
        (changed("RSA", json!({"alg": "HS256"})), UNSUITABLE),
        // EC
        (
            changed("EC", json!({"crv": "P-384"})),
            "its crv is not P-256",
        ),
        (
            changed("EC", json!({"crv": "secp256k1"})),
            "its crv is not P-256",
        ),
        (changed("EC", json!({"crv": null})), "its crv is not P-256"),
        (
            changed("EC", json!({"crv": 256})),
            "its crv is not a string",
        ),
        (changed("EC", json!({"y": other_ec["y"]})), MISMATCH),
        (changed("EC", json!({"d": other_ec["d"]})), MISMATCH),
        (
            changed("EC", json!({"x": other_ec["x"], "y": other_ec["y"]})),
            MISMATCH,
        ),
        (changed("EC", json!({"d": text(&[0; 32])})), MISMATCH),
        (changed("EC", json!({"d": text(&[0xff; 32])})), MISMATCH),
        (
            changed("EC", json!({"x": text(&[0; 32]), "y": text(&[0; 32])})),
            MISMATCH,
        ),
        (changed("EC", json!({"d": text(&d[1..])})), NOT_32_BYTES),
        (
            changed("EC", json!({"d": after_zeros(1, &d)})),
            NOT_32_BYTES,
        ),
        (changed("EC", json!({"x": ""})), NOT_32_BYTES),
        (changed("EC", json!({"x": padded})), NOT_BASE64URL),
        (
            changed("EC", json!({"x": "in ordinary words"})),
            NOT_BASE64URL,
        ),
        (changed("EC", json!({"x": 123_456})), NOT_BASE64URL),
        (
            changed("EC", json!({"y": null})),
            "one of its public parts is missing",
        ),
        (changed("EC", json!({"alg": "RS256"})), UNSUITABLE),
        // OKP
        (
            changed("OKP", json!({"crv": "X25519"})),
            "its crv is not Ed25519",
        ),
        (
            changed("OKP", json!({"crv": "Ed448"})),
            "its crv is not Ed25519",
        ),
        (changed("OKP", json!({"x": other_okp["x"]})), MISMATCH),
        (changed("OKP", json!({"d": other_okp["d"]})), MISMATCH),
        (changed("OKP", json!({"d": okp["x"]})), MISMATCH),
        (
            changed("OKP", json!({"d": text(&[0x55; 64])})),
            "its x and d must have 32 bytes each",
        ),
        (changed("OKP", json!({"alg": "Ed25519"})), UNSUITABLE),
        // oct
        (
            changed("oct", json!({"alg": "HS512", "k": text(&k[1..])})),
            "the secret from the JWK has 63 bytes, and HS512 needs at least 64",
        ),
        (
            changed("oct", json!({"k": text(&k[..31])})),
            "the secret from the JWK has 31 bytes, and HS256 needs at least 32",
        ),
        (
            changed("oct", json!({"k": ""})),
            "the secret from the JWK has 0 bytes",
        ),
        (changed("oct", json!({"k": null})), "its k is missing"),
        (
            changed("oct", json!({"k": "a secret in plain text"})),
            "its k is not base64url",
        ),
        (changed("oct", json!({"alg": "ES256"})), UNSUITABLE),
        (changed("oct", json!({"alg": "none"})), UNSUITABLE),
        // Use and name
        (changed("EC", json!({"use": "enc"})), "its use is not sig"),
        (
            changed("EC", json!({"use": ["signing"]})),
            "its use is not a string",
        ),
        (
            changed("EC", json!({"key_ops": ["verify"]})),
            "its key_ops leave out sign",
        ),
        (
            changed("EC", json!({"key_ops": []})),
            "its key_ops leave out sign",
        ),
        (
            changed("EC", json!({"key_ops": "sign"})),
            "its key_ops are not a list of strings",
        ),
        (
            changed("EC", json!({"key_ops": ["sign", 1]})),
            "its key_ops are not a list of strings",
        ),
        (
            changed("EC", json!({"kid": 2026})),
            "its kid is not a string",
        ),
        (changed("EC", json!({"kid": ""})), BAD_KEY_ID),
        (changed("EC", json!({"kid": "my key"})), BAD_KEY_ID),
        (changed("EC", json!({"kid": "cl\u{e9}"})), BAD_KEY_ID),
        (changed("EC", json!({"kid": "x".repeat(201)})), BAD_KEY_ID),
    ] {
        let Err(error) = import(&jwk) else {
            panic!("accepted, and should not: {words}");
        };
        assert!(error.to_string().contains(words), "{error}, not: {words}");
        let told = format!("{error} {error:?}");
        for value in values(&jwk) {
            assert!(!told.contains(&value), "{error} repeats {value}");
        }
    }
}

/// The texts in a JWK but for the words of the standards, which messages may hold.
fn values(jwk: &str) -> Vec<String> {
    fn collect(value: &Value, values: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.values().for_each(|value| collect(value, values)),
            Value::Array(items) => items.iter().for_each(|value| collect(value, values)),
            Value::String(text) => values.push(text.clone()),
            _ => (),
        }
    }
    const WORDS: [&str; 12] = [
        "", "oct", "EC", "OKP", "RSA", "P-256", "Ed25519", "HS256", "HS512", "ES256", "RS256",
        "sign",
    ];
    let mut values = Vec::new();
    if let Ok(jwk) = serde_json::from_str(jwk) {
        collect(&jwk, &mut values);
    }
    values.retain(|value| !WORDS.contains(&value.as_str()));
    values
}

#[test]
fn a_private_number_in_the_place_of_another_member_is_not_repeated() {
    for kty in ["oct", "EC", "OKP", "RSA"] {
        let jwk = example(kty);
        let private = jwk[if kty == "oct" { "k" } else { "d" }].as_str().unwrap();
        let spaced = format!(" {private}");
        for name in ["kty", "crv", "alg", "use", "key_ops", "kid", "x", "n", "e"] {
            for value in [
                json!(private),
                json!(spaced),
                json!([private]),
                json!({private: private}),
            ] {
                if let Err(error) = import(&changed(kty, json!({name: value}))) {
                    assert!(!tells_of(&jwk, &error), "{error}");
                }
            }
        }
    }
}

/// Why a key from elsewhere is refused, if it is.
fn refusal(jwk: &str) -> Option<String> {
    let key = imported(jwk);
    key.require_strong_when_new(false)
        .err()
        .map(|error| error.to_string())
}

#[test]
fn keys_that_are_made_well_are_taken() {
    for jwk in &*GENERATED {
        assert_eq!(refusal(jwk), None);
    }
    for vector in &*VECTORS {
        assert_eq!(refusal(&vector["jwk"].to_string()), None);
    }
}

#[test]
fn keys_that_are_hardly_random_are_refused_unless_that_is_allowed() {
    let text = |bytes: &[u8]| BASE64URL.encode(bytes);
    let example = b"super-secret-jwt-token-with-at-least-32-characters-long";
    for (k, weakness) in [
        (
            text(&[0; 32]),
            "the new key is made of a few bytes that repeat",
        ),
        (
            text(&b"secret".repeat(20)),
            "the new key is made of a few bytes that repeat",
        ),
        (
            text(example),
            "the new key is the public example secret of the Supabase CLI, which everybody knows",
        ),
    ] {
        let jwk = json!({"kty": "oct", "k": k}).to_string();
        assert_eq!(refusal(&jwk).as_deref(), Some(weakness));
        assert!(imported(&jwk).require_strong(false).is_err());
        assert!(imported(&jwk).require_strong(true).is_ok());
        assert!(imported(&jwk).require_strong_when_new(true).is_ok());
    }
    // The seed of zeros, and the private key 1, whose public key is the generator of the curve.
    let pair = Ed25519KeyPair::from_seed_unchecked(&[0; 32]).unwrap();
    let seed = json!({
        "kty": "OKP", "crv": "Ed25519", "d": text(&[0; 32]), "x": text(pair.public_key().as_ref()),
    });
    let one = json!({
        "kty": "EC", "crv": "P-256", "d": text(&[&[0; 31][..], &[1]].concat()),
        "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY", "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
    });
    for jwk in [seed, one] {
        assert!(refusal(&jwk.to_string()).is_some());
    }
}

/// A key whose numbers belong together, whatever its factors are.
fn rsa_of(p: &BoxedUint, q: &BoxedUint) -> String {
    let bits = 2048;
    let (p, q) = (p.resize(bits), q.resize(bits));
    let one = BoxedUint::one_with_precision(bits);
    let (p1, q1) = (p.wrapping_sub(&one), q.wrapping_sub(&one));
    let e = BoxedUint::from(65537u64).resize(bits);
    let odd = |number: &BoxedUint| crypto_bigint::NonZero::new(number.clone()).unwrap();
    let phi = p1.wrapping_mul(&q1);
    let d = e.invert_mod(&odd(&phi)).unwrap();
    let text = |number: &BoxedUint| {
        let bytes = number.to_be_bytes();
        let start = bytes.iter().take_while(|byte| **byte == 0).count();
        json!(BASE64URL.encode(&bytes[start..]))
    };
    let rem = |number: &BoxedUint, of: &BoxedUint| number.rem_vartime(&odd(of));
    json!({
        "kty": "RSA", "n": text(&p.wrapping_mul(&q)), "e": text(&e), "d": text(&d), "p": text(&p), "q": text(&q),
        "dp": text(&rem(&d, &p1)), "dq": text(&rem(&d, &q1)), "qi": text(&q.invert_mod(&odd(&p)).unwrap()),
    })
    .to_string()
}

/// The first number after `start`, of so many bits, that is prime, and whose predecessor 65537 does not divide.
fn next_prime(start: &[u8], bits: u32) -> BoxedUint {
    let two = BoxedUint::from(2u64).resize(bits);
    let mut number = BoxedUint::from_be_slice_truncated(start, bits);
    loop {
        number = number.wrapping_add(&two);
        if crypto_primes::is_prime(crypto_primes::Flavor::Any, &number) {
            return number;
        }
    }
}

#[test]
fn moduli_that_can_be_factored_are_refused() {
    let start = |top: u8, length: usize| {
        let mut bytes = vec![0x5a; length];
        (bytes[0], bytes[length - 1]) = (top, 0x01);
        bytes
    };
    let (p, q) = (
        next_prime(&start(0xd1, 128), 1024),
        next_prime(&start(0xe3, 128), 1024),
    );
    assert_eq!(refusal(&rsa_of(&p, &q)), None);

    let close = next_prime(&p.to_be_bytes(), 1024);
    let short = next_prime(&start(0xc1, 8), 64);
    let long = next_prime(&start(0xf1, 248), 1984);
    // Products of two primes, of half the length: with their numbers made as for primes, only a few bases
    // show that they are none.
    for (p, q, words) in [
        (&p, &close, "its primes are too close to each other"),
        (
            &short,
            &long,
            "its primes are not of half the length of its modulus",
        ),
    ] {
        let told = refusal(&rsa_of(p, q)).unwrap();
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn composite_numbers_in_the_place_of_primes_are_refused() {
    // n = p·q·r·s as two products, with d for all four primes, is what RSA_check_key takes.
    let prime = |top: u8| {
        let mut bytes = vec![0x37; 64];
        (bytes[0], bytes[63]) = (top, 0x01);
        next_prime(&bytes, 512)
    };
    let product = |a: &BoxedUint, b: &BoxedUint| a.resize(1024).wrapping_mul(b.resize(1024));
    let (p, q) = (
        product(&prime(0xd1), &prime(0xe3)),
        product(&prime(0xc9), &prime(0xf7)),
    );
    let jwk = rsa_of(&p, &q);
    // Had AWS-LC known, it would not have been read.
    let told = match import(&jwk) {
        Ok(key) => key.require_strong_when_new(true).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(told.contains("its p or q is not a prime"), "{told}");
}

#[test]
fn a_key_id_has_1_to_200_graphic_ascii_characters() {
    let all: String = ('!'..='~').collect();
    for text in ["a", "-", &"x".repeat(200), &all] {
        assert_eq!(KeyId::new(text).unwrap().as_str(), text);
    }
    for text in ["", " ", "a b", "a\n", "a\u{7f}", "\0", "\u{e9}"] {
        assert!(KeyId::new(text).is_err(), "{text:?}");
    }
    assert!(KeyId::new("x".repeat(201)).is_err());
}

#[test]
fn a_key_id_comes_out_of_a_token_as_it_went_in() {
    let all: String = ('!'..='~').collect();
    for text in [r#"a"b\c"#, r#"\"#, r#"","alg":"none"#, &all] {
        let secret = Secret::of_any_length(&[7; 32]);
        let key = SigningKey::shared(Some(id(text)), Algorithm::Hs256, secret).unwrap();
        let token = sign(&json!({}), &key).unwrap();
        let parsed = Unverified::parse(&token).unwrap();
        assert_eq!(parsed.key_id(), Some(text));
        assert_eq!(parsed.algorithm(), Ok(Algorithm::Hs256));
        assert_eq!(imported(&key.private_jwk()).id(), Some(text));
    }
}

proptest! {
    #[test]
    fn any_text_is_imported_without_panic(
        text in any::<String>(),
        almost in "\\{(\"(kty|alg|crv|kid|k|d|x|y|n|e)\":(\"(oct|EC|OKP|RSA|P-256|Ed25519|[A-Za-z0-9_-]{0,60})\"|null|1|\\[\\]),?){0,7}\\}",
    ) {
        for text in [text, almost] {
            if let Ok(key) = import(&text) {
                prop_assert!(has_signed(&key, &key));
            }
        }
    }

    #[test]
    fn a_jwk_with_a_character_changed_is_refused_or_a_sound_key_and_never_told(
        which in 0..Algorithm::ALL.len(),
        at in any::<prop::sample::Index>(),
        to in prop_oneof!["[A-Za-z0-9_=-]?", any::<char>().prop_map(String::from)],
    ) {
        let jwk = &GENERATED[which];
        let at = at.index(jwk.len());
        let changed = format!("{}{to}{}", &jwk[..at], &jwk[at + 1..]);
        match import(&changed) {
            Ok(key) => prop_assert!(has_signed(&key, &key)),
            Err(error) => {
                let original: Value = serde_json::from_str(jwk).unwrap();
                prop_assert!(!tells_of(&original, &error), "{error}");
            }
        }
    }

    #[test]
    fn a_jwk_with_a_piece_missing_is_refused_or_a_sound_key_and_never_told(
        which in 0..Algorithm::ALL.len(),
        start in any::<prop::sample::Index>(),
        length in 1..200usize,
    ) {
        let jwk = &GENERATED[which];
        let start = start.index(jwk.len());
        let end = jwk.len().min(start + length);
        match import(&format!("{}{}", &jwk[..start], &jwk[end..])) {
            Ok(key) => prop_assert!(has_signed(&key, &key)),
            Err(error) => {
                let original: Value = serde_json::from_str(jwk).unwrap();
                prop_assert!(!tells_of(&original, &error), "{error}");
            }
        }
    }
}
