//! Randomness from the operating system.

use supabase_pat_core::error::Error;

/// `N` random bytes.
///
/// # Errors
/// [`Error::Internal`] if the operating system has none to give.
pub fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Internal(format!("no random bytes to be had: {error}")))?;
    Ok(bytes)
}
