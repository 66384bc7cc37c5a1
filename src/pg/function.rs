//! SQL functions without pgrx's wrapper.

/// Declares that a C function follows the calling convention of version 1, the only one that Postgres has.
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
