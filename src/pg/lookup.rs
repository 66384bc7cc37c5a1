//! Looking keys and users up, for a check.
//!
//! These are direct index scans: an SPI query would cost three times as much, would need the
//! caller to have privileges on the tables, and could not be used in a parallel worker. They run
//! on a snapshot of their own, taken now and not at the start of the transaction, take an
//! `AccessShareLock`, as any SELECT does, and write nothing, so that they work on a standby.

use std::ffi::{CStr, c_char};
use std::ops::ControlFlow;

use pgrx::{FromDatum, pg_sys};
use supabase_pat_core::error::Error;
use supabase_pat_core::live_claims::LiveUser;
use supabase_pat_core::opaque_token;
use supabase_pat_core::rate::Limit;
use supabase_pat_core::scope::Scopes;
use uuid::Uuid;

use super::clock::{self, Instant};
use super::json::JsonbText;
use super::net::Networks;
use super::relations::{self, Keys, Table, UserSettings, Users};
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

/// Visits every row of a few small tables, all as they are at one moment. `visit` gets the number of
/// the table too, and must hold nothing that needs dropping.
pub fn for_each_row(tables: &[Table], mut visit: impl FnMut(usize, &Row)) {
    let Some(&first) = tables.first() else {
        return;
    };
    with_latest_snapshot(first, |snapshot| {
        for (number, table) in tables.iter().enumerate() {
            scan_where(snapshot, *table, pg_sys::InvalidOid, &mut [], |row| {
                visit(number, row);
                ControlFlow::Continue(())
            });
        }
    });
}

/// A copy of a jsonb in the memory context that was current when it was read.
#[derive(Clone, Copy)]
pub struct Jsonb(*mut pg_sys::varlena);

impl Jsonb {
    /// To be called in that same memory context.
    pub fn into_text(self) -> String {
        // SAFETY: a jsonb that is not toasted.
        let text = unsafe { JsonbText::from_datum(pg_sys::Datum::from(self.0), false) };
        text.map_or(String::new(), |JsonbText(text)| text)
    }
}

pub struct Row {
    tuple: pg_sys::HeapTuple,
    columns: pg_sys::TupleDesc,
}

impl Row {
    fn get(&self, column: i16) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the tuple and its descriptor belong to a scan that is open.
        let datum =
            unsafe { pg_sys::heap_getattr(self.tuple, column.into(), self.columns, &mut is_null) };
        (!is_null).then_some(datum)
    }

    /// A text as a C string in the current memory context, empty for null.
    pub fn text(&self, column: i16) -> *const c_char {
        match self.get(column) {
            // SAFETY: a text, toasted or not, of a tuple that is there as long as the scan.
            Some(datum) => unsafe { unguarded::text_to_cstring(datum.cast_mut_ptr()) },
            None => c"".as_ptr(),
        }
    }

    pub fn jsonb(&self, column: i16) -> Option<Jsonb> {
        self.copy(column).map(Jsonb)
    }

    /// A value of variable length in the current memory context, not toasted.
    fn copy(&self, column: i16) -> Option<*mut pg_sys::varlena> {
        // SAFETY: such a value, toasted or not, of a tuple that is there as long as the scan.
        self.get(column)
            .map(|datum| unsafe { unguarded::pg_detoast_datum_copy(datum.cast_mut_ptr()) })
    }

    /// False for null.
    pub fn boolean(&self, column: i16) -> bool {
        self.get(column).is_some_and(|datum| datum.value() != 0)
    }

    fn uuid(&self, column: i16) -> Option<Uuid> {
        // SAFETY: a uuid is 16 bytes by reference.
        self.get(column)
            .map(|datum| unsafe { Uuid::from_bytes(*datum.cast_mut_ptr::<[u8; 16]>()) })
    }
}

/// Runs `f`, a few scans, with a snapshot that sees everything that has committed by now.
///
/// `GetLatestSnapshot` would be the name for it, but refuses to work in parallel mode. The snapshot
/// for catalogues does not, and Postgres takes a new one each time for a table that is none.
///
/// One guard stands around all calls into Postgres that `f` makes, which is 0.2 µs less than one
/// around each: so an error jumps out of `f`, which must hold nothing that needs dropping.
fn with_latest_snapshot<R>(table: Table, f: impl FnOnce(pg_sys::Snapshot) -> R) -> R {
    // SAFETY: the callers' closures are plain data, and the snapshot is registered while they run.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            let snapshot = unguarded::RegisterSnapshot(unguarded::GetCatalogSnapshot(table.oid));
            let result = f(snapshot);
            unguarded::UnregisterSnapshot(snapshot);
            result
        })
    }
}

/// Visits the rows of `table` that have `value` in `column`.
fn scan(
    snapshot: pg_sys::Snapshot,
    table: Table,
    index: pg_sys::Oid,
    column: i16,
    value: &Uuid,
    visit: impl FnMut(&Row) -> ControlFlow<()>,
) {
    scan_where(snapshot, table, index, &mut [id_key(column, value)], visit);
}

/// The condition that `column` is `value`, which must outlive the scan.
fn id_key(column: i16, value: &Uuid) -> pg_sys::ScanKeyData {
    equal(column, pg_sys::F_UUID_EQ, value.as_bytes().as_ptr())
}

fn equal(column: i16, operator: u32, value: *const u8) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    // SAFETY: the key is written, and the value not looked at.
    unsafe {
        unguarded::ScanKeyInit(
            &mut key,
            column,
            pg_sys::BTEqualStrategyNumber as u16,
            operator.into(),
            pg_sys::Datum::from(value),
        );
    }
    key
}

/// Visits the rows of `table` that fit the keys. If there is no such table any more, it has no rows.
fn scan_where(
    snapshot: pg_sys::Snapshot,
    table: Table,
    index: pg_sys::Oid,
    keys: &mut [pg_sys::ScanKeyData],
    mut visit: impl FnMut(&Row) -> ControlFlow<()>,
) {
    let lock = pg_sys::AccessShareLock as i32;
    // SAFETY: the relation is open and locked during the scan, and `visit` keeps nothing of a row.
    // An error in between releases everything at the end of the transaction.
    unsafe {
        let relation = unguarded::try_table_open(table.oid, lock);
        if relation.is_null() {
            return;
        }
        let has_index = index != pg_sys::InvalidOid;
        let (count, keys) = (keys.len() as i32, keys.as_mut_ptr());
        let scan = unguarded::systable_beginscan(relation, index, has_index, snapshot, count, keys);
        loop {
            let tuple = unguarded::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let row = Row {
                tuple,
                columns: (*relation).rd_att,
            };
            if visit(&row).is_break() {
                break;
            }
        }
        unguarded::systable_endscan(scan);
        unguarded::table_close(relation, lock);
    }
}
