//! Refusing keys that somebody else can find: everybody knows them, they are hardly random, or their modulus can be
//! factored. What AWS-LC checks of an RSA key is that its numbers belong together, and explicitly not that its
//! primes are primes.

use crypto_bigint::BoxedUint;
use crypto_primes::{Flavor, is_prime};
use zeroize::Zeroizing;

use super::{Material, RsaNumbers, SigningKey};
use crate::error::Error;
use crate::weakness::{Weakness, is_repetitive, whose_example};

/// A random number begins with so many zeros with a probability of 2⁻⁶⁴.
const MAX_LEADING_ZEROS: usize = 8;

impl SigningKey {
    /// Why nobody should sign with the key, as far as a cheap look at it tells.
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

    /// Checks a key that comes from elsewhere, once, since it takes some 20 ms for RSA.
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

pub(super) fn weakness_of(material: &Material) -> Option<Weakness> {
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

/// Requires two primes of half the length each, far enough from each other (FIPS 186-5 section A.1.3): a key can be
/// found whose modulus has a short factor, or two factors that are close to its root.
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
        false => Err(Error::MalformedJwk("its p or q is not a prime")),
    }
}
