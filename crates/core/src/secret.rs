//! Bytes that must not be seen.

use std::fmt;

use zeroize::ZeroizeOnDrop;

use crate::algorithm::Algorithm;
use crate::error::Error;

/// A shared secret. It can be used, but not printed.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the text that PostgREST has as its `jwt-secret`, byte for byte. Line breaks at its
    /// end, which editors and `echo` leave in secret files, are not part of it.
    ///
    /// # Errors
    /// [`Error::SecretOfWrongType`] for a PEM key or a JWK, which HMAC would silently sign with,
    /// and [`Error::SecretTooShort`] under the length of the hash. Both name `source`, never the
    /// bytes.
    pub fn from_text(bytes: &[u8], algorithm: Algorithm, source: &str) -> Result<Self, Error> {
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
        Self::of_length(bytes.to_vec(), algorithm, source)
    }

    /// Takes bytes as they are.
    ///
    /// # Errors
    /// [`Error::SecretTooShort`].
    pub fn of_length(bytes: Vec<u8>, algorithm: Algorithm, source: &str) -> Result<Self, Error> {
        let secret = Self(bytes);
        let needed = algorithm.min_secret_bytes().unwrap_or_default();
        match secret.0.len() < needed {
            true => Err(Error::SecretTooShort {
                source_name: source.to_owned(),
                len: secret.0.len(),
                algorithm,
                needed,
            }),
            false => Ok(secret),
        }
    }

    /// For pgjwt's functions, which never asked for a length.
    pub(crate) fn of_any_length(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Compares in a time that depends on the lengths alone.
    pub fn equals(&self, bytes: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, bytes).is_ok()
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

    fn hs256(bytes: &[u8]) -> Result<Secret, Error> {
        Secret::from_text(bytes, Algorithm::Hs256, "the test")
    }

    #[test]
    fn a_secret_prints_nothing_of_itself() {
        let secret = hs256(LONG.as_bytes()).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn a_trailing_line_break_is_not_part_of_the_secret() {
        let secret = hs256(format!("{LONG}\r\n").as_bytes()).unwrap();
        assert_eq!(secret.expose(), LONG.as_bytes());
        let spaced = hs256(format!(" {LONG} ").as_bytes()).unwrap();
        assert_eq!(spaced.expose(), format!(" {LONG} ").as_bytes());
    }

    #[test]
    fn a_secret_is_as_long_as_the_hash() {
        for (algorithm, needed) in [
            (Algorithm::Hs256, 32),
            (Algorithm::Hs384, 48),
            (Algorithm::Hs512, 64),
        ] {
            let of = |len| Secret::from_text(&vec![b'x'; len], algorithm, "the test");
            assert!(matches!(
                of(needed - 1),
                Err(Error::SecretTooShort { len, .. }) if len == needed - 1
            ));
            assert!(of(needed).is_ok());
        }
    }

    #[test]
    fn a_pem_key_and_a_jwk_are_not_shared_secrets() {
        let pem =
            "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\n-----END PRIVATE KEY-----";
        let jwk = r#"{"kty":"oct","k":"c3VwZXItc2VjcmV0LWp3dC10b2tlbg"}"#;
        for text in [pem, jwk] {
            let error = hs256(text.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::SecretOfWrongType { .. }));
            assert!(!error.to_string().contains("c3Vw") && !error.to_string().contains("MIGH"));
        }
    }
}
