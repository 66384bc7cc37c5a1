//! State of a backend.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;

/// Backend-local state. A backend has one thread, and pgrx refuses to be called from another.
pub struct Local<T>(UnsafeCell<T>);

// SAFETY: only the backend's one thread runs code of ours.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// # Safety
    /// No other reference to the value may be in use, so none may be held while Postgres or other
    /// code of ours is called that could come back here.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn get(&self) -> &mut T {
        // SAFETY: one thread, and the caller promises that there is no second reference.
        unsafe { &mut *self.0.get() }
    }
}
