//! The signature of a JWT: whether it fits, and why not if it does not.

use jsonwebtoken::{Algorithm, DecodingKey};

use super::{Checked, DEAD_TOKEN, Installation, Report, Signature, decode_base64, off_by};
use crate::weakness::{EXAMPLE_SECRETS, whose_example};

/// An algorithm that PostgREST knows.
#[derive(Clone, Copy)]
pub(super) struct KnownAlgorithm {
    pub(super) name: &'static str,
    /// In characters of base64url. The signatures of RSA are at least as long.
    pub(super) signature_length: usize,
}

impl KnownAlgorithm {
    const fn new(name: &'static str, signature_length: usize) -> Self {
        Self {
            name,
            signature_length,
        }
    }
}

pub(super) const ALGORITHMS: [KnownAlgorithm; 13] = [
    KnownAlgorithm::new("HS256", 43),
    KnownAlgorithm::new("HS384", 64),
    KnownAlgorithm::new("HS512", 86),
    KnownAlgorithm::new("ES256", 86),
    KnownAlgorithm::new("ES384", 128),
    KnownAlgorithm::new("ES512", 176),
    KnownAlgorithm::new("EdDSA", 86),
    KnownAlgorithm::new("RS256", 342),
    KnownAlgorithm::new("RS384", 342),
    KnownAlgorithm::new("RS512", 342),
    KnownAlgorithm::new("PS256", 342),
    KnownAlgorithm::new("PS384", 342),
    KnownAlgorithm::new("PS512", 342),
];

impl Report {
    pub(super) fn check_signature(
        &mut self,
        token: &str,
        algorithm: &str,
        installation: &dyn Installation,
    ) {
        let secret = installation.shared_secret();
        match installation.check(token) {
            Checked::Matches => {
                self.signature = Signature::Verified;
                if let Some(whose) = secret.and_then(whose_example) {
                    self.problem(format!(
                        "This project still uses the public example secret {whose}, so that \
                         anyone can make a key of the service role. Change the JWT secret and \
                         make new keys.",
                    ));
                }
            }
            Checked::NotLive => {
                self.signature = Signature::Verified;
                self.problem(DEAD_TOKEN);
            }
            Checked::Revoked => {
                self.signature = Signature::Bad;
                self.problem(
                    "The signing key that made this key has been revoked. Make a new one with \
                     the current signing key.",
                );
            }
            Checked::DoesNotMatch => {
                self.signature = Signature::Bad;
                let cause = secret
                    .filter(|_| algorithm == "HS256")
                    .and_then(|secret| why_it_does_not_match(token, secret));
                self.problem(cause.unwrap_or_else(|| {
                    "The signature does not match this project's key: the key belongs to another \
                     project, was made before the secret was changed, or has a wrong character. \
                     Copy it again, or make a new one."
                        .to_owned()
                }));
            }
            Checked::NoKey => self.problem(
                "This database has no key to check the signature with, so it may be right or \
                 wrong. Configure the JWT secret or the signing keys here to find out.",
            ),
        }
    }
}

/// What is wrong with a signature that has so many characters.
pub(super) fn wrong_length(algorithm: KnownAlgorithm, found: usize) -> Option<String> {
    if found == 0 {
        return Some(
            "The signature is missing: nothing follows the second dot. Copy the key to its end."
                .to_owned(),
        );
    }
    let grows = algorithm.name.starts_with("RS") || algorithm.name.starts_with("PS");
    off_by(found, algorithm.signature_length, "signature")
        .filter(|_| found < algorithm.signature_length || !grows)
}

/// Finds what a token of HS256 was signed with in place of `secret`, out of what people do.
fn why_it_does_not_match(token: &str, secret: &[u8]) -> Option<String> {
    let (message, signature) = token.rsplit_once('.')?;
    let signed_with = |key: &[u8]| {
        let key = DecodingKey::from_secret(key);
        let result =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, Algorithm::HS256);
        matches!(result, Ok(true))
    };
    let trimmed = secret.trim_ascii();
    let text = std::str::from_utf8(trimmed).ok();
    let variants = [
        (
            text.and_then(decode_hex),
            "the JWT secret read as hexadecimal digits. PostgREST uses its text as it is: sign \
             the key again with the text",
        ),
        (
            text.and_then(decode_base64),
            "the JWT secret read as base64. PostgREST uses its text as it is: sign the key again \
             with the text, or set jwt-secret-is-base64 if all keys are like this",
        ),
        (
            Some([trimmed, b"\n"].concat()),
            "the JWT secret and a line break after it, as echo and editors leave one. Sign the \
             key again without it",
        ),
        (
            Some([trimmed, b"\r\n"].concat()),
            "the JWT secret and a line break of Windows after it. Sign the key again without it",
        ),
        (
            (trimmed != secret).then(|| trimmed.to_vec()),
            "the JWT secret without the white space around it. Remove that space where the \
             secret is configured",
        ),
    ];
    variants
        .into_iter()
        .find(|(key, _)| key.as_ref().is_some_and(|key| signed_with(key)))
        .map(|(_, what)| format!("The key was signed with {what}."))
        .or_else(|| {
            let (_, whose) = EXAMPLE_SECRETS
                .into_iter()
                .find(|(example, _)| signed_with(example))?;
            Some(format!(
                "The key was signed with the public example secret {whose}, and this project has \
                 a secret of its own. Make a key with that.",
            ))
        })
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    // The parser takes a sign for a digit.
    if text.len() % 2 == 1 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}
