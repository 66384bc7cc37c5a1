use serde_json::Value;
use supabase_pat_core::introspection::{Active, Claims, Kind, Wanted};
use supabase_pat_core::scope::Scopes;

use crate::input::{fields, text};
use crate::json;

/// What another service is told of a JWT that was verified, and what it may ask for.
///
/// Fields: the payload; the scopes that the service asks for; the scopes of the token.
pub fn introspection(data: &[u8]) {
    let input = text(data);
    let [payload, wanted, granted] = fields(&input);
    told(payload);
    asked(wanted, granted);
}

const TEXTS: [(&str, &str); 8] = [
    ("sub", "sub"),
    ("username", "email"),
    ("role", "role"),
    ("scope", "scope"),
    ("iss", "iss"),
    ("jti", "jti"),
    ("client_id", "client_id"),
    ("aal", "aal"),
];
const ALL: [&str; 17] = [
    "active",
    "token_type",
    "kind",
    "sub",
    "username",
    "role",
    "scope",
    "exp",
    "iat",
    "iss",
    "aud",
    "jti",
    "client_id",
    "name",
    "attributes",
    "is_anonymous",
    "aal",
];

fn told(payload: &str) {
    let Some(claims) = Claims::parse(payload) else {
        return;
    };
    let members = json::unique_members(payload).expect("no name stands twice");
    let answer = Active::of_claims(Kind::Jwt, &claims)
        .to_json()
        .expect("it can be written");
    let told: Value = serde_json::from_str(&answer).expect("it is JSON");
    let told = told.as_object().expect("it is an object");
    assert_eq!(
        (&told["active"], &told["kind"]),
        (&Value::Bool(true), &Value::from("jwt"))
    );
    for (name, value) in told {
        assert!(ALL.contains(&name.as_str()), "{name}");
        assert!(!value.is_null());
    }
    let read = |claim: &str| {
        members
            .get(claim)
            .and_then(|text| serde_json::from_str::<Value>(text).ok())
    };
    for (name, claim) in TEXTS {
        let text = read(claim).filter(|value| value.as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(told.get(name), text.as_ref(), "{name}");
    }
    for name in ["exp", "iat"] {
        let is_number = members
            .get(name)
            .is_some_and(|text| text.starts_with(|c: char| c == '-' || c.is_ascii_digit()));
        assert_eq!(told.get(name).is_some(), is_number, "{name}");
        assert!(
            told.get(name)
                .is_none_or(|value| value.is_i64() || value.is_u64())
        );
    }
    if let Some(audience) = told.get("aud") {
        assert!(
            audience.is_string()
                || audience
                    .as_array()
                    .is_some_and(|all| all.iter().all(Value::is_string))
        );
    }
    assert!(told.get("is_anonymous").is_none_or(Value::is_boolean));
    assert!(
        !told.contains_key("attributes") && !told.contains_key("name"),
        "they are those of the row"
    );
    assert!(
        !claims.are_of_a_login("authenticated")
            || ["sub", "session_id", "role"]
                .iter()
                .any(|name| members.contains_key(*name))
    );
}

fn asked(wanted: &str, granted: &str) {
    let Ok(read) = Wanted::parse(wanted) else {
        return;
    };
    // Each is granted by itself, and all of them together by what is granted one by one.
    for scopes in [
        Scopes::from_claim(granted),
        Scopes::Unlimited,
        Scopes::from_claim(""),
    ] {
        let one_by_one = wanted.split(' ').all(|one| {
            Wanted::parse(one)
                .expect("it is one of them")
                .are_granted_by(&scopes)
        });
        assert_eq!(read.are_granted_by(&scopes), one_by_one);
    }
    assert!(
        !read.are_granted_by(&Scopes::from_claim("")),
        "a list of none grants nothing"
    );
    assert!(
        read.are_granted_by(&Scopes::from_claim(wanted)) || wanted.contains('*'),
        "{wanted}"
    );
}
