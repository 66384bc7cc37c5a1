//! Bytes that must not be seen.

use std::fmt;

use crate::error::Error;

/// HS256 needs a key at least as long as its output (RFC 7518 section 3.2).
const MIN_BYTES: usize = 32;

/// A shared secret. It can be used, but neither printed nor compared.
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the text that PostgREST has as its `jwt-secret`, byte for byte. Line breaks at its
    /// end, which editors and `echo` leave in secret files, are not part of it.
    ///
    /// # Errors
    /// [`Error::SecretOfWrongType`] for a PEM key or a JWK, which HS256 would silently sign with,
    /// and [`Error::SecretTooShort`] under 32 bytes. Both name `source`, never the bytes.
    pub fn hs256(bytes: &[u8], source: &str) -> Result<Self, Error> {
        let end = bytes.iter().rposition(|b| !b"\r\n".contains(b));
        let bytes = &bytes[..end.map_or(0, |end| end + 1)];
        let wrong_type = |found| Error::SecretOfWrongType {
            source_name: source.to_owned(),
            found,
        };
        if bytes.starts_with(b"-----BEGIN ") {
            return Err(wrong_type("a PEM key"));
        }
        if bytes.starts_with(b"{") && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
        {
            return Err(wrong_type("a JSON Web Key"));
        }
        if bytes.len() < MIN_BYTES {
            return Err(Error::SecretTooShort {
                source_name: source.to_owned(),
                len: bytes.len(),
            });
        }
        Ok(Self(bytes.to_vec()))
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "super-secret-jwt-token-with-at-least-32-characters-long";

    #[test]
    fn a_secret_prints_nothing_of_itself() {
        let secret = Secret::hs256(LONG.as_bytes(), "the test").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn a_trailing_line_break_is_not_part_of_the_secret() {
        let secret = Secret::hs256(format!("{LONG}\r\n").as_bytes(), "the test").unwrap();
        assert_eq!(secret.expose(), LONG.as_bytes());
        let spaced = Secret::hs256(format!(" {LONG} ").as_bytes(), "the test").unwrap();
        assert_eq!(spaced.expose(), format!(" {LONG} ").as_bytes());
    }

    #[test]
    fn thirty_one_bytes_are_refused_and_thirty_two_accepted() {
        assert!(matches!(
            Secret::hs256(&[b'x'; 31], "the test"),
            Err(Error::SecretTooShort { len: 31, .. })
        ));
        assert!(Secret::hs256(&[b'x'; 32], "the test").is_ok());
    }

    #[test]
    fn a_pem_key_and_a_jwk_are_not_shared_secrets() {
        let pem =
            "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\n-----END PRIVATE KEY-----";
        let jwk = r#"{"kty":"oct","k":"c3VwZXItc2VjcmV0LWp3dC10b2tlbg"}"#;
        for text in [pem, jwk] {
            let error = Secret::hs256(text.as_bytes(), "the test").unwrap_err();
            assert!(matches!(error, Error::SecretOfWrongType { .. }));
            assert!(!error.to_string().contains("c3Vw") && !error.to_string().contains("MIGH"));
        }
    }
}
