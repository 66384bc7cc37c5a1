//! Messages that lie in a table until they are sent, sealed with AES-256-GCM under a key that is
//! derived from a signing key. AWS-LC chooses the nonce, and what a message belongs to is bound to it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::codes::Purpose;
use crate::error::Error;
use crate::signing_key::SigningKey;

/// Nonce, ciphertext and tag of a message. `id` is what it is stored under.
pub fn seal(key: &SigningKey, purpose: Purpose, id: Uuid, text: &str) -> Result<Vec<u8>, Error> {
    let failed = |_| Error::Internal("sealing failed".into());
    let mut bytes = text.as_bytes().to_vec();
    let nonce = cipher(key, purpose)?
        .seal_in_place_append_tag(Aad::from(id.as_bytes()), &mut bytes)
        .map_err(failed)?;
    let mut sealed = nonce.as_ref().to_vec();
    sealed.append(&mut bytes);
    Ok(sealed)
}

/// `None` if it was sealed with another key, for another id or purpose, or has been changed.
pub fn open(
    key: &SigningKey,
    purpose: Purpose,
    id: Uuid,
    sealed: &[u8],
) -> Option<Zeroizing<String>> {
    let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut bytes = Zeroizing::new(rest.to_vec());
    let cipher = cipher(key, purpose).ok()?;
    let aad = Aad::from(id.as_bytes());
    let text = cipher.open_in_place(nonce, aad, &mut bytes).ok()?;
    let text = std::str::from_utf8(text).ok()?;
    Some(Zeroizing::new(text.to_owned()))
}

fn cipher(key: &SigningKey, purpose: Purpose) -> Result<RandomizedNonceKey, Error> {
    let secret = key.derive(&purpose.key_use("message"))?;
    RandomizedNonceKey::new(&AES_256_GCM, &secret[..])
        .map_err(|_| Error::Internal("sealing failed".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Algorithm;
    use crate::signing_key::KeyId;

    fn key() -> SigningKey {
        SigningKey::generate(KeyId::new("k").unwrap(), Algorithm::Es256).unwrap()
    }

    const ID: Uuid = Uuid::from_u128(1);

    #[test]
    fn what_is_sealed_is_opened_with_the_same_key_for_the_same_id() {
        let key = key();
        let seal = || seal(&key, Purpose::Recovery, ID, "123456").unwrap();
        let open = |key, id, sealed: &[u8]| {
            open(key, Purpose::Recovery, id, sealed).map(|text| text.to_string())
        };
        let sealed = seal();
        assert_eq!(open(&key, ID, &sealed).as_deref(), Some("123456"));
        assert_ne!(sealed, seal());
        assert!(!sealed.windows(6).any(|window| window == b"123456"));
        let other = self::key();
        assert!(open(&other, ID, &sealed).is_none());
        assert!(open(&key, Uuid::from_u128(2), &sealed).is_none());
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(open(&key, ID, &changed).is_none());
            assert!(open(&key, ID, &sealed[..place]).is_none());
        }
    }
}
