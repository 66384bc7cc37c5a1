//! Whether a token or a session is live: direct index scans, as [`crate::pg::scan`] says.
#![allow(unsafe_code)]

use pgrx::pg_sys;
use uuid::Uuid;

use crate::pg::changes;
use crate::pg::clock::Instant;
use crate::pg::column::Found;
use crate::pg::scan::{Row, look_at_both};
use crate::pg::unguarded;
use crate::request::tables::{Sessions, Tokens};
use crate::users::state::{UserState, Users, state_of};

/// Whether a token or a session is live, and until when this stays the answer if no row changes.
#[derive(Clone, Copy)]
pub struct Verdict {
    pub is_live: bool,
    /// Whether it is valid only in a transaction in which the gate has let it through: a token for certain addresses,
    /// with a limit, or with a list of scopes.
    pub needs_gate: bool,
    pub holds_until: Instant,
}

impl Verdict {
    /// The answer for what is missing, revoked or over. It holds until a row changes.
    const DEAD: Self = Self {
        is_live: false,
        needs_gate: false,
        holds_until: Instant::END,
    };

    /// The answer for what lives until `end`, as long as its user may log in.
    fn until(end: Instant, user: UserState) -> Self {
        match user {
            UserState::Active => Self {
                is_live: true,
                needs_gate: false,
                holds_until: end,
            },
            UserState::Banned { until } => Self {
                holds_until: until,
                ..Self::DEAD
            },
            UserState::Gone => Self::DEAD,
        }
    }
}

/// What a look-up can see. As long as this stays the same, so does the result of the look-up.
///
/// Postgres counts the transactions of the cluster that have ended after writing something, and reuses a snapshot as
/// long as the count stays the same. The command counter changes with what this transaction writes itself. The count of
/// messages changes with the layout of tables ([`crate::pg::changes`]). It is needed because these messages come a
/// moment after the transaction counts as ended, and no lock keeps a look-up from using the old schema in that moment,
/// if the transaction has given another schema its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    ended_transactions: u64,
    command: pg_sys::CommandId,
    messages: u64,
}

/// The horizon of a look-up that begins now. Never `None`.
pub fn horizon() -> Option<Horizon> {
    // SAFETY: Postgres processes messages wherever it takes a lock, so it can here, and an error jumps over nothing
    // that needs dropping. `GetCatalogSnapshot` takes a new snapshot, since no object (`InvalidOid`) is not a catalog;
    // it is read before anything can replace it.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            unguarded::AcceptInvalidationMessages();
            let messages = changes::of_relations();
            let snapshot = unguarded::GetCatalogSnapshot(pg_sys::InvalidOid);
            Some(Horizon {
                ended_transactions: (*snapshot).snapXactCompletionCount,
                command: (*snapshot).curcid,
                messages,
            })
        })
    }
}

/// Whether a token exists, belongs to the user, is neither revoked, expired nor disabled, and its user is active.
pub fn token_verdict(token: Uuid, user: Uuid) -> Verdict {
    let verdict = look_at_both::<Tokens, Users, _>(|tokens, users| {
        let layout = &tokens.layout;
        let mut expiry = None;
        let mut needs_gate = false;
        tokens.row_with(layout.id, layout.by_id, &token, |row| {
            if row.get(layout.user_id) == Some(user) {
                expiry = live_until(layout, row).filter(|_| !layout.is_disabled(row));
                needs_gate = row.has(layout.rate_limit)
                    || layout.has_quota(row)
                    || row.has(layout.allowed_ips)
                    || row.has(layout.scopes);
            }
        });
        match expiry {
            Some(expiry) => Verdict {
                needs_gate,
                ..Verdict::until(expiry, state_of(users, &user))
            },
            None => Verdict::DEAD,
        }
    });
    verdict.unwrap_or(Verdict::DEAD)
}

/// Whether a session exists, belongs to the user and has not ended, and its user is active.
pub fn session_verdict(session: Uuid, user: Uuid) -> Verdict {
    let verdict = look_at_both::<Sessions, Users, _>(|sessions, users| {
        let layout = &sessions.layout;
        let mut ends_at = None;
        sessions.row_with(layout.id, layout.by_id, &session, |row| {
            if row.get(layout.user_id) == Some(user) {
                ends_at = match layout.not_after {
                    Found::AsExpected(column) => row.get(column).or(Some(Instant::END)),
                    Found::Missing => Some(Instant::END),
                    // The time of its end cannot be read, only whether there is one: then it counts as ended.
                    Found::OfAnotherType(column) => (!row.has(column)).then_some(Instant::END),
                };
            }
        });
        match ends_at {
            Some(end) if end > Instant::now() => Verdict::until(end, state_of(users, &user)),
            _ => Verdict::DEAD,
        }
    });
    verdict.unwrap_or(Verdict::DEAD)
}

/// When a token expires, if it is live now: it has not expired, and its row is not revoked. It may be disabled.
pub fn live_until(tokens: &Tokens, row: &Row) -> Option<Instant> {
    let expiry = row.get(tokens.expires_at)?;
    (!row.has(tokens.revoked_at) && expiry > Instant::now()).then_some(expiry)
}
