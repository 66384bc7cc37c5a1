use super::*;
use crate::claims::{ClaimSettings, Credential, Identity};
use crate::key_ring::{KeyRing, RingKey, VerificationKeys};
use crate::signing_key::KeyId;
use crate::verification::{Checks, Verified};
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

const HERE: Database = Database {
    cluster: 1,
    oid: 2,
    has_debug_code: false,
};

fn token(key: &SigningKey, holder: &Holder) -> String {
    token_of(
        key,
        holder,
        Purpose::Recovery,
        Opener::Code(&code("012345")),
    )
}

fn token_of(key: &SigningKey, holder: &Holder, purpose: Purpose, opener: Opener) -> String {
    let token = NewCodeToken {
        purpose,
        id: ID,
        address: &address("alice@example.com"),
        database: HERE,
        opener,
        digits: 6,
        holder,
        issued_at: NOW,
        expires_at: NOW + 900,
    };
    token.sign(key).unwrap()
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
    assert_eq!(token.digits, 6);
    assert!(token.belongs_to(&code("012345"), &alice, HERE, &key));
    for other in ["012346", "12345", "0012345", "543210"] {
        assert!(!token.belongs_to(&code(other), &alice, HERE, &key));
    }
}

#[test]
fn a_token_of_a_copy_of_the_database_opens_nothing_in_the_original() {
    let key = key("k");
    let alice = holder(Some("hash"));
    let token = read(&token(&key, &alice), &key).unwrap();
    for other in [
        Database { cluster: 2, ..HERE },
        Database { oid: 3, ..HERE },
        Database {
            has_debug_code: true,
            ..HERE
        },
    ] {
        assert!(!token.belongs_to(&code("012345"), &alice, other, &key));
        assert!(other.has_debug_code || other.digest_of(&["a"]) != HERE.digest_of(&["a"]));
    }
}

#[test]
fn what_is_beyond_the_limit_is_opened_by_no_code_and_looks_like_any_other() {
    let key = key("k");
    let alice = holder(Some("hash"));
    // Not even if the random bytes were digits.
    let nothing = || Opener::Nothing(*b"01234567890123456789012345678901");
    let closed = token_of(&key, &alice, Purpose::Recovery, nothing());
    let open = token(&key, &alice);
    assert_eq!(closed.len(), open.len());
    let closed = read(&closed, &key).unwrap();
    assert_eq!(closed.digits, read(&open, &key).unwrap().digits);
    for typed in ["012345", "01234567890123456789012345678901"] {
        assert!(!closed.belongs_to(&code(typed), &alice, HERE, &key));
    }
}

#[test]
fn a_token_dies_with_the_password_and_with_the_holder_of_the_address() {
    let key = key("k");
    let token = read(&token(&key, &holder(Some("old"))), &key).unwrap();
    let code = code("012345");
    assert!(!token.belongs_to(&code, &holder(Some("new")), HERE, &key));
    assert!(!token.belongs_to(&code, &holder(None), HERE, &key));
    assert!(!token.belongs_to(&code, &Holder::nobody(), HERE, &key));
    let another = Holder {
        user: Uuid::from_u128(2),
        password_hash: Some("old".to_owned()),
        is_confirmed: true,
    };
    assert!(!token.belongs_to(&code, &another, HERE, &key));
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
    let keys = VerificationKeys {
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
        "exp": NOW + 900, "digits": 6, "mac": BASE64URL.encode([0; 32]),
    });
    let signed = jwt::sign(&claims, &key).unwrap();
    assert_eq!(read(&signed, &key).err(), Some(Rejection::BadSignature));
    let other_key = self::key("k");
    let other = token(&other_key, &holder(None));
    assert_eq!(read(&other, &key).err(), Some(Rejection::BadSignature));
    let opener = Opener::Code(&code("012345"));
    let of_another_purpose = token_of(&key, &holder(None), Purpose::SignUp, opener);
    let found = read(&of_another_purpose, &key).err();
    assert_eq!(found, Some(Rejection::BadSignature));
    let mut wrong = claims.clone();
    wrong["purpose"] = "signup".into();
    let signed = jwt::sign(&wrong, &token_key(&key, Purpose::Recovery).unwrap()).unwrap();
    assert!(matches!(read(&signed, &key), Err(Rejection::Malformed(_))));
    for name in ["email", "purpose", "jti", "exp", "digits", "mac"] {
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
        ["email", "purpose", "jti", "iat", "exp", "digits", "mac"]
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

proptest! {
    #[test]
    fn any_text_is_read_as_a_token_without_panic(text in any::<String>(), code in any::<String>()) {
        let key = key("k");
        prop_assert!(read(&text, &key).is_err());
        let _ = Code::typed(&code);
    }
}
