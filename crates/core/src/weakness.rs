//! Secrets that somebody else can find: everybody knows them, or they are hardly random.

use std::fmt;

/// Secrets that stand in documentation for everybody to read, each at least as long as HS256 needs, with whose
/// example each is.
pub const EXAMPLE_SECRETS: [(&[u8], &str); 4] = [
    (
        b"super-secret-jwt-token-with-at-least-32-characters-long",
        "of the Supabase CLI",
    ),
    (
        b"your-super-secret-jwt-token-with-at-least-32-characters-long",
        "in the guide to self-hosting",
    ),
    (
        b"reallyreallyreallyreallyverysafe",
        "in the tutorial of PostgREST",
    ),
    (b"a-string-secret-at-least-256-bits-long", "of jwt.io"),
];

/// A key that repeats a shorter piece is hardly more difficult to guess than that piece.
const MIN_PERIOD: usize = 16;
/// A random key has fewer different bytes with a probability below 10⁻¹⁵, in hexadecimal digits too.
const MIN_DIFFERENT_BYTES: usize = 6;

/// Why somebody else may find a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weakness {
    /// It stands in documentation; the text says in whose.
    Published(&'static str),
    Repetitive,
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published(whose) => {
                write!(
                    f,
                    "is the public example secret {whose}, which everybody knows"
                )
            }
            Self::Repetitive => f.write_str("is made of a few bytes that repeat"),
        }
    }
}

/// Whose example a secret is, if it is one.
pub fn whose_example(secret: &[u8]) -> Option<&'static str> {
    EXAMPLE_SECRETS
        .into_iter()
        .find(|(example, _)| *example == secret.trim_ascii())
        .map(|(_, whose)| whose)
}

pub fn is_repetitive(bytes: &[u8]) -> bool {
    let different = (0..=u8::MAX).filter(|byte| bytes.contains(byte)).count();
    let repeats =
        |period: usize| bytes.len() > period && bytes[period..] == bytes[..bytes.len() - period];
    different < MIN_DIFFERENT_BYTES || (1..MIN_PERIOD).any(repeats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_a_short_piece_or_has_few_different_bytes_is_repetitive() {
        let random = b"\x8f\x1c\x70\x21\x99\xa3\x05\xee\x42\x17\x6b\xd0\x3a\xc4\x5d\xf8\
            \x90\x0e\xb7\x63\x2c\xd9\x48\x81\xfa\x15\x6e\x33\xc7\xaa\x04\x5b";
        assert!(!is_repetitive(random));
        assert!(!is_repetitive(&random.repeat(2)));
        assert!(!is_repetitive(b"correct horse battery staple and"));
        assert!(!is_repetitive(b"0123456789abcdef0123456789abcdef"));
        for weak in [
            vec![0; 32],
            vec![b'x'; 100],
            b"secret".repeat(6),
            b"0123456789abcde".repeat(3),
            b"password".repeat(4)[..31].to_vec(),
            b"01101001100101101001011001101001".to_vec(),
        ] {
            assert!(is_repetitive(&weak), "{weak:?}");
        }
    }

    #[test]
    fn each_published_secret_could_sign() {
        for (secret, whose) in EXAMPLE_SECRETS {
            assert!(secret.len() >= 32, "{whose}");
            assert_eq!(whose_example(&[secret, b"\n"].concat()), Some(whose));
        }
        assert_eq!(whose_example(b"another secret that is long enough"), None);
    }
}
