//! The limits of a token. How requests are counted is in [`super::usage`].

use std::ffi::CStr;
use std::net::IpAddr;

use supabase_pat_core::error::Error;
use supabase_pat_core::lease::Counters;
use supabase_pat_core::rate::Limits;
use supabase_pat_core::rate_headers::RateHeaders;
use supabase_pat_core::refusal::Refusal;
use uuid::Uuid;

use super::Stop;
use super::guard;
use super::raise;
use super::usage::{self, Bearer, NotAdmitted};
use crate::pg::clock::Instant;
use crate::pg::{guc, settings};
use crate::tokens::lookup::{self, StoredToken};
use crate::users::state::UserState;

/// What PostgREST adds to the headers of an answer.
const RESPONSE_HEADERS: &CStr = c"response.headers";

/// Counts a request of a token, and notes where it comes from. The guard and the gate may both judge it: it is counted
/// once. The answer to one that is admitted tells of its limits.
///
/// # Errors
/// [`Refusal::TooManyRequests`], [`Refusal::NoRoom`], [`Refusal::NoLease`], [`Refusal::OnStandby`],
/// [`Refusal::Unpreloaded`].
pub fn count(token: &StoredToken, address: Option<IpAddr>) -> Result<(), Stop> {
    if guard::was_counted(token.id) {
        return Ok(());
    }
    let bearer = Bearer {
        token: token.id,
        user: token.user,
    };
    let limits = &token.limits;
    match usage::admit(bearer, limits, address, is_dead) {
        Ok(counters) => {
            guard::note_counted(token.id);
            Ok(tell(limits, &counters)?)
        }
        Err(refused) => Err(refusal(limits, refused).into()),
    }
}

fn refusal(limits: &Limits, refused: NotAdmitted) -> Refusal {
    match refused {
        NotAdmitted::UsedUp {
            which,
            micros,
            counters,
        } => {
            let limit = limits.of(which);
            Refusal::TooManyRequests {
                requests: limit.map_or(0, |limit| limit.requests),
                window: limit.map_or(0, |limit| limit.seconds()),
                retry_after: micros.saturating_add(999_999) / 1_000_000,
                headers: headers(limits, &counters),
            }
        }
        NotAdmitted::NoRoom => Refusal::NoRoom,
        NotAdmitted::NoLease => Refusal::NoLease,
        NotAdmitted::OnStandby => Refusal::OnStandby,
        NotAdmitted::Unpreloaded => Refusal::Unpreloaded,
    }
}

fn headers(limits: &Limits, counters: &Counters) -> Option<RateHeaders> {
    match settings::rate_limit_headers() {
        true => RateHeaders::new(limits, counters, Instant::now().unix_micros()),
        false => None,
    }
}

/// Adds to the headers of the answer how much of the limits is left. What somebody has put there that is no list of
/// headers stays as it is: PostgREST says what is wrong with it.
fn tell(limits: &Limits, counters: &Counters) -> Result<(), Error> {
    let Some(headers) = headers(limits, counters) else {
        return Ok(());
    };
    let present = guc::setting(RESPONSE_HEADERS);
    match headers.added_to(present.as_deref()) {
        Some(headers) => guc::set(RESPONSE_HEADERS, &headers),
        None => Ok(()),
    }
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
