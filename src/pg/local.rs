//! State of a backend.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;

/// A value that each backend has for itself. A backend has one thread, and pgrx refuses calls from another one.
pub struct Local<T>(UnsafeCell<T>);

// SAFETY: only the one thread of the backend runs code of this library, so that nothing is shared between threads.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// # Safety
    /// No other reference to the value is in use. So a reference may not be held while Postgres, or code of this
    /// library, is called that could call this again.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn get(&self) -> &mut T {
        // SAFETY: there is one thread, and the caller promises that no second reference is in use.
        unsafe { &mut *self.0.get() }
    }
}
