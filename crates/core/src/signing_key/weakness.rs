//! Keys that somebody else can find: everybody knows them, they are hardly random, or their modulus can be
//! factored. What AWS-LC checks of an RSA key is that its numbers belong together, and explicitly not that its
//! primes are primes.

use std::fmt;

use crypto_bigint::BoxedUint;
use crypto_primes::{Flavor, is_prime};
use zeroize::Zeroizing;

use super::{Material, RsaNumbers, SigningKey};
use crate::error::Error;

/// Secrets that stand in documentation for everybody to read, each at least as long as HS256 needs, and whose
/// they are.
pub(crate) const EXAMPLE_SECRETS: [(&[u8], &str); 4] = [
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

/// A key that repeats a piece that is shorter has hardly more to guess than that piece.
const MIN_PERIOD: usize = 16;
/// A random key has more different bytes, in hexadecimal digits too, but with a probability below 10⁻¹⁵.
const MIN_DIFFERENT_BYTES: usize = 6;
/// A random number begins with so many zeros with a probability of 2⁻⁶⁴.
const MAX_LEADING_ZEROS: usize = 8;

/// Why somebody else may find a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weakness {
    /// With whose example it is.
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

impl SigningKey {
    /// Why nobody should sign with the key, as far as it can be told at a glance.
    pub fn weakness(&self) -> Option<Weakness> {
        self.weakness
    }

    /// Refuses to sign with a key that somebody else may find, unless that is allowed for development.
    ///
    /// # Errors
    /// [`Error::WeakKey`].
    pub fn require_strong(&self, allows_weak: bool) -> Result<(), Error> {
        match self.weakness {
            Some(weakness) if !allows_weak => Err(Error::WeakKey(weakness)),
            _ => Ok(()),
        }
    }

    /// What is to be asked of a key that comes from elsewhere, once: some 20 ms for RSA.
    ///
    /// # Errors
    /// [`Error::NewKeyWeak`], [`Error::MalformedJwk`] if its modulus can be factored.
    pub fn require_strong_when_new(&self, allows_weak: bool) -> Result<(), Error> {
        if let Material::Rsa { n, private, .. } = &self.material {
            require_factors(n, private)?;
        }
        match self.weakness {
            Some(weakness) if !allows_weak => Err(Error::NewKeyWeak(weakness)),
            _ => Ok(()),
        }
    }
}

pub(super) fn of(material: &Material) -> Option<Weakness> {
    let (is_weak, published) = match material {
        Material::Shared(secret) => {
            let bytes = secret.expose();
            (is_repetitive(bytes), whose_example(bytes))
        }
        Material::P256 { d, .. } | Material::Ed25519 { d, .. } => {
            let zeros = d.iter().take_while(|byte| **byte == 0).count();
            (is_repetitive(d) || zeros > MAX_LEADING_ZEROS, None)
        }
        Material::Rsa { .. } => (false, None),
    };
    published
        .map(Weakness::Published)
        .or(is_weak.then_some(Weakness::Repetitive))
}

fn is_repetitive(bytes: &[u8]) -> bool {
    let different = (0..=u8::MAX).filter(|byte| bytes.contains(byte)).count();
    let repeats =
        |period: usize| bytes.len() > period && bytes[period..] == bytes[..bytes.len() - period];
    different < MIN_DIFFERENT_BYTES || (1..MIN_PERIOD).any(repeats)
}

/// Two primes of half the length each, far enough from each other (FIPS 186-5 section A.1.3): by a modulus
/// with a short factor, or by two that are close to its root, the key can be found.
fn require_factors(n: &[u8], private: &RsaNumbers) -> Result<(), Error> {
    let number = |bytes: &[u8]| {
        Zeroizing::new(BoxedUint::from_be_slice_truncated(
            bytes,
            n.len() as u32 * 8,
        ))
    };
    let half = number(n).bit_width().div_ceil(2);
    let (p, q) = (number(&private.p), number(&private.q));
    if p.bit_width() != half || q.bit_width() != half {
        return Err(Error::MalformedJwk(
            "its primes are not of half the length of its modulus",
        ));
    }
    let distance = Zeroizing::new(match *p > *q {
        true => p.wrapping_sub(&*q),
        false => q.wrapping_sub(&*p),
    });
    if distance.bit_width() <= half - 100 {
        return Err(Error::MalformedJwk(
            "its primes are too close to each other",
        ));
    }
    match [&p, &q]
        .into_iter()
        .all(|prime| is_prime(Flavor::Any, &**prime))
    {
        true => Ok(()),
        false => Err(Error::MalformedJwk("its p or q is no prime")),
    }
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
