//! The signing keys of this database. To read them takes a scan of the table and the parsing of each key, 20 µs a key
//! and more, so each backend keeps them, as [`crate::pg::kept`] says.
#![allow(unsafe_code)]

use std::ops::ControlFlow;
use std::rc::Rc;

use pgrx::pg_sys;
use supabase_pat_core::error::Error;
use supabase_pat_core::jwt::Unverified;
use supabase_pat_core::key_ring::{KeyRing, RingKey, VerificationKeys};
use supabase_pat_core::signing_key::SigningKey;
use zeroize::Zeroizing;

use crate::pg::column::{Column, Text, TextCopy};
use crate::pg::kept::{Kept, change_trigger};
use crate::pg::relations::{self, Table, layout};
use crate::pg::scan;
use crate::pg::secret_argument::SecretArgument;
use crate::pg::settings;
use crate::signing_keys::secret;

/// `pat.signing_keys`.
#[derive(Clone, Copy)]
pub struct SigningKeys {
    table: Table,
    pub kid: Column<Text>,
    pub status: Column<Text>,
}

layout!(SigningKeys, SIGNING_KEYS, c"pat".c"signing_keys", |open| {
    Some(SigningKeys {
        table: open.table,
        kid: open.column(c"kid")?,
        status: open.column(c"status")?,
    })
});

/// `pat.private_keys`.
#[derive(Clone, Copy)]
pub struct PrivateKeys {
    table: Table,
    pub kid: Column<Text>,
    pub jwk: Column<Text>,
}

layout!(PrivateKeys, PRIVATE_KEYS, c"pat".c"private_keys", |open| {
    Some(PrivateKeys {
        table: open.table,
        kid: open.column(c"kid")?,
        jwk: open.column(c"jwk")?,
    })
});

/// `None` while the extension is being installed or dropped.
fn table() -> Option<Table> {
    relations::find_table(c"pat", c"signing_keys")
}

fn changes() -> u64 {
    relations::changes_of::<SigningKeys>() + relations::changes_of::<PrivateKeys>()
}

static KEPT: Kept<KeyRing> = Kept::new(table, changes);

/// The keys as they are now, whatever the snapshot of the transaction shows.
pub fn key_ring() -> Rc<KeyRing> {
    KEPT.now(|_| KeyRing::new(stored_keys()))
        .unwrap_or_default()
}

/// The key that signs: the current one of the ring, or else the configured secret.
///
/// # Errors
/// [`Error::NotUtf8`], [`Error::UnreadableKey`], [`Error::WeakKey`], and those of [`secret::configured_key`].
pub fn signing_key() -> Result<Rc<SigningKey>, Error> {
    // SAFETY: it only reads.
    if unsafe { pg_sys::GetDatabaseEncoding() } != pg_sys::pg_enc::PG_UTF8 as i32 {
        return Err(Error::NotUtf8);
    }
    let ring = key_ring();
    if let Some(key) = ring.current()? {
        key.require_strong(settings::allow_weak_keys())?;
        return Ok(key);
    }
    let configured = secret::configured_key()?.ok_or(Error::NoSecret)?;
    match is_revoked(&ring, &configured) {
        true => Err(Error::RevokedSecret),
        false => Ok(configured),
    }
}

fn is_revoked(ring: &KeyRing, key: &SigningKey) -> bool {
    key.secret()
        .is_some_and(|secret| ring.has_revoked(secret.expose()))
}

/// The keys that a token may have been signed with.
pub struct KeysInUse {
    ring: Rc<KeyRing>,
    configured: Option<Rc<SigningKey>>,
}

impl KeysInUse {
    /// All keys of the ring, and the configured secret.
    ///
    /// # Errors
    /// Those of [`secret::configured_key`].
    pub fn all() -> Result<Self, Error> {
        Ok(Self {
            ring: key_ring(),
            configured: secret::configured_key()?,
        })
    }

    /// As [`Self::all`], but also with a secret that everybody knows, to tell what is wrong with it.
    ///
    /// # Errors
    /// Those of [`secret::configured_key`] but for [`Error::WeakKey`].
    pub fn to_inspect() -> Result<Self, Error> {
        Ok(Self {
            ring: key_ring(),
            configured: secret::configured_key_of_any_strength()?,
        })
    }

    /// The keys that may have signed this token. The configured secret, which may be in a file or in Vault, is read
    /// only if the token does not name a key of the ring.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub fn for_token(token: &Unverified) -> Result<Self, Error> {
        let ring = key_ring();
        let configured = match ring.decides(token) {
            true => None,
            false => secret::configured_key()?,
        };
        Ok(Self { ring, configured })
    }

    /// The key of that id, or the configured secret for `None`, unless the secret has been revoked.
    pub fn find(&self, id: Option<&str>) -> Option<&SigningKey> {
        match id {
            Some(id) => self.ring.find(id),
            None => self.configured().filter(|key| !is_revoked(&self.ring, key)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.configured.is_none() && self.ring.is_empty()
    }

    /// The keys as the core takes them.
    pub fn borrow(&self) -> VerificationKeys<'_> {
        VerificationKeys {
            ring: &self.ring,
            configured: self.configured.as_deref(),
        }
    }

    /// The configured secret.
    pub fn configured(&self) -> Option<&SigningKey> {
        self.configured.as_deref()
    }
}

/// Makes this transaction, which is about to sign, and transactions that revoke a signing key wait for each other, so
/// that no token is signed with a key that has been revoked. Rotations do not wait for it.
pub fn lock_to_sign() {
    if let Some(table) = table() {
        // SAFETY: takes a lock like any other, or raises an error.
        unsafe { pg_sys::LockRelationOid(table.oid, pg_sys::RowShareLock as i32) };
    }
}

/// Makes transactions that change the keys wait for each other. `ends_tokens`: tokens die by the change, so it waits
/// for transactions that are signing too.
pub fn lock_to_change(ends_tokens: bool) {
    let mode = match ends_tokens {
        true => pg_sys::ExclusiveLock,
        false => pg_sys::ShareRowExclusiveLock,
    };
    if let Some(table) = table() {
        // SAFETY: takes a lock like any other, or raises an error.
        unsafe { pg_sys::LockRelationOid(table.oid, mode as i32) };
    }
}

static PENDING: SecretArgument = SecretArgument::new();

/// Runs `insert`, whose statement calls [`take_private_jwk`] to get the private key.
pub fn with_private_jwk<R>(key: &SigningKey, insert: impl FnOnce() -> R) -> R {
    PENDING.with(key.private_jwk(), insert)
}

/// The private key that is being stored.
pub fn take_private_jwk() -> Option<Zeroizing<String>> {
    PENDING.secret()
}

fn stored_keys() -> Vec<RingKey> {
    let mut rows: [Vec<[Option<TextCopy>; 2]>; 2] = Default::default();
    let [keys, private] = &mut rows;
    let read = scan::look_at_both::<SigningKeys, PrivateKeys, _>(|public, secret| {
        public.rows(|row| {
            keys.push([row.get(public.layout.kid), row.get(public.layout.status)]);
            ControlFlow::Continue(())
        });
        secret.rows(|row| {
            private.push([row.get(secret.layout.kid), row.get(secret.layout.jwk)]);
            ControlFlow::Continue(())
        });
    });
    let read = scan::expect::<SigningKeys, _>(read);
    scan::expect::<PrivateKeys, _>(read);
    let [mut keys, private] = rows.map(|rows| {
        let text = |text: Option<TextCopy>| text.map(TextCopy::to_text).unwrap_or_default();
        let pairs = rows.into_iter().map(|row| row.map(text));
        pairs.map(|[kid, other]| (kid, other)).collect::<Vec<_>>()
    });
    keys.sort();
    let jwk_of = |kid| private.iter().find(|(other, _)| other == kid);
    keys.iter()
        .map(|(kid, status)| {
            let jwk = jwk_of(kid).map_or("", |(_, jwk)| jwk);
            RingKey::from_stored(kid, status, jwk)
        })
        .collect()
}

change_trigger!(
    pg_finfo_supabase_pat_signing_keys_changed,
    supabase_pat_signing_keys_changed,
    table
);
