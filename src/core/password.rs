//! Passwords, hashed as Supabase Auth does it: bcrypt, cost 10, `$2a$`.

use zeroize::Zeroizing;

use crate::error::Error;

const COST: u32 = 10;

/// bcrypt takes no more, and cuts the rest off in silence.
const MAX_BYTES: usize = 72;

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

    /// Takes some 50 ms, as it is meant to.
    pub fn hash(&self, salt: [u8; 16]) -> Result<String, Error> {
        bcrypt::hash_with_salt(self.0.as_bytes(), COST, salt)
            .map(|parts| parts.format_for_version(bcrypt::Version::TwoA))
            .map_err(|error| Error::Internal(format!("hashing failed: {error}")))
    }

    /// Whether this is the password behind a hash. False for a hash of another kind, which Supabase
    /// Auth may have taken over from elsewhere.
    pub fn is_behind(&self, hash: &str) -> bool {
        bcrypt::verify(self.0.as_bytes(), hash).unwrap_or(false)
    }
}

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
        // A test vector of the bcrypt of OpenBSD.
        let hash = "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkY8jIucDrjc8deX1s.";
        assert!(!Password::new("a", 1).unwrap().is_behind(hash));
        for other in ["", "x", "$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$x"] {
            assert!(!Password::new("a", 1).unwrap().is_behind(other));
        }
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
