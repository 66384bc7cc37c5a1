//! The keys that JWTs are signed with: add one, rotate them, revoke one, publish them.

pub mod ring;
pub mod secret;
mod store;

use pgrx::prelude::*;
use supabase_pat_core::algorithm::Algorithm;
use supabase_pat_core::error::{ARGUMENT, Error};
use supabase_pat_core::key_ring::Status;
use supabase_pat_core::secret::Secret;
use supabase_pat_core::signing_key::{KeyId, SigningKey};
use uuid::Builder;

use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::json::JsonbText;
use crate::pg::random;
use crate::pg::rights;
use crate::pg::settings;
use ring::KeysInUse;

extension_sql_file!(
    "../../sql/signing_keys.sql",
    name = "signing_keys",
    requires = [
        "request",
        add_signing_key,
        import_signing_key,
        rotate_signing_key,
        revoke_signing_key,
        jwks,
        jwks_for_verifier,
        take_private_jwk
    ]
);

#[pg_extern(requires = ["schema"])]
fn add_signing_key(
    alg: default!(Option<&str>, "'ES256'"),
    secret: default!(Option<&str>, "NULL"),
    kid: default!(Option<&str>, "NULL"),
) -> SqlResult<String> {
    reported(|| {
        rights::require_trusted("add signing keys")?;
        rights::require_writable("adding a signing key")?;
        let algorithm = Algorithm::named(alg.ok_or(Error::NullArgument("alg"))?)
            .ok_or(Error::UnknownAlgorithm)?;
        let id = match kid {
            Some(kid) => KeyId::new(kid)?,
            None => new_key_id()?,
        };
        let key = match secret {
            None => return add(&SigningKey::generate(id, algorithm)?),
            Some(_) if algorithm.min_secret_bytes().is_none() => {
                return Err(Error::SecretForKeyPair(algorithm));
            }
            Some(secret) => {
                let secret = Secret::from_text(secret.as_bytes(), algorithm, ARGUMENT)?;
                SigningKey::shared(Some(id), algorithm, secret)?
            }
        };
        add_foreign(&key)
    })
}

#[pg_extern(requires = ["schema"])]
fn import_signing_key(jwk: Option<JsonbText>) -> SqlResult<String> {
    reported(|| {
        rights::require_trusted("import signing keys")?;
        rights::require_writable("importing a signing key")?;
        let JsonbText(jwk) = jwk.ok_or(Error::NullArgument("jwk"))?;
        add_foreign(&SigningKey::from_jwk(&jwk, new_key_id)?)
    })
}

#[pg_extern(requires = ["schema"])]
fn rotate_signing_key(kid: Option<&str>) -> SqlResult<()> {
    reported(|| {
        rights::require_trusted("rotate signing keys")?;
        rights::require_writable("rotating signing keys")?;
        let kid = kid.ok_or(Error::NullArgument("kid"))?;
        ring::lock_to_change(false);
        match store::status_of(kid)? {
            None => Err(Error::UnknownKeyId(kid.to_owned())),
            Some(Status::Revoked) => Err(Error::KeyIsRevoked(kid.to_owned())),
            Some(Status::Current) => Ok(()),
            Some(Status::Standby | Status::Previous) => store::rotate(kid, Instant::now()),
        }
    })
}

#[pg_extern(requires = ["schema"])]
fn revoke_signing_key(kid: Option<&str>) -> SqlResult<()> {
    reported(|| {
        rights::require_trusted("revoke signing keys")?;
        rights::require_writable("revoking a signing key")?;
        let kid = kid.ok_or(Error::NullArgument("kid"))?;
        ring::lock_to_change(true);
        match store::status_of(kid)? {
            None => Err(Error::UnknownKeyId(kid.to_owned())),
            Some(Status::Current) => Err(Error::KeyIsCurrent(kid.to_owned())),
            Some(Status::Revoked) => Ok(()),
            Some(Status::Standby | Status::Previous) => store::revoke(kid, Instant::now()),
        }
    })
}

#[pg_extern(stable, parallel_safe, requires = ["schema"])]
fn jwks() -> JsonbText {
    JsonbText(ring::key_ring().public_jwks().to_string())
}

#[pg_extern(stable, parallel_restricted, requires = ["schema"])]
fn jwks_for_verifier() -> SqlResult<JsonbText> {
    reported(|| {
        rights::require_trusted("read shared secrets")?;
        let keys = KeysInUse::all()?;
        Ok(JsonbText(keys.borrow().verifier_jwks().to_string()))
    })
}

/// The private key for the statement that stores it, null at any other time.
#[pg_extern(requires = ["schema"])]
fn take_private_jwk() -> Option<String> {
    ring::take_private_jwk().map(|jwk| jwk.to_string())
}

/// Adds a key that was not made here, which may be weak.
fn add_foreign(key: &SigningKey) -> Result<String, Error> {
    key.require_strong_when_new(settings::allow_weak_keys())?;
    add(key)
}

fn add(key: &SigningKey) -> Result<String, Error> {
    let id = key.id().ok_or(Error::NullArgument("kid"))?;
    match store::add(id, key)? {
        true => Ok(id.to_owned()),
        false => Err(Error::KeyIdTaken(id.to_owned())),
    }
}

/// A random UUID, as Supabase names its signing keys.
fn new_key_id() -> Result<KeyId, Error> {
    let id = Builder::from_random_bytes(random::bytes()?).into_uuid();
    KeyId::new(id.to_string())
}
