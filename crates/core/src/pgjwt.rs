//! pgjwt's functions, for databases that call them: they make the same tokens from the same text.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;

use crate::algorithm::Algorithm;
use crate::error::Error;
use crate::json::Members;
use crate::secret::Secret;
use crate::signing_key::SigningKey;

/// A shared secret, with the name of the algorithm that it is used by.
#[derive(Clone, Copy)]
pub struct HmacKey<'a> {
    pub secret: &'a str,
    pub algorithm: &'a str,
}

/// Signs a payload as the text that it is.
///
/// # Errors
/// [`Error::NotAnHmac`] for anything but HS256, HS384 and HS512, and [`Error::EmptySecret`].
pub fn sign(payload: &str, key: HmacKey) -> Result<String, Error> {
    crate::jwt::sign_text(payload, &key.to_signing_key()?)
}

/// The signature of what it is given, as base64url.
pub fn algorithm_sign(signables: &str, key: HmacKey) -> Result<String, Error> {
    let signature = key.to_signing_key()?.signature_of(signables.as_bytes())?;
    Ok(BASE64URL.encode(signature))
}

/// What [`verify`] finds. A part that the token does not have is `None`.
pub struct Verdict {
    pub header: String,
    pub payload: Option<String>,
    /// `None` if there is no secret to tell by.
    pub is_valid: Option<bool>,
}

/// Takes a token apart, and tells whether it is signed with the secret by the algorithm, whatever
/// its header says, and `now`, in Unix seconds, is within `nbf` and `exp`.
///
/// # Errors
/// As [`sign`]; and as [`url_decode`] and [`Error::NotText`] for the first two parts.
pub fn verify(token: &str, key: Option<HmacKey>, now: f64) -> Result<Verdict, Error> {
    let key = key.map(HmacKey::to_signing_key).transpose()?;
    let parts: Vec<&str> = token.splitn(4, '.').collect();
    let header = text(parts[0])?;
    let payload = parts.get(1).map(|part| text(part)).transpose()?;
    let is_valid = key.map(|key| match (&parts[..], &payload) {
        ([header, encoded, signature], Some(payload)) => {
            let message = &token[..header.len() + 1 + encoded.len()];
            let is_signed = BASE64URL
                .decode(signature)
                .is_ok_and(|signature| key.has_signed(message.as_bytes(), &signature));
            is_signed && is_within_its_time(payload, now)
        }
        _ => false,
    });
    Ok(Verdict {
        header,
        payload,
        is_valid,
    })
}

fn text(part: &str) -> Result<String, Error> {
    let text = String::from_utf8(url_decode(part)?).map_err(|_| Error::NotText)?;
    match text.contains('\0') {
        true => Err(Error::NotText),
        false => Ok(text),
    }
}

/// base64url without padding.
pub fn url_encode(data: &[u8]) -> String {
    BASE64URL.encode(data)
}

/// The bytes of base64url or ordinary base64, padded or not. So does pgjwt, which pads by the length
/// and leaves the rest to Postgres, where white space does not count.
///
/// # Errors
/// [`Error::NotBase64`].
pub fn url_decode(text: &str) -> Result<Vec<u8>, Error> {
    const STANDARD: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
    );
    let padding = (4 - text.len() % 4) % 4;
    let symbols: Vec<u8> = text
        .bytes()
        .chain(std::iter::repeat_n(b'=', padding))
        .filter(|byte| !b" \t\r\n".contains(byte))
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        })
        .collect();
    STANDARD.decode(symbols).map_err(|_| Error::NotBase64)
}

impl HmacKey<'_> {
    fn to_signing_key(self) -> Result<SigningKey, Error> {
        let algorithm = Algorithm::named(self.algorithm)
            .filter(|algorithm| algorithm.min_secret_bytes().is_some())
            .ok_or(Error::NotAnHmac)?;
        match self.secret {
            // Whoever forgets to configure a secret would accept what everybody can sign.
            "" => Err(Error::EmptySecret),
            secret => SigningKey::shared(None, algorithm, Secret::of_any_length(secret.as_bytes())),
        }
    }
}

fn is_within_its_time(payload: &str, now: f64) -> bool {
    if !payload.trim_start().starts_with('{') {
        return true; // an array or a scalar has no dates
    }
    let Ok(claims) = Members::parse_lenient(payload) else {
        return false;
    };
    let bound = |name| match claims.get(name) {
        None => Some(None),
        Some(value) => number(value.get()).map(Some),
    };
    match (bound("nbf"), bound("exp")) {
        (Some(start), Some(end)) => {
            start.is_none_or(|start| start <= now) && end.is_none_or(|end| now < end)
        }
        _ => false,
    }
}

/// A number, or a string that holds one.
fn number(value: &str) -> Option<f64> {
    let text = match serde_json::from_str::<String>(value) {
        Ok(text) => text,
        Err(_) => value.to_owned(),
    };
    text.trim()
        .parse()
        .ok()
        .filter(|number: &f64| !number.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: f64 = 1_700_000_000.0;

    fn hmac<'a>(secret: &'a str, algorithm: &'a str) -> HmacKey<'a> {
        HmacKey { secret, algorithm }
    }

    fn validity(payload: &str) -> bool {
        let token = sign(payload, hmac("secret", "HS256")).unwrap();
        verify(&token, Some(hmac("secret", "HS256")), NOW)
            .unwrap()
            .is_valid
            == Some(true)
    }

    /// As pgjwt 0.2.0 signs them, on Postgres 15.
    #[test]
    fn tokens_are_those_of_pgjwt_to_the_byte() {
        let payload = r#"{"sub":"1234567890","name":"John Doe","admin":true}"#;
        let encoded = "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiYWRtaW4iOnRydWV9";
        for (algorithm, header, signature) in [
            (
                "HS256",
                "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
                "TJVA95OrM7E2cBab30RMHrHDcEfxjoYZgeFONFh7HgQ",
            ),
            (
                "HS384",
                "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9",
                "DtVnCyiYCsCbg8gUP-579IC2GJ7P3CtFw6nfTTPw-0lZUzqgWAo9QIQElyxOpoRm",
            ),
            (
                "HS512",
                "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9",
                "YI0rUGDq5XdRw8vW2sDLRNFMN8Waol03iSFH8I4iLzuYK7FKHaQYWzPt0BJFGrAmKJ6SjY0mJIMZqNQJFVpkuw",
            ),
        ] {
            let token = format!("{header}.{encoded}.{signature}");
            assert_eq!(sign(payload, hmac("secret", algorithm)).unwrap(), token);
            let verdict = verify(&token, Some(hmac("secret", algorithm)), NOW).unwrap();
            assert_eq!(verdict.is_valid, Some(true));
            assert_eq!(verdict.payload.as_deref(), Some(payload));
        }
    }

    #[test]
    fn the_payload_is_signed_as_the_text_that_it_is() {
        let payload = "{ \"b\" : 1.50,\n\"a\":\"\\u0041\" }";
        let token = sign(payload, hmac("secret", "HS256")).unwrap();
        let verdict = verify(&token, Some(hmac("secret", "HS256")), NOW).unwrap();
        assert_eq!(verdict.payload.as_deref(), Some(payload));
        assert_eq!(verdict.header, r#"{"alg":"HS256","typ":"JWT"}"#);
    }

    #[test]
    fn a_token_is_valid_from_nbf_until_exp() {
        for (payload, expected) in [
            (r#"{}"#, true),
            (r#"{"exp": null, "nbf": null}"#, true),
            (r#"{"exp": 1700000001}"#, true),
            (r#"{"exp": 1700000000}"#, false),
            (r#"{"exp": 1700000000.5}"#, true),
            (r#"{"nbf": 1700000000}"#, true),
            (r#"{"nbf": 1700000000.5}"#, false),
            (r#"{"exp": "1700000001"}"#, true),
            (r#"{"exp": "1699999999"}"#, false),
            (r#"{"nbf": 2, "exp": 1}"#, false),
            (r#"{"exp": 1, "a": 1, "a": 2, "exp": 1700000001}"#, true),
            ("[1]", true),
            ("\"x\"", true),
        ] {
            assert_eq!(validity(payload), expected, "{payload}");
        }
    }

    #[test]
    fn an_expiry_that_is_no_number_does_not_make_a_token_eternal() {
        for payload in [
            r#"{"exp": "never"}"#,
            r#"{"exp": true}"#,
            r#"{"exp": {}}"#,
            r#"{"exp": "NaN"}"#,
            r#"{"nbf": "never"}"#,
        ] {
            assert!(!validity(payload), "{payload}");
        }
    }

    #[test]
    fn what_is_not_three_parts_is_not_valid() {
        let token = sign("{}", hmac("secret", "HS256")).unwrap();
        let is_valid = |token: &str| {
            let verdict = verify(token, Some(hmac("secret", "HS256")), NOW).unwrap();
            verdict.is_valid == Some(true)
        };
        assert!(is_valid(&token));
        assert!(!is_valid(&format!("{token}.x")));
        assert!(!is_valid(&format!("{token}.")));
        assert!(!is_valid(token.rsplit_once('.').unwrap().0));
        assert!(!is_valid(&format!("{token}=")));
        assert!(!is_valid(&token[..token.len() - 1]));
        assert!(!is_valid(token.split_once('.').unwrap().0));
        assert!(!is_valid(""));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let error = |token| {
            verify(token, Some(hmac("secret", "HS256")), NOW)
                .err()
                .unwrap()
        };
        assert!(matches!(error("a.b.c"), Error::NotBase64));
        assert!(matches!(error("!.e30.c"), Error::NotBase64));
        assert!(matches!(error("gA.e30.c"), Error::NotText));
        assert!(matches!(error("AA.e30.c"), Error::NotText));
        assert!(matches!(
            sign("{}", hmac("", "HS256")),
            Err(Error::EmptySecret)
        ));
        assert!(matches!(
            verify("e30.e30.", Some(hmac("", "HS256")), NOW),
            Err(Error::EmptySecret)
        ));
        for algorithm in ["none", "", "hs256", "RS256"] {
            assert!(matches!(
                sign("{}", hmac("secret", algorithm)),
                Err(Error::NotAnHmac)
            ));
        }
    }

    #[test]
    fn base64_is_read_in_every_form_that_postgres_reads() {
        for text in ["-_8", "+/8", "+/8=", "-_9"] {
            assert_eq!(url_decode(text).unwrap(), [0xfb, 0xff], "{text}");
        }
        assert_eq!(url_decode("").unwrap(), b"");
        assert_eq!(url_decode("YWJj\nYWJj \t\n").unwrap(), b"abcabc");
        for text in ["a", "aaaaa", "a=", "=", "a!==", "\u{e9}", "Y Q", "Y\nQ=="] {
            assert!(url_decode(text).is_err(), "{text}");
        }
        assert_eq!(url_encode(&[0xfb, 0xff]), "-_8");
    }

    proptest! {
        #[test]
        fn any_text_is_verified_without_panic(
            text in any::<String>(),
            parts in "[A-Za-z0-9_-]{0,8}(\\.[A-Za-z0-9_=-]{0,8}){0,4}",
            secret in any::<String>(),
            now in any::<f64>(),
        ) {
            for token in [text, parts] {
                let verdict = verify(&token, Some(hmac(&secret, "HS256")), now);
                prop_assert!(!verdict.is_ok_and(|verdict| verdict.is_valid == Some(true)));
            }
        }

        #[test]
        fn any_payload_comes_back_as_it_was_signed(payload in "[^\\x00]*", secret in ".+") {
            for algorithm in ["HS256", "HS384", "HS512"] {
                let token = sign(&payload, hmac(&secret, algorithm)).unwrap();
                let verdict = verify(&token, Some(hmac(&secret, algorithm)), NOW).unwrap();
                prop_assert_eq!(verdict.payload.as_ref(), Some(&payload));
                let is_object = payload.trim_start().starts_with('{');
                prop_assert!(verdict.is_valid == Some(true) || is_object);
            }
        }

        #[test]
        fn any_text_is_decoded_without_panic(text in any::<String>(), symbols in "[A-Za-z0-9+/_= -]*") {
            for text in [text, symbols] {
                if let Ok(bytes) = url_decode(&text) {
                    prop_assert_eq!(url_decode(&url_encode(&bytes)).unwrap(), bytes);
                }
            }
        }

        #[test]
        fn any_bytes_are_encoded_and_decoded_to_themselves(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(url_decode(&url_encode(&bytes)).unwrap(), bytes);
        }
    }
}
