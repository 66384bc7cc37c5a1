//! Opaque personal access tokens, for the header `x-api-key`: `sbpat_`, 36 random characters of base62,
//! and six that are the CRC-32 of what is before them, so that a scanner for leaked secrets, and we,
//! can tell one from any other text without looking anything up.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

pub const PREFIX: &str = "sbpat_";
const RANDOM: usize = 36;
const CHECKSUM: usize = 6;
pub(crate) const LENGTH: usize = PREFIX.len() + RANDOM + CHECKSUM;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token that is well-formed. Whether it was ever minted is another question.
pub struct OpaqueToken(Zeroizing<String>);

/// What is stored of a token: its SHA-256. Since a token has 214 random bits, nobody finds it by its hash. So
/// there is no salt, and a token can be looked up.
#[derive(Clone, Copy)]
pub struct Digest(pub [u8; 32]);

impl OpaqueToken {
    /// A new token out of random bytes; `None` if too few of them are below 248, the largest multiple of
    /// 62 in a byte. That has a chance of one in 10²⁵.
    pub fn new(random: &[u8; 64]) -> Option<Self> {
        let mut text = Zeroizing::new(String::with_capacity(LENGTH));
        text.push_str(PREFIX);
        let even = random.iter().filter(|&&byte| byte < 248);
        text.extend(even.take(RANDOM).map(|&byte| digit(byte.into())));
        if text.len() < PREFIX.len() + RANDOM {
            return None;
        }
        let checksum = checksum(&text);
        text.extend(checksum);
        Some(Self(text))
    }

    /// `None` for anything but prefix, base62 and the right checksum.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let is_base62 = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if text.len() != LENGTH || !is_base62 {
            return None;
        }
        let (body, sum) = text.split_at(LENGTH - CHECKSUM);
        sum.chars()
            .eq(checksum(body))
            .then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The token itself, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn digest(&self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, self.0.as_bytes()).as_ref());
        Digest(bytes)
    }
}

impl Digest {
    /// Compares in constant time.
    pub fn is(&self, stored: &[u8]) -> bool {
        verify_slices_are_equal(&self.0, stored).is_ok()
    }
}

fn digit(value: u32) -> char {
    BASE62[value as usize % 62].into()
}

/// The CRC-32 (IEEE 802.3, as zlib computes it) as six digits of base62, the highest first.
fn checksum(body: &str) -> [char; CHECKSUM] {
    let sum = crc32fast::hash(body.as_bytes());
    let mut digits = [0, 1, 2, 3, 4, 5].map(|place| digit(sum / 62_u32.pow(place) % 62));
    digits.reverse();
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(seed: u8) -> OpaqueToken {
        OpaqueToken::new(&std::array::from_fn(|i| seed.wrapping_add(i as u8))).unwrap()
    }

    #[test]
    fn a_token_has_prefix_digits_and_checksum() {
        // The checksum by Python: zlib.crc32(b"sbpat_0123…Z") = 0xa373e820.
        assert_eq!(
            token(0).expose(),
            "sbpat_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ2zaKtE"
        );
    }

    #[test]
    fn bytes_that_would_make_some_digits_likelier_are_passed_over() {
        let mut random = [250; 64];
        assert!(OpaqueToken::new(&random).is_none());
        random[28..].fill(61);
        let text = OpaqueToken::new(&random).unwrap();
        assert!(
            text.expose()
                .starts_with(&format!("sbpat_{}", "z".repeat(36)))
        );
        random[28] = 248;
        assert!(OpaqueToken::new(&random).is_none());
    }

    #[test]
    fn each_character_counts() {
        let good = token(7);
        let good = good.expose();
        assert!(OpaqueToken::parse(good).is_some());
        for place in 0..good.len() {
            for other in ["0", "z", "_", "-", " ", "\u{e9}"] {
                let mut bad = good.to_owned();
                bad.replace_range(place..place + 1, other);
                assert_eq!(OpaqueToken::parse(&bad).is_some(), bad == good, "{bad}");
            }
        }
        for bad in [
            &good[..47],
            &good[1..],
            &format!("{good}0"),
            &format!("{good}{good}"),
            &format!(" {good}"),
            &format!("Bearer {good}"),
            &good.to_uppercase(),
            "sbpat_",
            "",
        ] {
            assert!(OpaqueToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_digest_is_the_sha_256_of_the_text() {
        let token = token(7);
        let again = OpaqueToken::parse(token.expose()).unwrap();
        let other = self::token(8);
        assert!(token.digest().is(&again.digest().0));
        assert!(!token.digest().is(&other.digest().0));
        assert!(!token.digest().is(&token.digest().0[..31]));
        assert!(!token.digest().is(&[]));
    }

    proptest! {
        #[test]
        fn what_is_made_is_read(random in prop::array::uniform32(any::<u8>())) {
            let both: [u8; 64] = std::array::from_fn(|i| random[i % 32].wrapping_mul(i as u8 | 1));
            if let Some(token) = OpaqueToken::new(&both) {
                prop_assert!(OpaqueToken::parse(token.expose()).is_some());
            }
        }

        #[test]
        fn nothing_else_is_read(text in any::<String>(), almost in "sbpat_[0-9A-Za-z]{40,44}") {
            prop_assert!(OpaqueToken::parse(&text).is_none());
            // One in four thousand million passes by chance.
            prop_assert!(OpaqueToken::parse(&almost).is_none());
        }
    }
}
