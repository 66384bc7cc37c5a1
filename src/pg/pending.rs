//! Secrets on their way into a table.
//!
//! They are no parameters of the statement that stores them: extensions that log statements log their parameters,
//! and Postgres makes constants of those, which are in the log wherever plans are. So the statement calls a
//! function, which hands the secret over, and has none at any other time.
#![allow(unsafe_code)]

use zeroize::Zeroizing;

use crate::pg::Local;

pub struct Pending(Local<Option<Zeroizing<String>>>);

impl Pending {
    pub const fn new() -> Self {
        Self(Local::new(None))
    }

    /// Runs `write`, in which the statement's function calls [`Self::secret`].
    pub fn with<R>(&self, secret: Zeroizing<String>, write: impl FnOnce() -> R) -> R {
        /// Also if an error gets past it.
        struct Forget<'a>(&'a Pending);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                // SAFETY: as below.
                unsafe { *self.0.0.get() = None };
            }
        }
        // SAFETY: no reference is held while Postgres is called.
        unsafe { *self.0.get() = Some(secret) };
        let _forget = Forget(self);
        write()
    }

    /// The secret that is being stored. Postgres asks again where somebody else has changed the row meanwhile: it
    /// then computes the new one from the changed one.
    pub fn secret(&self) -> Option<Zeroizing<String>> {
        // SAFETY: as above.
        unsafe { self.0.get().clone() }
    }
}
