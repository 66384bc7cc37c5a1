//! Recognising a JWT that has been denied, however it is brought.
//!
//! A token is recognised by what is signed, header and payload: the signature itself can be written in more than one
//! way (the unused bits of its last character, and ECDSA's (r, s) and (r, −s)). It is recognised by its claims too,
//! which the REST server hands over after verifying them: a request may carry two `Authorization` headers, and a server
//! may show one that it has not verified. PostgREST verifies the first and shows the last, which may hold anything.
//!
//! Servers change one thing in the claims: `role` is the role that they have chosen. That may come from anywhere in
//! the payload (PostgREST's `jwt-role-claim-key`), or be the role of requests without a login where there is none. So
//! there is a digest for each `role` that could be made of the payload. One digest that leaves the role out would not
//! do: Supabase's generator makes the keys of `anon` and `service_role` in the same second, with the same claims but
//! for the role, and denying the one must not deny the other.

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde_json::{Map, Value};

use crate::json::Members;

pub type Digest = [u8; 32];

/// The digest of the encoded header and payload of a token. `None` if it does not have three parts.
pub fn digest_of_message(token: &str) -> Option<Digest> {
    let (message, _) = token.rsplit_once('.')?;
    (message.split('.').count() == 2).then(|| digest_of(message))
}

pub(crate) fn digest_of(message: &str) -> Digest {
    bytes(digest(&SHA256, message.as_bytes()))
}

/// The digest of claims as a server hands them over, whatever the order and spelling in which they are written. `None`
/// if they are not a JSON object, or hold a number that a double cannot.
pub fn digest_of_claims(claims: &str, anon_role: &str) -> Option<Digest> {
    let Ok(Value::Object(members)) = serde_json::from_str(claims) else {
        return None;
    };
    Some(digest_with_role(members, None, anon_role))
}

/// The digests of all claims that a server could hand over for a token with this payload; those as they stand come
/// first. `is_role` says whether there is a role of that name. There are none if the payload is not a JSON object, or
/// if a request without a token has the same claims, since nobody can be refused for those.
pub fn digests_of_payload(
    payload: &str,
    anon_role: &str,
    is_role: impl Fn(&str) -> bool,
) -> Vec<Digest> {
    /// More than anybody's payload names.
    const MAX_ROLES: usize = 32;
    let mut digests = Vec::new();
    let mut roles = Vec::new();
    let readings = readings(payload);
    for members in &readings {
        digests.push(digest_with_role(members.clone(), None, anon_role));
        let mut strings = Vec::new();
        members
            .values()
            .for_each(|value| add_strings(value, &mut strings));
        roles.extend(strings.into_iter().filter(|text| is_role(text)));
    }
    // A payload without any of these is an API key. Supabase's anon key may differ from it in role alone; that key is
    // public and stays valid.
    let is_somebodys = readings.iter().any(|members| {
        ["sub", "jti", "session_id"]
            .iter()
            .any(|name| members.contains_key(*name))
    });
    if is_somebodys {
        roles.push(anon_role);
    }
    roles.retain(|&role| is_somebodys || role != anon_role);
    roles.sort_unstable();
    roles.dedup();
    roles.truncate(MAX_ROLES);
    for members in &readings {
        let others = roles
            .iter()
            .map(|role| digest_with_role(members.clone(), Some(role), anon_role));
        digests.extend(others);
    }
    let everybodys = digest_with_role(Map::new(), None, anon_role);
    let mut seen = std::collections::HashSet::new();
    digests.retain(|digest| *digest != everybodys && seen.insert(*digest));
    digests
}

/// The members of a payload, read in both ways where a name stands twice: parsers differ in which value counts.
fn readings(payload: &str) -> Vec<Map<String, Value>> {
    let Ok(Value::Object(last)) = serde_json::from_str(payload) else {
        return Vec::new();
    };
    let mut readings = vec![last];
    if let Ok(members) = Members::parse_lenient(payload)
        && members.has_doubles()
    {
        let mut first = Map::new();
        for (name, value) in members.iter() {
            if let Ok(value) = serde_json::from_str(value.get()) {
                first.entry(name).or_insert(value);
            }
        }
        readings.push(first);
    }
    readings
}

fn add_strings<'a>(value: &'a Value, strings: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => strings.push(text),
        Value::Array(values) => values.iter().for_each(|value| add_strings(value, strings)),
        Value::Object(members) => members
            .values()
            .for_each(|value| add_strings(value, strings)),
        _ => (),
    }
}

/// The digest with another `role`, or with the one that a server adds where there is none.
fn digest_with_role(
    mut members: Map<String, Value>,
    role: Option<&str>,
    anon_role: &str,
) -> Digest {
    match role {
        Some(role) => drop(members.insert("role".into(), role.into())),
        None => drop(members.entry("role").or_insert_with(|| anon_role.into())),
    }
    let mut context = Context::new(&SHA256);
    add(&mut context, &Value::Object(members));
    bytes(context.finish())
}

/// Adds a value with its kind and, where it has parts, their number, so that no two values look alike.
fn add(context: &mut Context, value: &Value) {
    let mut text = |kind: &str, text: &str| {
        context.update(kind.as_bytes());
        context.update(&text.len().to_le_bytes());
        context.update(text.as_bytes());
    };
    match value {
        Value::Null => text("null", ""),
        Value::Bool(value) => text("bool", if *value { "1" } else { "0" }),
        // 1e3, 1000.0 and 1000 are one number. The servers' parsers cannot hold what a double cannot.
        Value::Number(number) => text("number", &number.as_f64().unwrap_or_default().to_string()),
        Value::String(value) => text("string", value),
        Value::Array(values) => {
            text("array", &values.len().to_string());
            for value in values {
                add(context, value);
            }
        }
        Value::Object(members) => {
            text("object", &members.len().to_string());
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            for (name, value) in members {
                add(context, &Value::from(name.as_str()));
                add(context, value);
            }
        }
    }
}

fn bytes(digest: aws_lc_rs::digest::Digest) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Digest {
        digest_of_claims(json, "anon").unwrap()
    }

    #[test]
    fn the_signature_does_not_count() {
        assert_eq!(digest_of_message("a.b.c"), digest_of_message("a.b.d"));
        assert_eq!(digest_of_message("a.b.c"), digest_of_message("a.b."));
        assert_ne!(digest_of_message("a.b.c"), digest_of_message("a.c.c"));
        for text in ["", "a", "a.b", "a.b.c.d", "."] {
            assert!(digest_of_message(text).is_none(), "{text}");
        }
    }

    #[test]
    fn claims_are_the_same_however_they_are_written() {
        let key =
            claims(r#"{"role":"service_role","iss":"supabase","iat":1700000000,"exp":2000000000}"#);
        for same in [
            r#"{ "exp": 2e9, "iat": 1700000000.0, "iss": "sup\u0061base", "role": "service_role" }"#,
            r#"{"iss":"supabase","role":"service_role","iat":1.7e9,"exp":2000000000}"#,
        ] {
            assert_eq!(claims(same), key, "{same}");
        }
    }

    #[test]
    fn other_claims_are_others() {
        // Supabase's generator makes both keys in the same second.
        let key = r#"{"role":"service_role","iss":"supabase","iat":1700000000,"exp":2000000000}"#;
        for other in [
            key.replace("service_role", "anon"),
            key.replace("1700000000", "1700000001"),
            key.replace("1700000000", "\"1700000000\""),
            key.replace("}", r#","ref":null}"#),
            key.replace("supabase", r#"supabase\",\"x"#),
            key.replace(r#""supabase""#, r#"["supabase"]"#),
        ] {
            assert_ne!(claims(&other), claims(key), "{other}");
        }
        assert_ne!(
            claims(r#"{"a":[1,2],"b":[]}"#),
            claims(r#"{"a":[1],"b":[2]}"#)
        );
        assert_ne!(
            claims(r#"{"a":{"b":1},"c":2}"#),
            claims(r#"{"a":{"b":1,"c":2}}"#)
        );
    }

    #[test]
    fn a_role_that_is_missing_is_the_one_that_the_server_adds() {
        assert_eq!(
            claims(r#"{"sub":"x"}"#),
            claims(r#"{"sub":"x","role":"anon"}"#)
        );
        assert_ne!(
            claims(r#"{"sub":"x"}"#),
            claims(r#"{"sub":"x","role":"authenticated"}"#)
        );
    }

    fn payload(json: &str) -> Vec<Digest> {
        let roles = ["anon", "authenticated", "service_role", "supabase"];
        digests_of_payload(json, "anon", |name| roles.contains(&name))
    }

    /// What PostgREST hands over: the payload, with the role that it has chosen.
    fn handed_over(payload: &str, role: &str) -> Digest {
        let mut members: Map<String, Value> = serde_json::from_str(payload).unwrap();
        members.insert("role".into(), role.into());
        claims(&Value::Object(members).to_string())
    }

    #[test]
    fn a_token_is_known_by_its_claims_whichever_role_the_server_chose() {
        let roles =
            r#"{"roles":["x",{"of":"service_role"}],"iss":"supabase","role":"authenticated"}"#;
        assert!(payload(roles).contains(&claims(roles)));
        for role in ["service_role", "authenticated", "supabase"] {
            assert!(payload(roles).contains(&handed_over(roles, role)), "{role}");
        }
        // These are not in it, so no server could choose them.
        assert!(!payload(roles).contains(&handed_over(roles, "x")));
        assert!(!payload(roles).contains(&handed_over(roles, "postgres")));
    }

    #[test]
    fn a_denied_key_does_not_take_its_twin_with_it() {
        let key = r#"{"role":"service_role","iss":"supabase","iat":1700000000,"exp":2000000000}"#;
        let twin = key.replace("service_role", "anon");
        assert!(payload(key).contains(&claims(key)));
        assert!(!payload(key).contains(&claims(&twin)));
        assert!(!payload(&twin).contains(&claims(key)));
        assert!(payload(&twin).contains(&claims(&twin)));
        // Somebody's token has no twin.
        let login = r#"{"sub":"x","app":{"role":"service_role"}}"#;
        assert!(payload(login).contains(&handed_over(login, "anon")));
        assert!(payload(login).contains(&handed_over(login, "service_role")));
    }

    #[test]
    fn nobody_is_refused_for_having_no_token() {
        for everybodys in ["{}", r#"{"role":"anon"}"#] {
            assert!(payload(everybodys).is_empty(), "{everybodys}");
        }
        let bare = r#"{"role":"service_role"}"#;
        assert_eq!(payload(bare), [claims(bare)]);
    }

    #[test]
    fn a_name_that_stands_twice_is_read_both_ways() {
        let doubled = payload(r#"{"sub":"a","role":"service_role","sub":"b"}"#);
        for sub in ["a", "b"] {
            let claims = claims(&format!(r#"{{"sub":"{sub}","role":"service_role"}}"#));
            assert!(doubled.contains(&claims), "{sub}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_payload_never_panics_and_is_known_as_it_stands(
            names in proptest::collection::vec("[a-c]|role|sub", 0..5),
            values in proptest::collection::vec("anon|authenticated|service_role|[a-z]{0,3}", 5),
            text in proptest::prelude::any::<String>(),
        ) {
            payload(&text);
            let members: Map<String, Value> = names.iter().cloned().zip(values.iter().map(|v| v.as_str().into())).collect();
            let json = Value::Object(members.clone()).to_string();
            let all = payload(&json);
            let is_everybodys = claims(&json) == claims("{}");
            proptest::prop_assert_eq!(all.contains(&claims(&json)), !is_everybodys);
            for value in members.values().filter_map(Value::as_str) {
                if ["authenticated", "service_role"].contains(&value) {
                    proptest::prop_assert!(all.contains(&handed_over(&json, value)));
                }
            }
        }
    }

    #[test]
    fn what_is_no_object_has_no_digest() {
        for text in ["", "x", "[]", "1", "null", "{", r#"{"exp":1e999}"#] {
            assert!(digest_of_claims(text, "anon").is_none(), "{text}");
            assert!(payload(text).is_empty(), "{text}");
        }
    }
}
