//! Looking keys, users and sessions up, for a check: direct index scans, as [`super::scan`] says.

use std::ffi::CStr;
use std::ops::ControlFlow;

use pgrx::{FromDatum, pg_sys};
use supabase_pat_core::error::Error;
use supabase_pat_core::live_claims::LiveUser;
use supabase_pat_core::opaque_token;
use supabase_pat_core::rate::Limit;
use supabase_pat_core::scope::Scopes;
use uuid::Uuid;

use super::clock::{self, Instant};
use super::net::Networks;
use super::relations::{self, Keys, Table, UserSettings, Users};
use super::scan::{
    Jsonb, Row, equal, for_each_row, id_key, scan, scan_where, with_latest_snapshot,
};
use super::unguarded;

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
    /// A text[] and a cidr[], in the memory context that was current when they were read.
    scopes: Option<*mut pg_sys::varlena>,
    allowed_ips: Option<*mut pg_sys::varlena>,
    token_digest: Option<*mut pg_sys::varlena>,
}

impl Key {
    pub fn scopes(&self) -> Scopes {
        // SAFETY: a text[] that is not toasted.
        let texts: Option<Vec<Option<String>>> = self
            .scopes
            .and_then(|array| unsafe { FromDatum::from_datum(pg_sys::Datum::from(array), false) });
        match texts {
            Some(texts) => Scopes::known(texts.iter().flatten().map(String::as_str)),
            None => Scopes::Unlimited,
        }
    }

    /// The SHA-256 of an opaque token.
    fn token_digest(&self) -> Option<Vec<u8>> {
        // SAFETY: a bytea that is not toasted.
        self.token_digest
            .and_then(|digest| unsafe { FromDatum::from_datum(pg_sys::Datum::from(digest), false) })
    }

    /// From where it may be used, if not from everywhere.
    pub fn allowed_networks(&self) -> Option<Networks> {
        self.allowed_ips.map(Networks::from_detoasted)
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
    pub holds_until: Instant,
}

impl Verdict {
    /// What has ended does not come back.
    const DEAD: Self = Self {
        is_live: false,
        holds_until: Instant::END,
    };

    /// On something that lives until `end`, as long as its user may log in.
    fn until(end: Instant, user: UserState) -> Self {
        match user {
            UserState::Active => Self {
                is_live: true,
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
/// transaction has written itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    ended_transactions: u64,
    command: pg_sys::CommandId,
}

/// `None` while the extension is being installed or dropped.
pub fn horizon() -> Option<Horizon> {
    let keys = relations::keys()?;
    // SAFETY: the snapshot is looked at before anything else can replace it.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            let snapshot = unguarded::GetCatalogSnapshot(keys.table.oid);
            Some(Horizon {
                ended_transactions: (*snapshot).snapXactCompletionCount,
                command: (*snapshot).curcid,
            })
        })
    }
}

/// Whether the key exists, belongs to the user, and is neither revoked nor expired, and its user
/// is active.
pub fn verdict_on(key_id: Uuid, user: Uuid) -> Verdict {
    let (Some(keys), Some(users)) = (relations::keys(), relations::users()) else {
        return Verdict::DEAD;
    };
    with_latest_snapshot(keys.table, |snapshot| {
        let mut expiry = None;
        scan(snapshot, keys.table, keys.by_id, Keys::ID, &key_id, |row| {
            if row.uuid(Keys::USER_ID) == Some(user) {
                expiry = live_until(row);
            }
            ControlFlow::Break(())
        });
        match expiry {
            Some(expiry) => Verdict::until(expiry, state_of(snapshot, users, &user)),
            None => Verdict::DEAD,
        }
    })
}

/// The key of that id.
pub fn key(id: Uuid) -> Option<Key> {
    let keys = relations::keys()?;
    find_key(keys, keys.by_id, id_key(Keys::ID, &id))
}

/// The key of an opaque token.
pub fn key_of_token(digest: &opaque_token::Digest) -> Option<Key> {
    let keys = relations::keys()?;
    let mut bytes = [0; 36];
    bytes[4..].copy_from_slice(&digest.0);
    // SAFETY: a bytea of 32 bytes after its length.
    unsafe { pgrx::set_varsize_4b(bytes.as_mut_ptr().cast(), 36) };
    let condition = equal(Keys::TOKEN_DIGEST, pg_sys::F_BYTEAEQ, bytes.as_ptr());
    find_key(keys, keys.by_digest, condition)
        .filter(|key| key.token_digest().is_some_and(|stored| digest.is(&stored)))
}

fn find_key(keys: Keys, index: pg_sys::Oid, condition: pg_sys::ScanKeyData) -> Option<Key> {
    let users = relations::users()?;
    with_latest_snapshot(keys.table, |snapshot| {
        let mut found: Option<Key> = None;
        scan_where(snapshot, keys.table, index, &mut [condition], |row| {
            let time = |column| row.get(column).map(Instant::from_datum);
            let limit = || {
                let window = row.get(Keys::RATE_WINDOW)?.cast_mut_ptr();
                Some(Limit {
                    requests: row.get(Keys::RATE_LIMIT)?.value() as u32,
                    // SAFETY: an interval is a struct by reference.
                    window: clock::micros(unsafe { &*window }).max(1),
                })
            };
            found = row
                .uuid(Keys::ID)
                .zip(row.uuid(Keys::USER_ID))
                .map(|(id, user)| Key {
                    id,
                    user,
                    user_state: UserState::Gone,
                    created_at: time(Keys::CREATED_AT).unwrap_or(Instant::END),
                    expires_at: time(Keys::EXPIRES_AT).unwrap_or(Instant::END),
                    is_revoked: row.get(Keys::REVOKED_AT).is_some(),
                    limit: limit(),
                    scopes: row.copy(Keys::SCOPES),
                    allowed_ips: row.copy(Keys::ALLOWED_IPS),
                    token_digest: row.copy(Keys::TOKEN_DIGEST),
                });
            ControlFlow::Break(())
        });
        found.map(|key| Key {
            user_state: state_of(snapshot, users, &key.user),
            ..key
        })
    })
}

/// What the claims of a user should say now.
pub fn live_user(user: Uuid) -> Option<LiveUser> {
    let users = relations::users()?;
    let row = with_latest_snapshot(users.table, |snapshot| {
        let mut found = None;
        scan(snapshot, users.table, users.by_id, users.id, &user, |row| {
            let texts = users
                .texts
                .map(|column| column.map(|column| row.text(column)));
            let metadata = users
                .metadata
                .map(|column| column.and_then(|column| row.jsonb(column)));
            found = Some((texts, metadata));
            ControlFlow::Break(())
        });
        found
    });
    let (texts, metadata) = row?;
    let [role, email, phone] = texts.map(|text| {
        // SAFETY: a C string in the current memory context, made just now.
        let text = unsafe { CStr::from_ptr(text?) };
        Some(text.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
    });
    let [app_metadata, user_metadata] = metadata.map(|json| json.map(Jsonb::into_text));
    Some(LiveUser {
        role,
        email,
        phone,
        app_metadata,
        user_metadata,
    })
}

/// The two digests of each row of `pat.denied_tokens`, its first two columns.
pub fn denied_digests(table: Table) -> Vec<[u8; 32]> {
    let mut digests: Vec<*mut pg_sys::varlena> = Vec::new();
    for_each_row(&[table], |_, row| {
        digests.extend([1, 2].into_iter().filter_map(|column| row.copy(column)));
    });
    let bytes = |digest: *mut pg_sys::varlena| {
        // SAFETY: a bytea that is not toasted.
        let bytes: Option<Vec<u8>> =
            unsafe { FromDatum::from_datum(pg_sys::Datum::from(digest), false) };
        bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
    };
    digests.into_iter().filter_map(bytes).collect()
}

/// Whose key it is, dead or alive. The owner of a key never changes.
pub fn owner_of(key_id: Uuid) -> Option<Uuid> {
    let keys = relations::keys()?;
    with_latest_snapshot(keys.table, |snapshot| {
        let mut owner = None;
        scan(snapshot, keys.table, keys.by_id, Keys::ID, &key_id, |row| {
            owner = row.uuid(Keys::USER_ID);
            ControlFlow::Break(())
        });
        owner
    })
}

/// How a user stands, and with how many live keys.
///
/// # Errors
/// [`Error::NoUsersTable`].
pub fn standing_of(user: Uuid) -> Result<(UserState, usize), Error> {
    let users = relations::users().ok_or(Error::NoUsersTable)?;
    let Some(keys) = relations::keys() else {
        return Ok((UserState::Gone, 0));
    };
    Ok(with_latest_snapshot(keys.table, |snapshot| {
        let mut count = 0;
        scan(
            snapshot,
            keys.table,
            keys.by_user,
            Keys::USER_ID,
            &user,
            |row| {
                count += usize::from(live_until(row).is_some());
                ControlFlow::Continue(())
            },
        );
        (state_of(snapshot, users, &user), count)
    }))
}

/// Whether a session is there, is the user's, has not come to its end, and the user is active.
pub fn session_verdict(session: Uuid, user: Uuid) -> Verdict {
    let (Some(sessions), Some(users)) = (relations::sessions(), relations::users()) else {
        return Verdict::DEAD;
    };
    with_latest_snapshot(sessions.table, |snapshot| {
        let mut ends_at = None;
        scan(
            snapshot,
            sessions.table,
            sessions.by_id,
            sessions.id,
            &session,
            |row| {
                if row.uuid(sessions.user_id) == Some(user) {
                    let end = sessions.not_after.and_then(|column| row.get(column));
                    ends_at = Some(end.map_or(Instant::END, Instant::from_datum));
                }
                ControlFlow::Break(())
            },
        );
        match ends_at {
            Some(end) if end > Instant::now() => {
                Verdict::until(end, state_of(snapshot, users, &user))
            }
            _ => Verdict::DEAD,
        }
    })
}

/// How a user stands.
///
/// # Errors
/// [`Error::NoUsersTable`].
pub fn state_of_user(user: Uuid) -> Result<UserState, Error> {
    let users = relations::users().ok_or(Error::NoUsersTable)?;
    Ok(with_latest_snapshot(users.table, |snapshot| {
        state_of(snapshot, users, &user)
    }))
}

/// How many wrong tries at the code of a token are in the table `pat.code_attempts`.
pub fn attempts(table: Table, token: Uuid) -> u32 {
    const TOKEN_ID: i16 = 1;
    const ATTEMPTS: i16 = 2;
    let index = relations::find_index(table.oid, TOKEN_ID).unwrap_or(pg_sys::InvalidOid);
    with_latest_snapshot(table, |snapshot| {
        let mut attempts = 0;
        scan(snapshot, table, index, TOKEN_ID, &token, |row| {
            attempts = row.get(ATTEMPTS).map_or(0, |count| count.value() as u32);
            ControlFlow::Break(())
        });
        attempts
    })
}

/// What is in the table `pat.user_settings` for a user.
pub fn settings_of(user: Uuid) -> Option<Jsonb> {
    let settings = relations::user_settings()?;
    with_latest_snapshot(settings.table, |snapshot| {
        let mut found = None;
        scan(
            snapshot,
            settings.table,
            settings.by_user,
            UserSettings::USER_ID,
            &user,
            |row| {
                found = row.jsonb(UserSettings::SETTINGS);
                ControlFlow::Break(())
            },
        );
        found
    })
}

fn state_of(snapshot: pg_sys::Snapshot, users: Users, user: &Uuid) -> UserState {
    let mut state = UserState::Gone;
    scan(snapshot, users.table, users.by_id, users.id, user, |row| {
        let value = |column: Option<i16>| column.and_then(|column| row.get(column));
        let banned_until = value(users.banned_until).map(Instant::from_datum);
        state = if value(users.deleted_at).is_some() {
            UserState::Gone
        } else {
            match banned_until {
                Some(until) if until > Instant::now() => UserState::Banned { until },
                _ => UserState::Active,
            }
        };
        ControlFlow::Break(())
    });
    state
}

/// When a key expires, if it is live now.
fn live_until(row: &Row) -> Option<Instant> {
    let expiry = Instant::from_datum(row.get(Keys::EXPIRES_AT)?);
    (row.get(Keys::REVOKED_AT).is_none() && expiry > Instant::now()).then_some(expiry)
}
