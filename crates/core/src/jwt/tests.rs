use super::*;
use crate::signing_key::KeyId;
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn the_examples_of_the_rfcs_come_out_as_printed() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("../../../../tests/vectors/rfc.json")).unwrap();
    assert_eq!(vectors.len(), 4);
    for vector in vectors {
        let key = SigningKey::from_jwk(&vector["jwk"].to_string(), || KeyId::new("k")).unwrap();
        let token = vector["token"].as_str().unwrap();
        let parsed = Unverified::parse(token).unwrap();
        assert!(parsed.is_signed_by(&key), "{}", vector["name"]);
        let (message, signature) = token.rsplit_once('.').unwrap();
        let ours = BASE64URL.encode(key.signature_of(message.as_bytes()).unwrap());
        assert_eq!(
            ours == signature,
            vector["deterministic"].as_bool().unwrap()
        );
        let changed = token.replacen('.', ".e", 1);
        assert!(!Unverified::parse(&changed).unwrap().is_signed_by(&key));
    }
}

#[test]
fn an_ecdsa_signature_in_der_is_refused() {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let key = SigningKey::generate(KeyId::new("k").unwrap(), Algorithm::Es256).unwrap();
    let jwk: Value = serde_json::from_str(&key.private_jwk()).unwrap();
    let bytes = |name: &str| BASE64URL.decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [vec![4], bytes("x"), bytes("y")].concat();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &bytes("d"),
        &point,
    )
    .unwrap();
    let token = sign(&json!({"exp": 1}), &key).unwrap();
    let message = token.rsplit_once('.').unwrap().0;
    let der = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    let token = format!("{message}.{}", BASE64URL.encode(der));
    assert!(!Unverified::parse(&token).unwrap().is_signed_by(&key));
}

#[test]
fn a_token_of_a_megabyte_is_refused_unread() {
    let long = format!("{}.{}.x", "e".repeat(500_000), "e".repeat(500_000));
    assert!(matches!(
        Unverified::parse(&long),
        Err(Rejection::Malformed(_))
    ));
    assert!(Unverified::parse(&".".repeat(100_000)).is_err());
}

#[test]
fn the_token_of_a_header_is_found() {
    for header in [
        "Bearer a.b.c",
        "bearer  a.b.c",
        " BEARER a.b.c ",
        "Bearer\ta.b.c",
        "bEARER \t a.b.c",
    ] {
        assert_eq!(bearer_token(header), Some("a.b.c"), "{header}");
    }
    for header in [
        "",
        "Bearer",
        "Bearer ",
        "Basic a.b.c",
        "Bearera.b.c",
        "a.b.c",
        "Bearer a b",
        "Bearer\ta\tb",
    ] {
        assert_eq!(bearer_token(header), None, "{header}");
    }
}

#[test]
fn the_payload_of_a_token_that_is_refused_for_anything_else_is_found() {
    let token = |header: &str, payload: &str| {
        format!(
            "{}.{}.x",
            BASE64URL.encode(header),
            BASE64URL.encode(payload)
        )
    };
    for payload in [
        r#"{"exp":1e300}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"role":"x\u0000"}"#,
    ] {
        let token = token(r#"{"alg":"XX","alg":"YY","crit":[]}"#, payload);
        assert!(Unverified::parse(&token).is_err());
        assert_eq!(payload_of_any(&token).as_deref(), Some(payload));
    }
    for bad in [
        String::new(),
        "a.b.c".into(),
        token("{}", "[]"),
        token("[]", "{}"),
        token("{}", "{}") + ".y",
        token("{}", "{}").replace(".x", ""),
    ] {
        assert_eq!(payload_of_any(&bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn any_text_is_taken_apart_without_panic(text in ".*") {
        let _ = Unverified::parse(&text).map(|token| token.expires_at());
    }
}
