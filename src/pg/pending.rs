//! Secrets on their way into a table.
//!
//! They are no parameters of the statement that stores them: extensions that log statements log their parameters,
//! and Postgres makes constants of those, which are in the log wherever plans are. So the statement calls a
//! function, which hands the secret over once.

use zeroize::Zeroizing;

use super::Local;

pub struct Pending(Local<Option<Zeroizing<String>>>);

impl Pending {
    pub const fn new() -> Self {
        Self(Local::new(None))
    }

    /// Runs `write`, in which the statement's function calls [`Self::take`].
    pub fn with<R>(&self, secret: Zeroizing<String>, write: impl FnOnce() -> R) -> R {
        /// Also if an error gets past it.
        struct Forget<'a>(&'a Pending);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                self.0.take();
            }
        }
        // SAFETY: no reference is held while Postgres is called.
        unsafe { *self.0.get() = Some(secret) };
        let _forget = Forget(self);
        write()
    }

    /// The secret that is being stored, and nothing at any other time.
    pub fn take(&self) -> Option<Zeroizing<String>> {
        // SAFETY: as above.
        unsafe { self.0.get().take() }
    }
}
