use supabase_pat_core::error::Error;
use supabase_pat_core::pgjwt::{HmacKey, algorithm_sign, sign, url_decode, url_encode, verify};

use crate::input::{backwards, changed, fields, optional, places, text};
use crate::json;

/// Fields: the secret; the algorithm; the payload, which is signed; a text that is verified and
/// decoded as it is.
pub fn pgjwt(data: &[u8]) {
    const NOW: f64 = 1_700_000_000.0;
    let input = text(data);
    let [secret, algorithm, payload, raw] = fields(&input);
    let is_hmac = ["HS256", "HS384", "HS512"].contains(&algorithm);

    let key = HmacKey { secret, algorithm };
    let signed = sign(payload, key);
    assert_eq!(signed.is_ok(), is_hmac && !secret.is_empty());
    assert_eq!(algorithm_sign(payload, key).is_ok(), signed.is_ok());
    match signed {
        Err(error) => {
            let secret = &backwards(secret);
            let other_key = HmacKey { secret, algorithm };
            let other = sign(payload, other_key).err();
            assert!(other.is_some_and(|other| says_the_same(&error, &other)));
        }
        Ok(token) => match verify(&token, Some(key), NOW) {
            Err(error) => {
                assert!(matches!(error, Error::NotText) && payload.contains('\0'));
            }
            Ok(verdict) => {
                assert_eq!(verdict.payload.as_deref(), Some(payload));
                assert_eq!(
                    json::members(&verdict.header),
                    Some(vec![
                        ("alg".into(), format!("\"{algorithm}\"")),
                        ("typ".into(), "\"JWT\"".into())
                    ])
                );
                let is_valid = verdict.is_valid.expect("there is a secret");
                if let Some(expected) = is_within_its_time(payload, NOW) {
                    assert_eq!(is_valid, expected);
                }
                never_verifies(&token, secret, algorithm, data);
            }
        },
    }

    let verify_raw = |secret| {
        let key = optional(secret).map(|secret| HmacKey { secret, algorithm });
        verify(raw, key, NOW)
    };
    if let Err(error) = verify_raw(secret) {
        let other = verify_raw(&backwards(secret)).err();
        assert!(other.is_some_and(|other| says_the_same(&error, &other)));
    }
    decodes_as_postgres(raw);
    decodes_as_postgres(secret);
    assert_eq!(
        url_decode(&url_encode(data)).expect("what is encoded is decoded"),
        data
    );
}

fn never_verifies(token: &str, secret: &str, algorithm: &str, data: &[u8]) {
    let is_valid = |token: &str, secret: &str, algorithm: &str| {
        verify(token, Some(HmacKey { secret, algorithm }), 1_700_000_000.0)
            .is_ok_and(|verdict| verdict.is_valid == Some(true))
    };
    for place in places(data, token.len()) {
        assert!(!is_valid(&changed(token, place), secret, algorithm));
        assert!(!is_valid(&token[..place], secret, algorithm));
    }
    assert!(!is_valid(&format!("{token}="), secret, algorithm));
    assert!(!is_valid(&format!("{token}."), secret, algorithm));
    assert!(!is_valid(token, &format!("{secret}x"), algorithm));
    for other in ["HS256", "HS384", "HS512", "none", ""] {
        assert!(other == algorithm || !is_valid(token, secret, other));
    }
}

/// What pgjwt makes of `nbf` and `exp`. `None` where this reading has no opinion.
fn is_within_its_time(payload: &str, now: f64) -> Option<bool> {
    let claims = json::plain(payload)?;
    let date = |name: &str| match &claims[name] {
        serde_json::Value::Null => Some(None),
        serde_json::Value::Number(number) => number.as_f64().map(Some),
        _ => None,
    };
    let (start, end) = (date("nbf")?, date("exp")?);
    Some(start.is_none_or(|start| start <= now) && end.is_none_or(|end| now < end))
}

fn says_the_same(error: &Error, other: &Error) -> bool {
    error.to_string() == other.to_string() && error.hint() == other.hint()
}

/// What is decoded here is what pgjwt's `url_decode` gives, and what has no padding is decoded here if
/// it is there.
fn decodes_as_postgres(text: &str) {
    let here = url_decode(text).ok();
    let there = by_postgres(text);
    if here.is_some() || !text.contains('=') {
        assert_eq!(here, there, "{text:?}");
    }
}

/// pgjwt pads by the length and leaves the rest to Postgres, whose `pg_base64_decode` this is.
fn by_postgres(text: &str) -> Option<Vec<u8>> {
    let length = text.chars().count();
    let padding = if length.is_multiple_of(4) {
        0
    } else {
        4 - length % 4
    };
    let (mut bytes, mut buffer, mut place, mut end) = (Vec::new(), 0_u32, 0, 0);
    for c in text.chars().chain(std::iter::repeat_n('=', padding)) {
        let digit = match c {
            ' ' | '\t' | '\n' | '\r' => continue,
            '=' => {
                if end == 0 {
                    end = match place {
                        2 => 1,
                        3 => 2,
                        _ => return None,
                    };
                }
                0
            }
            'A'..='Z' => c as u32 - 'A' as u32,
            'a'..='z' => c as u32 - 'a' as u32 + 26,
            '0'..='9' => c as u32 - '0' as u32 + 52,
            '+' | '-' => 62,
            '/' | '_' => 63,
            _ => return None,
        };
        buffer = (buffer << 6) | digit;
        place += 1;
        if place == 4 {
            bytes.push((buffer >> 16) as u8);
            if end == 0 || end > 1 {
                bytes.push((buffer >> 8) as u8);
            }
            if end == 0 || end > 2 {
                bytes.push(buffer as u8);
            }
            (buffer, place) = (0, 0);
        }
    }
    (place == 0).then_some(bytes)
}
