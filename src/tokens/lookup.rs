//! Looking keys, users and sessions up, for a check: direct index scans, as [`crate::pg::scan`] says.
#![allow(unsafe_code)]

use std::ops::ControlFlow;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;
use supabase_pat_core::error::Error;
use supabase_pat_core::live_claims::LiveUser;
use supabase_pat_core::opaque_token;
use supabase_pat_core::rate::Limit;
use supabase_pat_core::scope::Scopes;
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::column::{BytesCopy, Column, Found, Json, JsonCopy, Text, TextsCopy};
use crate::pg::error::reported;
use crate::pg::net::Networks;
use crate::pg::relations::{
    self, CodeAttempts, DeniedTokens, Indexed, Keys, Sessions, UserSettings, Users,
};
use crate::pg::scan::{DigestKey, Key as Sought, Open, Row, expect, look, look_at_both};
use crate::pg::unguarded;

/// A key, dead or alive, as its row and that of its user say.
#[derive(Clone, Copy)]
pub struct Key {
    pub id: Uuid,
    pub user: Uuid,
    pub user_state: UserState,
    pub created_at: Instant,
    pub expires_at: Instant,
    pub is_revoked: bool,
    pub limit: Option<Limit>,
    /// In the memory context that was current when they were read.
    scopes: Option<TextsCopy>,
    allowed_ips: Option<Networks>,
    token_digest: Option<BytesCopy>,
}

impl Key {
    pub fn scopes(&self) -> Scopes {
        match self.scopes {
            Some(texts) => Scopes::known(texts.to_texts().iter().flatten().map(String::as_str)),
            None => Scopes::Unlimited,
        }
    }

    /// Whether it counts only where the gate has judged it.
    pub fn needs_gate(&self) -> bool {
        self.limit.is_some() || self.allowed_ips.is_some()
    }

    /// From where it may be used, if not from everywhere.
    pub fn allowed_networks(&self) -> Option<Networks> {
        self.allowed_ips
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum UserState {
    Active,
    Banned {
        until: Instant,
    },
    /// Missing, or deleted softly.
    Gone,
}

/// Whether a token or a session is live, and for how long that is the answer if no row changes.
#[derive(Clone, Copy)]
pub struct Verdict {
    pub is_live: bool,
    /// Whether it counts only where the gate has judged it: a token for certain addresses, or with a limit.
    pub needs_gate: bool,
    pub holds_until: Instant,
}

impl Verdict {
    /// What has ended does not come back.
    const DEAD: Self = Self {
        is_live: false,
        needs_gate: false,
        holds_until: Instant::END,
    };

    /// On something that lives until `end`, as long as its user may log in.
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

/// What a look-up can see: while this stays the same, so does its outcome.
///
/// Postgres counts the transactions of the cluster that have ended after writing something, and
/// reuses a snapshot as long as the count stands still; the command counter tells what this
/// transaction has written itself. The messages of changes tell what tables look like: they come a moment
/// after the transaction has ended by that count, and until its locks are gone nobody is kept from looking where
/// another schema has come to have the name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    ended_transactions: u64,
    command: pg_sys::CommandId,
    messages: u64,
}

/// There is always one.
pub fn horizon() -> Option<Horizon> {
    // SAFETY: as at any lock that is taken; the snapshot, a new one since no object is no catalogue, is looked at before
    // anything else can replace it.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            unguarded::AcceptInvalidationMessages();
            let messages = relations::messages();
            let snapshot = unguarded::GetCatalogSnapshot(pg_sys::InvalidOid);
            Some(Horizon {
                ended_transactions: (*snapshot).snapXactCompletionCount,
                command: (*snapshot).curcid,
                messages,
            })
        })
    }
}

/// Whether the key exists, belongs to the user, and is neither revoked nor expired, and its user
/// is active.
pub fn verdict_on(key_id: Uuid, user: Uuid) -> Verdict {
    let verdict = look_at_both::<Keys, Users, _>(|keys, users| {
        let layout = &keys.layout;
        let mut expiry = None;
        let mut needs_gate = false;
        keys.rows_with(layout.id, layout.by_id, &key_id, |row| {
            if row.get(layout.user_id) == Some(user) {
                expiry = live_until(layout, row);
                needs_gate = row.has(layout.rate_limit) || row.has(layout.allowed_ips);
            }
            ControlFlow::Break(())
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

/// The key of that id.
pub fn key(id: Uuid) -> Option<Key> {
    find_key(|keys| (keys.id, keys.by_id), &id)
}

/// The key of an opaque token.
pub fn key_of_token(digest: &opaque_token::Digest) -> Option<Key> {
    let sought = DigestKey::new(&digest.0);
    find_key(|keys| (keys.token_digest, keys.by_digest), &sought).filter(|key| {
        key.token_digest
            .is_some_and(|stored| digest.is(&stored.to_bytes()))
    })
}

fn find_key<T: Indexed>(
    by: fn(&Keys) -> (Column<T>, pg_sys::Oid),
    sought: &impl Sought<T>,
) -> Option<Key> {
    look_at_both::<Keys, Users, _>(|keys, users| {
        let layout = &keys.layout;
        let (column, index) = by(layout);
        let mut found: Option<Key> = None;
        keys.rows_with(column, index, sought, |row| {
            let limit = || {
                Some(Limit {
                    window: row.get(layout.rate_window)?.max(1),
                    requests: row.get(layout.rate_limit)? as u32,
                })
            };
            found = row
                .get(layout.id)
                .zip(row.get(layout.user_id))
                .map(|(id, user)| Key {
                    id,
                    user,
                    user_state: UserState::Gone,
                    created_at: row.get(layout.created_at).unwrap_or(Instant::END),
                    expires_at: row.get(layout.expires_at).unwrap_or(Instant::END),
                    is_revoked: row.has(layout.revoked_at),
                    limit: limit(),
                    scopes: row.get(layout.scopes),
                    allowed_ips: row.get(layout.allowed_ips),
                    token_digest: row.get(layout.token_digest),
                });
            ControlFlow::Break(())
        });
        found.map(|key| Key {
            user_state: state_of(users, &key.user),
            ..key
        })
    })?
}

/// What the claims of a user should say now. `None` if there is no such user.
///
/// Raises an error if a column that a claim is read from has another type: what cannot be read must not be
/// taken for empty.
pub fn live_user(user: Uuid) -> Option<LiveUser> {
    let (columns, found) = look::<Users, _>(|users| {
        let layout = &users.layout;
        let mut found = None;
        users.rows_with(layout.id, layout.by_id, &user, |row| {
            let text = |column: Found<Text>| column.as_expected().and_then(|it| row.get(it));
            let json = |column: Found<Json>| column.as_expected().and_then(|it| row.get(it));
            found = Some((
                [layout.role, layout.email, layout.phone].map(text),
                [layout.app_metadata, layout.user_metadata].map(json),
                // Supabase Auth never writes null there.
                (layout.is_anonymous.as_expected()).map(|it| row.get(it).unwrap_or(true)),
            ));
            ControlFlow::Break(())
        });
        (users.layout, found)
    })?;
    let unfit = [
        unfit(columns.role, "auth.users.role", "text"),
        unfit(columns.email, "auth.users.email", "text"),
        unfit(columns.phone, "auth.users.phone", "text"),
        unfit(
            columns.app_metadata,
            "auth.users.raw_app_meta_data",
            "jsonb",
        ),
        unfit(
            columns.user_metadata,
            "auth.users.raw_user_meta_data",
            "jsonb",
        ),
        unfit(columns.is_anonymous, "auth.users.is_anonymous", "boolean"),
    ];
    if let Some(error) = unfit.into_iter().flatten().next() {
        reported(|| Err(error)).unwrap_or_report()
    }
    let (texts, metadata, is_anonymous) = found?;
    let [role, email, phone] = texts.map(|text| {
        text.map(|text| text.to_text())
            .filter(|text| !text.is_empty())
    });
    let [app_metadata, user_metadata] = metadata.map(|json| json.map(JsonCopy::into_text));
    Some(LiveUser {
        role,
        email,
        phone,
        app_metadata,
        user_metadata,
        is_anonymous,
    })
}

fn unfit<T>(column: Found<T>, name: &'static str, expected: &'static str) -> Option<Error> {
    match column {
        Found::OfAnotherType(_) => Some(Error::UnfitColumn(name, expected)),
        Found::AsExpected(_) | Found::Missing => None,
    }
}

/// The digests of each row of `pat.denied_tokens`: one in each of two columns, and any number in a third one, which
/// 0.1.0 did not have.
pub fn denied_digests() -> Vec<[u8; 32]> {
    let mut digests: Vec<BytesCopy> = Vec::new();
    let read = look::<DeniedTokens, _>(|denied| {
        let layout = &denied.layout;
        denied.rows(|row| {
            digests.extend(row.get(layout.message_digest));
            digests.extend(row.get(layout.claims_digest));
            digests.extend(
                layout
                    .other_claims_digests
                    .and_then(|column| row.get(column)),
            );
            ControlFlow::Continue(())
        });
    });
    expect::<DeniedTokens, _>(read);
    let all: Vec<Vec<u8>> = digests
        .into_iter()
        .map(|digests| digests.to_bytes())
        .collect();
    all.iter()
        .flat_map(|bytes| bytes.as_chunks().0.iter().copied())
        .collect()
}

/// Whose key it is, dead or alive. The owner of a key never changes.
pub fn owner_of(key_id: Uuid) -> Option<Uuid> {
    look::<Keys, _>(|keys| {
        let layout = &keys.layout;
        let mut owner = None;
        keys.rows_with(layout.id, layout.by_id, &key_id, |row| {
            owner = row.get(layout.user_id);
            ControlFlow::Break(())
        });
        owner
    })?
}

/// How a user stands, and with how many live keys.
///
/// # Errors
/// [`Error::NoUsersTable`].
pub fn standing_of(user: Uuid) -> Result<(UserState, usize), Error> {
    let standing = look_at_both::<Keys, Users, _>(|keys, users| {
        let layout = &keys.layout;
        let mut count = 0;
        keys.rows_with(layout.user_id, layout.by_user, &user, |row| {
            count += usize::from(live_until(layout, row).is_some());
            ControlFlow::Continue(())
        });
        (state_of(users, &user), count)
    });
    match standing {
        Some(standing) => Ok(standing),
        None if relations::users().is_none() => Err(Error::NoUsersTable),
        None => Err(Error::UnfitTable("pat.api_keys".into())),
    }
}

/// Whether a session is there, is the user's, has not come to its end, and the user is active.
pub fn session_verdict(session: Uuid, user: Uuid) -> Verdict {
    let verdict = look_at_both::<Sessions, Users, _>(|sessions, users| {
        let layout = &sessions.layout;
        let mut ends_at = None;
        sessions.rows_with(layout.id, layout.by_id, &session, |row| {
            if row.get(layout.user_id) == Some(user) {
                ends_at = match layout.not_after {
                    Found::AsExpected(column) => row.get(column).or(Some(Instant::END)),
                    Found::Missing => Some(Instant::END),
                    // When it ends cannot be read, only that it does.
                    Found::OfAnotherType(column) => (!row.has(column)).then_some(Instant::END),
                };
            }
            ControlFlow::Break(())
        });
        match ends_at {
            Some(end) if end > Instant::now() => Verdict::until(end, state_of(users, &user)),
            _ => Verdict::DEAD,
        }
    });
    verdict.unwrap_or(Verdict::DEAD)
}

/// Which of some sessions are no longer in `auth.sessions`.
///
/// # Errors
/// [`Error::NoSessionsTable`].
pub fn gone_sessions(sessions: &[Uuid]) -> Result<Vec<Uuid>, Error> {
    let mut gone: Vec<Uuid> = Vec::with_capacity(sessions.len());
    look::<Sessions, _>(|table| {
        let layout = &table.layout;
        for session in sessions {
            let mut is_gone = true;
            table.rows_with(layout.id, layout.by_id, session, |_| {
                is_gone = false;
                ControlFlow::Break(())
            });
            if is_gone {
                gone.push(*session);
            }
        }
    })
    .ok_or(Error::NoSessionsTable)?;
    Ok(gone)
}

/// How a user stands.
///
/// # Errors
/// [`Error::NoUsersTable`].
pub fn state_of_user(user: Uuid) -> Result<UserState, Error> {
    look::<Users, _>(|users| state_of(users, &user)).ok_or(Error::NoUsersTable)
}

/// How many wrong tries at the code of a token are in the table `pat.code_attempts`.
pub fn attempts(token: Uuid) -> u32 {
    let attempts = look::<CodeAttempts, _>(|tries| {
        let layout = &tries.layout;
        let mut attempts = 0;
        tries.rows_with(layout.token_id, layout.by_token, &token, |row| {
            attempts = row.get(layout.attempts).map_or(0, |count| count as u32);
            ControlFlow::Break(())
        });
        attempts
    });
    expect::<CodeAttempts, _>(attempts).unwrap_or(0)
}

/// What is in the table `pat.user_settings` for a user.
pub fn settings_of(user: Uuid) -> Option<JsonCopy> {
    let settings = look::<UserSettings, _>(|settings| {
        let layout = &settings.layout;
        let mut found = None;
        settings.rows_with(layout.user_id, layout.by_user, &user, |row| {
            found = row.get(layout.settings);
            ControlFlow::Break(())
        });
        found
    });
    expect::<UserSettings, _>(settings)?
}

fn state_of(users: &Open<Users>, user: &Uuid) -> UserState {
    let layout = &users.layout;
    let mut state = UserState::Gone;
    users.rows_with(layout.id, layout.by_id, user, |row| {
        let is_deleted = match layout.deleted_at {
            Found::AsExpected(column) => row.has(column),
            Found::OfAnotherType(column) => row.has(column),
            Found::Missing => false,
        };
        let banned_until = match layout.banned_until {
            Found::AsExpected(column) => row.get(column),
            // Until when cannot be read, only that somebody wrote something there.
            Found::OfAnotherType(column) => row.has(column).then_some(Instant::END),
            Found::Missing => None,
        };
        state = match banned_until {
            _ if is_deleted => UserState::Gone,
            Some(until) if until > Instant::now() => UserState::Banned { until },
            _ => UserState::Active,
        };
        ControlFlow::Break(())
    });
    state
}

/// When a key expires, if it is live now.
fn live_until(keys: &Keys, row: &Row) -> Option<Instant> {
    let expiry = row.get(keys.expires_at)?;
    (!row.has(keys.revoked_at) && expiry > Instant::now()).then_some(expiry)
}
