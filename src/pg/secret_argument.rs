//! Secrets that a statement stores in a table.
//!
//! A secret is not a parameter of the statement: extensions that log statements log parameters, and Postgres makes
//! constants of parameters, which are in the log if plans are logged. So the statement calls an SQL function that
//! returns the secret while the statement runs, and null at any other time.
#![allow(unsafe_code)]

use zeroize::Zeroizing;

use crate::pg::Local;

/// The place of one kind of secret. Each backend has its own.
pub struct SecretArgument(Local<Option<Zeroizing<String>>>);

impl SecretArgument {
    pub const fn new() -> Self {
        Self(Local::new(None))
    }

    /// Runs `write`, which runs the statement, and during which [`Self::secret`] returns `secret`.
    pub fn with<R>(&self, secret: Zeroizing<String>, write: impl FnOnce() -> R) -> R {
        /// Forgets the secret when `with` returns, or is left by an error.
        struct Forget<'a>(&'a SecretArgument);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                // SAFETY: no reference is in use: each ends at the end of its line.
                unsafe { *self.0.0.get() = None };
            }
        }
        // SAFETY: the reference is gone at the end of the line, before Postgres is called.
        unsafe { *self.0.get() = Some(secret) };
        let _forget = Forget(self);
        write()
    }

    /// A copy of the secret that is being stored. It can be asked for twice: if another transaction has changed the row
    /// meanwhile, Postgres computes the new row again.
    pub fn secret(&self) -> Option<Zeroizing<String>> {
        // SAFETY: the reference is gone at the end of the line, and copying calls nothing that comes back here.
        unsafe { self.0.get().clone() }
    }
}
