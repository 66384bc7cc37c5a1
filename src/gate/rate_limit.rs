//! The rate limit of a token. How requests are counted is in [`super::usage`].

use std::net::IpAddr;

use supabase_pat_core::refusal::Refusal;
use uuid::Uuid;

use super::guard;
use super::raise;
use super::usage::{self, Bearer, NotAdmitted};
use crate::pg::clock::Instant;
use crate::tokens::lookup::{self, StoredToken};
use crate::users::state::UserState;

/// Counts a request of a token, and notes where it comes from. The guard and the gate may both judge it: it is counted
/// once.
///
/// # Errors
/// [`Refusal::TooManyRequests`], [`Refusal::NoRoom`].
pub fn count(token: &StoredToken, address: Option<IpAddr>) -> Result<(), Refusal> {
    if guard::was_counted(token.id) {
        return Ok(());
    }
    let bearer = Bearer {
        token: token.id,
        user: token.user,
    };
    let admitted = usage::admit(bearer, token.limit, address, is_dead);
    admitted
        .inspect(|()| guard::note_counted(token.id))
        .map_err(|refused| match (refused, token.limit) {
            (NotAdmitted::UsedUp(micros), Some(limit)) => Refusal::TooManyRequests {
                requests: limit.requests,
                window: limit.seconds(),
                retry_after: micros.saturating_add(999_999) / 1_000_000,
            },
            _ => Refusal::NoRoom,
        })
}

/// Whether a token makes no further request. The token of a banned user is not dead: the user has it again when the ban
/// ends.
///
/// A look-up sees what this transaction has written, even a revocation that will be rolled back. So once it has written,
/// no token counts as dead.
fn is_dead(token: Uuid) -> bool {
    !raise::transaction_has_written()
        && lookup::by_id(token).is_none_or(|token| {
            token.is_revoked
                || token.expires_at <= Instant::now()
                || matches!(token.user_state, UserState::Gone)
        })
}
