//! Opaque personal access tokens: a prefix, `sbpat_` unless a setting says otherwise, 36 random characters of base62,
//! and six that are the CRC-32 of what is before them, so that a scanner for leaked secrets, and we, can tell one from
//! any other text without looking anything up. The checksum covers the prefix, so that a token is known by its checksum
//! whichever prefix it was made with: a prefix that is no longer set needs no list of former ones.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

pub const DEFAULT_PREFIX: &str = "sbpat_";
const RANDOM: usize = 36;
const CHECKSUM: usize = 6;
const DIGITS: usize = RANDOM + CHECKSUM;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What a token may begin with.
#[derive(Clone, Copy)]
pub struct Prefix<'a>(&'a str);

impl<'a> Prefix<'a> {
    /// `None` for anything but 3 to 32 lower-case letters, digits and underscores, the last of which is an underscore.
    /// Tokens must be told from what else is in their headers, so a prefix does not begin as Supabase's own keys do
    /// (`sb_publishable_`, `sb_secret_`, `sbp_`) or as a JWT may: with `ey` or `ew`, the base64 of a brace and what may
    /// follow it in JSON.
    pub fn parse(text: &'a str) -> Option<Self> {
        let is_taken = ["sb_", "sbp_", "ey", "ew"]
            .iter()
            .any(|start| text.starts_with(start));
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_fit = (3..=32).contains(&text.len())
            && text.ends_with('_')
            && text.starts_with(|first: char| first != '_')
            && text.bytes().all(is_plain);
        (is_fit && !is_taken).then_some(Self(text))
    }

    /// The one that a setting names, whose values are checked.
    pub fn of_setting(text: &'a str) -> Self {
        Self::parse(text).unwrap_or(Self(DEFAULT_PREFIX))
    }

    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// How many characters a token has with this prefix.
    pub fn token_length(self) -> usize {
        self.0.len() + DIGITS
    }
}

/// A token that is well-formed. Whether it was ever minted is another question.
pub struct OpaqueToken(Zeroizing<String>);

/// What is stored of a token: its SHA-256. Since a token has 214 random bits, nobody finds it by its hash. So
/// there is no salt, and a token can be looked up.
#[derive(Clone, Copy)]
pub struct Digest(pub [u8; 32]);

impl OpaqueToken {
    /// A new token out of random bytes; `None` if too few of them are below 248, the largest multiple of
    /// 62 in a byte. That has a chance of one in 10²⁵.
    pub fn new(prefix: Prefix, random: &[u8; 64]) -> Option<Self> {
        let mut text = Zeroizing::new(String::with_capacity(prefix.token_length()));
        text.push_str(prefix.0);
        let even = random.iter().filter(|&&byte| byte < 248);
        text.extend(even.take(RANDOM).map(|&byte| digit(byte.into())));
        if text.len() < prefix.0.len() + RANDOM {
            return None;
        }
        let checksum = checksum(&text);
        text.extend(checksum);
        Some(Self(text))
    }

    /// `None` for anything but a prefix, base62 and the right checksum.
    pub fn parse(text: &str) -> Option<Self> {
        if !has_form(text) {
            return None;
        }
        let (body, sum) = text.split_at(text.len() - CHECKSUM);
        sum.chars()
            .eq(checksum(body))
            .then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The token itself, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

/// The prefix with which a text begins, if that is the present one or the default one: then it is meant to be a token
/// of ours, complete or not.
pub fn prefix_of<'a>(text: &str, present: Prefix<'a>) -> Option<Prefix<'a>> {
    [present, Prefix(DEFAULT_PREFIX)]
        .into_iter()
        .find(|prefix| text.starts_with(prefix.0))
}

/// Whether a text is meant to be a token of ours: one of any prefix whose checksum holds, or the beginning of one.
pub fn is_meant(text: &str, present: Prefix) -> bool {
    prefix_of(text, present).is_some() || OpaqueToken::parse(text).is_some()
}

/// Whether a text is or was meant to be a token of ours: also one of a former prefix that has the right length and a
/// wrong checksum.
pub fn is_like_one(text: &str, present: Prefix) -> bool {
    prefix_of(text, present).is_some() || has_form(text)
}

fn has_form(text: &str) -> bool {
    let parts = text
        .len()
        .checked_sub(DIGITS)
        .and_then(|end| text.split_at_checked(end));
    parts.is_some_and(|(prefix, digits)| {
        Prefix::parse(prefix).is_some() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(hash)
    }

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

    const DEFAULT: Prefix = Prefix(DEFAULT_PREFIX);

    fn token(seed: u8) -> OpaqueToken {
        OpaqueToken::new(DEFAULT, &bytes(seed)).unwrap()
    }

    fn bytes(seed: u8) -> [u8; 64] {
        std::array::from_fn(|i| seed.wrapping_add(i as u8))
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
        assert!(OpaqueToken::new(DEFAULT, &random).is_none());
        random[28..].fill(61);
        let text = OpaqueToken::new(DEFAULT, &random).unwrap();
        assert!(
            text.expose()
                .starts_with(&format!("sbpat_{}", "z".repeat(36)))
        );
        random[28] = 248;
        assert!(OpaqueToken::new(DEFAULT, &random).is_none());
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
    fn a_prefix_is_told_from_what_else_is_in_the_header() {
        for fit in [
            "sbpat_",
            "a1_",
            "acme_live_",
            "0x_",
            "sb0_",
            "sbx_",
            "e_y_",
            &format!("{}_", "x".repeat(31)),
        ] {
            assert!(Prefix::parse(fit).is_some(), "{fit}");
            let token = OpaqueToken::new(Prefix(fit), &bytes(9)).unwrap();
            assert_eq!(token.expose().len(), Prefix(fit).token_length());
            assert!(OpaqueToken::parse(token.expose()).is_some(), "{fit}");
        }
        for unfit in [
            "",
            "_",
            "a_",
            "acme",
            "acme-",
            "Acme_",
            "ac me_",
            "_acme_",
            "acm\u{e9}_",
            "acme_\n",
            "acme_\0",
            "sb_publishable_",
            "sb_secret_",
            "sb_secret_acme_",
            "sb_",
            "sbp_",
            "sbp_x_",
            "eyj_",
            "ewog_",
            "ey0_",
            &format!("{}_", "x".repeat(32)),
        ] {
            assert!(Prefix::parse(unfit).is_none(), "{unfit}");
        }
    }

    #[test]
    fn a_token_is_known_by_its_checksum_whatever_the_prefix_is_now() {
        let former = OpaqueToken::new(Prefix("acme_"), &bytes(3)).unwrap();
        let text = former.expose();
        assert!(OpaqueToken::parse(text).is_some());
        assert!(is_meant(text, DEFAULT));
        // The checksum covers the prefix, so that one cannot be put in the place of another.
        assert!(OpaqueToken::parse(&text.replacen("acme_", "sbpat_", 1)).is_none());
        assert!(!is_meant(&text[..text.len() - 1], DEFAULT));
        assert!(is_meant(&text[..text.len() - 1], Prefix("acme_")));
        assert!(is_meant("sbpat_", Prefix("acme_")));
        // GitHub's tokens have a prefix, base62 and a CRC-32 too, and another length.
        assert!(!is_meant(
            "ghp_0123456789abcdefghijklmnopqrstuvwxyz",
            DEFAULT
        ));
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
            if let Some(token) = OpaqueToken::new(DEFAULT, &both) {
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
