//! Randomness from the operating system.

use supabase_pat_core::error::Error;

pub fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Internal(format!("no random bytes to be had: {error}")))?;
    Ok(bytes)
}
