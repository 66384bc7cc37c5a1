//! The configured secret: the key for HS256 that is not in `pat.signing_keys`.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::rc::Rc;

use pgrx::pg_sys;
use supabase_pat_core::algorithm::Algorithm;
use supabase_pat_core::error::Error;
use supabase_pat_core::secret::Secret;
use supabase_pat_core::signing_key::SigningKey;

use crate::pg::Local;
use crate::pg::guc;
use crate::pg::safe_view::SafeView;
use crate::pg::settings;

const VAULT_QUERY: &str = "select decrypted_secret from vault.decrypted_secrets \
     where name operator(pg_catalog.=) 'supabase_pat_jwt_secret' limit 1";

/// A secret file holds one line of text. This bounds what is read if the path is wrong.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The configured secret as a key, kept as long as its text stays the same.
static KEY: Local<Option<(Vec<u8>, Rc<SigningKey>)>> = Local::new(None);

/// The configured secret as a key: the first that exists of the Vault secret, the file, the setting, and the setting of
/// older self-hosted installations. One that exists but does not fit is an error, and no reason to look further, so
/// that a typo does not change the key.
///
/// # Errors
/// [`Error::SecretTooShort`], [`Error::SecretOfWrongType`], [`Error::SecretFile`], [`Error::WeakKey`].
pub fn configured_key() -> Result<Option<Rc<SigningKey>>, Error> {
    let key = configured_key_of_any_strength()?;
    if let Some(key) = &key {
        key.require_strong(settings::allow_weak_keys())?;
    }
    Ok(key)
}

/// As [`configured_key`], but also returns a secret that everybody knows.
///
/// # Errors
/// Those of [`configured_key`], without [`Error::WeakKey`].
pub fn configured_key_of_any_strength() -> Result<Option<Rc<SigningKey>>, Error> {
    if let Some(text) = vault_secret()? {
        return key_of(text.as_bytes(), "Vault");
    }
    if let Some(path) = settings::jwt_secret_file() {
        return key_of(&read_file(&path)?, "supabase_pat.jwt_secret_file");
    }
    if let Some(text) = settings::jwt_secret() {
        return key_of(text.as_bytes(), "supabase_pat.jwt_secret");
    }
    match legacy_secret() {
        Some(text) => key_of(text, "app.settings.jwt_secret"),
        None => Ok(None),
    }
}

fn key_of(text: &[u8], source: &str) -> Result<Option<Rc<SigningKey>>, Error> {
    // SAFETY: the reference is not held while Postgres is called.
    if let Some((known, key)) = unsafe { KEY.get() }
        && known == text
    {
        return Ok(Some(key.clone()));
    }
    let secret = Secret::from_text(text, Algorithm::Hs256, source)?;
    let key = Rc::new(SigningKey::shared(None, Algorithm::Hs256, secret)?);
    // SAFETY: as above.
    unsafe { *KEY.get() = Some((text.to_vec(), key.clone())) };
    Ok(Some(key))
}

fn vault_secret() -> Result<Option<String>, Error> {
    match SafeView::find(c"vault", c"decrypted_secrets")? {
        Some(view) => view.read(VAULT_QUERY, |rows| match rows.is_empty() {
            true => Ok(None),
            false => rows.first().get_one::<String>(),
        }),
        None => Ok(None),
    }
}

/// The first [`MAX_FILE_BYTES`] of a file. The text of an error is the operating system's, which names no part of the
/// content.
fn read_file(path: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|error| Error::SecretFile(error.to_string()))?;
    Ok(bytes)
}

/// `app.settings.jwt_secret` as the database or the configuration file sets it. A value that a session has set for
/// itself, or has brought along in the options of its connection, does not count: no library has declared the setting,
/// so any role can set it.
fn legacy_secret() -> Option<&'static [u8]> {
    use pg_sys::GucSource::{PGC_S_ARGV, PGC_S_DATABASE, PGC_S_FILE, PGC_S_GLOBAL};
    let record = guc::find_setting(c"app.settings.jwt_secret")?;
    // SAFETY: the record is Postgres's. A setting that no library has declared is of type string. The text stays as
    // long as nothing reloads the configuration, which happens between statements.
    let text = unsafe {
        let source = (*record).reset_source;
        if ![PGC_S_FILE, PGC_S_ARGV, PGC_S_GLOBAL, PGC_S_DATABASE].contains(&source)
            || (*record).vartype != pg_sys::config_type::PGC_STRING
        {
            return None;
        }
        let text = (*record.cast::<pg_sys::config_string>()).reset_val;
        if text.is_null() {
            return None;
        }
        CStr::from_ptr(text)
    };
    Some(text.to_bytes()).filter(|bytes| !bytes.is_empty())
}
