//! The keys of an installation, and which of them a token is verified with.

use std::rc::Rc;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::error::Error;
use crate::jwt::Unverified;
use crate::rejection::Rejection;
use crate::signing_key::{KeyId, SigningKey};

/// How far a key has come. Only the current one signs; all but revoked ones verify, so that a key
/// can be published before it signs, and tokens outlive the rotation that follows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Standby,
    Current,
    Previous,
    Revoked,
}

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "standby" => Ok(Self::Standby),
            "current" => Ok(Self::Current),
            "previous" => Ok(Self::Previous),
            "revoked" => Ok(Self::Revoked),
            _ => Err(()),
        }
    }
}

#[derive(Default)]
pub struct KeyRing(Vec<RingKey>);

pub struct RingKey {
    pub id: String,
    pub status: Status,
    /// `None` if what is stored cannot be read: such a key verifies nothing, and does not sign.
    pub key: Option<Rc<SigningKey>>,
}

impl RingKey {
    /// A key as it is stored.
    pub fn from_stored(id: &str, status: &str, private_jwk: &str) -> Self {
        let key = SigningKey::from_jwk(private_jwk, || KeyId::new(id));
        Self {
            id: id.to_owned(),
            // A status that is not known lets nothing verify.
            status: status.parse().unwrap_or(Status::Revoked),
            key: key.ok().filter(|key| key.id() == Some(id)).map(Rc::new),
        }
    }
}

impl KeyRing {
    pub fn new(keys: Vec<RingKey>) -> Self {
        Self(keys)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that signs, if one has been made current.
    ///
    /// # Errors
    /// [`Error::UnreadableKey`].
    pub fn current(&self) -> Result<Option<Rc<SigningKey>>, Error> {
        let Some(current) = self.0.iter().find(|key| key.status == Status::Current) else {
            return Ok(None);
        };
        match &current.key {
            Some(key) => Ok(Some(key.clone())),
            None => Err(Error::UnreadableKey(current.id.clone())),
        }
    }

    /// The key that a token names, if it is here.
    fn named_by(&self, token: &Unverified) -> Option<&RingKey> {
        let id = token.key_id()?;
        self.0.iter().find(|key| key.id == id)
    }

    /// Whether only a key of the ring can have signed the token.
    pub fn decides(&self, token: &Unverified) -> bool {
        self.named_by(token).is_some()
    }

    /// The key of that id, if it is not revoked.
    pub fn find(&self, id: &str) -> Option<&SigningKey> {
        let found = self.0.iter().find(|key| key.id == id);
        found
            .filter(|key| key.status != Status::Revoked)?
            .key
            .as_deref()
    }

    /// Whether a shared secret is that of a revoked key, which it may be when it has been imported.
    pub fn has_revoked(&self, secret: &[u8]) -> bool {
        let mut revoked = self.with_status(&[Status::Revoked]);
        revoked.any(|key| key.secret().is_some_and(|other| other.equals(secret)))
    }

    fn with_status(&self, statuses: &[Status]) -> impl Iterator<Item = &SigningKey> {
        self.0
            .iter()
            .filter(move |key| statuses.contains(&key.status))
            .filter_map(|key| key.key.as_deref())
    }

    /// All keys that verify, the current one first.
    fn verifying(&self) -> impl Iterator<Item = &SigningKey> {
        [Status::Current, Status::Standby, Status::Previous]
            .into_iter()
            .flat_map(|status| self.with_status(&[status]).collect::<Vec<_>>())
    }

    /// The public keys as a JWK Set (RFC 7517 section 5).
    pub fn public_jwks(&self) -> Value {
        json!({"keys": self.verifying().filter_map(SigningKey::public_jwk).collect::<Vec<_>>()})
    }
}

/// Everything that a token may have been signed with.
pub struct VerificationKeys<'a> {
    pub ring: &'a KeyRing,
    /// The secret that is configured outside the ring. It verifies for as long as it is configured: tokens
    /// of Supabase Auth and API keys are signed with it.
    pub configured: Option<&'a SigningKey>,
}

impl VerificationKeys<'_> {
    /// Checks the signature of a token, and nothing else.
    ///
    /// The algorithm is that of the key. If the token names a key of the ring, no other is tried.
    /// If it names none, or one that is not there, the configured secret may have signed it, and
    /// without a name, as with PostgREST, any key of its algorithm.
    pub fn verify(&self, token: &Unverified) -> Result<(), Rejection> {
        let algorithm = token.algorithm()?;
        if let Some(named) = self.ring.named_by(token) {
            let key = named.key.as_ref().ok_or(Rejection::UnknownKey)?;
            if key.algorithm() != algorithm {
                return Err(Rejection::WrongAlgorithm);
            }
            return match (token.is_signed_by(key), named.status) {
                (false, _) => Err(Rejection::BadSignature),
                (true, Status::Revoked) => Err(Rejection::RevokedKey),
                (true, _) => Ok(()),
            };
        }
        let has_algorithm = |key: &&SigningKey| key.algorithm() == algorithm;
        // The configured secret may be one that was revoked in the ring, so that comes first.
        let mut revoked = self.ring.with_status(&[Status::Revoked]);
        if revoked.any(|key| has_algorithm(&key) && token.is_signed_by(key)) {
            return Err(Rejection::RevokedKey);
        }
        let unnamed = self.ring.verifying().filter(|_| token.key_id().is_none());
        let mut candidates = self
            .configured
            .into_iter()
            .chain(unnamed)
            .filter(has_algorithm)
            .peekable();
        let is_any = candidates.peek().is_some();
        match candidates.any(|key| token.is_signed_by(key)) {
            true => Ok(()),
            false if is_any && token.key_id().is_none() => Err(Rejection::BadSignature),
            false => Err(Rejection::UnknownKey),
        }
    }

    /// The key that a token of ours names: one of the ring that is not revoked, or without a name the
    /// configured secret. What the token was signed with, that key or one derived from it, is not
    /// looked at.
    pub fn named_by(&self, token: &Unverified) -> Result<&SigningKey, Rejection> {
        if let Some(named) = self.ring.named_by(token) {
            return match (&named.key, named.status) {
                (_, Status::Revoked) => Err(Rejection::RevokedKey),
                (Some(key), _) => Ok(key),
                (None, _) => Err(Rejection::UnknownKey),
            };
        }
        match self.configured.filter(|_| token.key_id().is_none()) {
            Some(key) if self.is_revoked(key) => Err(Rejection::RevokedKey),
            Some(key) => Ok(key),
            None => Err(Rejection::UnknownKey),
        }
    }

    fn is_revoked(&self, key: &SigningKey) -> bool {
        key.secret()
            .is_some_and(|secret| self.ring.has_revoked(secret.expose()))
    }

    /// Everything that a verifier needs, the shared secrets too, as a JWK Set.
    pub fn verifier_jwks(&self) -> Value {
        let configured = self.configured.filter(|key| !self.is_revoked(key));
        let keys = self.ring.verifying().chain(configured);
        json!({"keys": keys.map(SigningKey::verifying_jwk).collect::<Vec<_>>()})
    }
}
