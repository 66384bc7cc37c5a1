//! Recognising a JWT that has been denied, however it is brought.
//!
//! A token is known by two digests. One is of what is signed, header and payload: the signature itself
//! can be written in more than one way (the unused bits of its last character, and ECDSA's (r, s) and
//! (r, −s)). The other is of the claims, which the REST server hands over after verifying them: a
//! request may carry two `Authorization` headers, and which of them a server shows is not the one
//! that it has verified.

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde_json::Value;

pub type Digest = [u8; 32];

/// Of the encoded header and payload of a token. `None` if there are no three parts.
pub fn digest_of_message(token: &str) -> Option<Digest> {
    let (message, _) = token.rsplit_once('.')?;
    (message.split('.').count() == 2).then(|| digest_of(message))
}

pub(crate) fn digest_of(message: &str) -> Digest {
    bytes(digest(&SHA256, message.as_bytes()))
}

/// Of claims, whatever the order and spelling in which they are written. Servers add the claim `role` where
/// it is missing, so it is taken to be `role` there. `None` if they are no JSON object.
pub fn digest_of_claims(claims: &str, role: &str) -> Option<Digest> {
    let Ok(Value::Object(mut members)) = serde_json::from_str(claims) else {
        return None;
    };
    members.entry("role").or_insert_with(|| role.into());
    let mut context = Context::new(&SHA256);
    add(&mut context, &Value::Object(members));
    Some(bytes(context.finish()))
}

/// Each value with its kind and, where it has parts, their number, so that no two values look alike.
fn add(context: &mut Context, value: &Value) {
    let mut text = |kind: &str, text: &str| {
        context.update(kind.as_bytes());
        context.update(&text.len().to_le_bytes());
        context.update(text.as_bytes());
    };
    match value {
        Value::Null => text("null", ""),
        Value::Bool(value) => text("bool", if *value { "1" } else { "0" }),
        // 1e3, 1000.0 and 1000 are one number. What a double cannot hold, the servers' parsers cannot.
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

    #[test]
    fn what_is_no_object_has_no_digest() {
        for text in ["", "x", "[]", "1", "null", "{"] {
            assert!(digest_of_claims(text, "anon").is_none(), "{text}");
        }
    }
}
