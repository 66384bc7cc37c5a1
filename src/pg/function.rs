//! Functions that Postgres calls without the wrapper of pgrx.

/// Declares that a function is of version 1, as each that Postgres calls must be.
macro_rules! version_1 {
    ($info:ident) => {
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> *const pgrx::pg_sys::Pg_finfo_record {
            const RECORD: pgrx::pg_sys::Pg_finfo_record =
                pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &RECORD
        }
    };
}

pub(crate) use version_1;
