//! The glue to Postgres, and the only place for `unsafe`.
#![allow(unsafe_code)]

pub mod caller;
pub mod clock;
pub mod composite;
pub mod error;
pub mod lookup;
pub mod policy;
pub mod random;
pub mod relations;
pub mod request;
pub mod run;
pub mod secret;
pub mod settings;
pub mod store;

use pgrx::pg_sys;

/// Postgres functions that raise no error, declared again without the guard that pgrx puts around
/// each call into Postgres. The guard is a `sigsetjmp`, about 15 ns, which is more than these cost.
mod unguarded {
    use super::pg_sys;

    unsafe extern "C-unwind" {
        pub fn ActiveSnapshotSet() -> bool;
        pub fn GetActiveSnapshot() -> pg_sys::Snapshot;
        pub fn GetCurrentTimestamp() -> pg_sys::TimestampTz;
        pub fn GetCurrentTransactionNestLevel() -> std::ffi::c_int;
        #[cfg(feature = "pg15")]
        pub fn GetNumConfigOptions() -> std::ffi::c_int;
        #[cfg(feature = "pg15")]
        pub fn get_guc_variables() -> *mut *mut pg_sys::config_generic;
    }
}

/// Backend-local state. A backend has one thread, and pgrx refuses to be called from another.
struct Local<T>(std::cell::UnsafeCell<T>);

// SAFETY: only the backend's one thread runs code of ours.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// # Safety
    /// No other reference to the value may be in use, so none may be held while Postgres or other
    /// code of ours is called that could come back here.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self) -> &mut T {
        // SAFETY: one thread, and the caller promises that there is no second reference.
        unsafe { &mut *self.0.get() }
    }
}

pub fn init() {
    settings::define();
    run::install_hook();
}
