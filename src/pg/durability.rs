//! What a revocation waits for before it is answered: that it is on disk here, or on the standbys too.
#![allow(unsafe_code)]

use pgrx::pg_sys;
use supabase_pat_core::error::Error;

use crate::pg::guc;
use crate::pg::settings;

/// The levels of `synchronous_commit`, from least to most, as Postgres numbers them.
#[derive(Clone, Copy, pgrx::PostgresGucEnum)]
pub enum Level {
    #[name = c"off"]
    Off,
    #[name = c"local"]
    Local,
    #[name = c"remote_write"]
    RemoteWrite,
    #[name = c"on"]
    On,
    #[name = c"remote_apply"]
    RemoteApply,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Local => "local",
            Self::RemoteWrite => "remote_write",
            Self::On => "on",
            Self::RemoteApply => "remote_apply",
        }
    }
}

/// Makes the commit of the transaction wait for what `supabase_pat.revoke_synchronous_commit` says, unless it waits for
/// more anyway. To be called wherever something valid is ended: a token, a session, a signing key.
///
/// # Errors
/// Those of [`guc::set`].
pub fn of_revocation() -> Result<(), Error> {
    let level = settings::revoke_synchronous_commit();
    // SAFETY: a number that only this backend writes.
    let present = unsafe { pg_sys::synchronous_commit };
    match present < level as i32 {
        true => guc::set(c"synchronous_commit", level.name()),
        false => Ok(()),
    }
}
