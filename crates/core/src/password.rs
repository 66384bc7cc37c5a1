//! Passwords, hashed as Supabase Auth does it: bcrypt, cost 10, `$2a$`.

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};
use aws_lc_rs::digest;
use zeroize::Zeroizing;

use crate::error::Error;

const COST: u32 = 10;

/// bcrypt takes no more bytes, and cuts the rest off in silence.
const MAX_BYTES: usize = 72;

/// What a hash that came from elsewhere may cost. Nothing interrupts the work on it, and whoever knows the
/// address can ask for it again and again. A cost of 14 takes bcrypt 0.8 s, and each step more takes twice as long, up
/// to days. Argon2 takes as much memory as the hash says, here in KiB, and 0.8 s for 512 MiB in all passes together;
/// each connection takes that memory for itself.
const MAX_COST: u32 = 14;
const MAX_MEMORY: u32 = 128 * 1024;
const MAX_MEMORY_IN_ALL_PASSES: u64 = 512 * 1024;

/// Nobody has a password of more bytes. Argon2 would take one of any length.
const MAX_TYPED: usize = 1024;

/// A password that may be used.
pub struct Password(Zeroizing<String>);

impl Password {
    /// # Errors
    /// [`Error::EmptyPassword`], [`Error::PasswordTooShort`] in characters,
    /// [`Error::PasswordTooLong`] in bytes.
    pub fn new(text: &str, min_length: usize) -> Result<Self, Error> {
        let len = text.chars().count();
        if text.is_empty() {
            return Err(Error::EmptyPassword);
        }
        if len < min_length {
            return Err(Error::PasswordTooShort {
                len,
                min: min_length,
            });
        }
        if text.len() > MAX_BYTES {
            return Err(Error::PasswordTooLong {
                len: text.len(),
                max: MAX_BYTES,
            });
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Takes some 50 ms, on purpose: so does each guess at a stolen hash.
    pub fn hash(&self, salt: [u8; 16]) -> Result<String, Error> {
        bcrypt::hash_with_salt(self.0.as_bytes(), COST, salt)
            .map(|parts| parts.format_for_version(bcrypt::Version::TwoA))
            .map_err(|error| Error::Internal(format!("hashing failed: {error}")))
    }

    /// Whether this is the password behind a hash.
    pub fn is_behind(&self, hash: &str) -> bool {
        is_behind(&self.0, hash)
    }
}

/// Whether a text is the password behind a hash: of bcrypt, or of Argon2, which Supabase Auth takes
/// over from elsewhere. False for a hash that is not [verifiable](is_verifiable), after the same work, so that
/// the time does not tell.
pub fn is_behind(text: &str, hash: &str) -> bool {
    let is_verifiable = is_verifiable(hash);
    let hash = if is_verifiable { hash } else { NOBODY };
    let is_right = if hash.starts_with("$argon2") {
        text.len() <= MAX_TYPED
            && PasswordHash::new(hash).is_ok_and(|hash| {
                Argon2::default()
                    .verify_password(text.as_bytes(), &hash)
                    .is_ok()
            })
    } else {
        text.len() <= MAX_BYTES && bcrypt::verify(text.as_bytes(), hash).unwrap_or(false)
    };
    is_verifiable && is_right
}

/// Whether a hash is of a kind that can be verified here, and within reason.
pub fn is_verifiable(hash: &str) -> bool {
    if hash.starts_with("$argon2") {
        let params = PasswordHash::new(hash).ok();
        return params
            .and_then(|hash| Params::try_from(&hash).ok())
            .is_some_and(|params| {
                let (memory, passes) = (params.m_cost(), params.t_cost());
                memory <= MAX_MEMORY
                    && u64::from(memory) * u64::from(passes) <= MAX_MEMORY_IN_ALL_PASSES
            });
    }
    let parts: Result<bcrypt::HashParts, _> = hash.parse();
    parts.is_ok_and(|parts| parts.get_cost() <= MAX_COST)
}

/// A digest by which a hash is recognised later. It tells nothing of the password, since each hash has its own salt.
pub fn digest_of_hash(hash: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, hash.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// A hash of nobody's password, for doing the same work where there is no user.
pub const NOBODY: &str = "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_what_supabase_auth_reads() {
        let password = Password::new("correct horse", 6).unwrap();
        let hash = password.hash([7; 16]).unwrap();
        assert!(hash.starts_with("$2a$10$"));
        assert_eq!(hash.len(), 60);
        assert!(password.is_behind(&hash));
        assert!(!Password::new("wrong horse", 6).unwrap().is_behind(&hash));
        assert_ne!(hash, password.hash([8; 16]).unwrap());
    }

    #[test]
    fn a_known_hash_is_verified() {
        // A test vector of crypt_blowfish.
        let hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert!(is_behind("U*U", hash));
        assert!(!is_behind("U*V", hash));
        for other in ["", "x", "$2a$10$", "$argon2id$v=19$x", "$fbscrypt$v=1$x"] {
            assert!(!is_behind("U*U", other), "{other}");
        }
    }

    #[test]
    fn nobody_s_hash_is_a_real_one_of_the_same_cost() {
        let hash = Password::new("correct horse", 6)
            .unwrap()
            .hash([7; 16])
            .unwrap();
        assert_eq!(NOBODY.len(), hash.len());
        assert_eq!(NOBODY[..7], hash[..7]);
        assert!(bcrypt::verify("x", NOBODY).is_ok());
    }

    #[test]
    fn what_bcrypt_would_cut_off_is_no_match() {
        let long = "x".repeat(73);
        let hash = Password::new(&long[..72], 6)
            .unwrap()
            .hash([7; 16])
            .unwrap();
        assert!(is_behind(&long[..72], &hash));
        assert!(!is_behind(&long, &hash));
    }

    #[test]
    fn a_hash_of_argon2_is_verified_too() {
        // From the command-line tool of the reference implementation: echo -n password | argon2 somesalt.
        let hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(is_behind("password", hash));
        assert!(!is_behind("passwort", hash));
        assert!(is_verifiable(hash));
        assert!(!is_verifiable(
            "$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=x$y$z"
        ));
    }

    #[test]
    fn a_hash_that_would_take_too_long_or_too_much_is_not_verified() {
        for (params, expected) in [
            ("m=65536,t=2,p=1", true),
            // The two that RFC 9106 recommends: the first takes 2 GiB.
            ("m=2097152,t=1,p=4", false),
            ("m=65536,t=3,p=4", true),
            ("m=131072,t=4,p=1", true),
            ("m=131072,t=5,p=1", false),
            ("m=131073,t=1,p=1", false),
            ("m=8,t=65536,p=1", true),
            ("m=8,t=65537,p=1", false),
            ("m=4294967295,t=1,p=1", false),
            ("m=8,t=4294967295,p=1", false),
        ] {
            let hash = format!(
                "$argon2id$v=19${params}$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
            );
            assert_eq!(is_verifiable(&hash), expected, "{params}");
        }
        for (cost, expected) in [("04", true), ("14", true), ("15", false), ("31", false)] {
            let hash = format!("$2a${cost}{}", &NOBODY[6..]);
            assert_eq!(is_verifiable(&hash), expected, "{cost}");
        }
        assert!(!is_behind("x", &format!("$2a$31{}", &NOBODY[6..])));
    }

    #[test]
    fn unfit_passwords_are_refused() {
        assert!(matches!(Password::new("", 0), Err(Error::EmptyPassword)));
        assert!(matches!(
            Password::new("\u{1F511}\u{1F511}", 3),
            Err(Error::PasswordTooShort { len: 2, min: 3 })
        ));
        assert!(Password::new(&"x".repeat(72), 6).is_ok());
        assert!(matches!(
            Password::new(&"\u{e9}".repeat(37), 6),
            Err(Error::PasswordTooLong { len: 74, max: 72 })
        ));
    }
}
