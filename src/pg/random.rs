//! Randomness from the operating system, through Postgres.

use pgrx::pg_sys;
use supabase_pat_core::error::Error;

pub fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    // SAFETY: it writes N bytes.
    match unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), N) } {
        true => Ok(bytes),
        false => Err(Error::Internal("no random bytes could be generated".into())),
    }
}
