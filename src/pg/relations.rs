//! The tables that a check looks into: where they are and which columns count.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::Local;

#[derive(Clone, Copy)]
pub struct Table {
    pub oid: pg_sys::Oid,
    pub owner: pg_sys::Oid,
}

/// `pat.api_keys`. The column numbers are those of sql/schema.sql.
#[derive(Clone, Copy)]
pub struct Keys {
    pub table: Table,
    pub by_id: pg_sys::Oid,
    pub by_user: pg_sys::Oid,
    /// Holds the opaque tokens alone.
    pub by_digest: pg_sys::Oid,
}

impl Keys {
    pub const ID: i16 = 1;
    pub const USER_ID: i16 = 2;
    pub const CREATED_AT: i16 = 3;
    pub const EXPIRES_AT: i16 = 4;
    pub const REVOKED_AT: i16 = 5;
    pub const RATE_LIMIT: i16 = 7;
    pub const RATE_WINDOW: i16 = 8;
    pub const SCOPES: i16 = 10;
    pub const ALLOWED_IPS: i16 = 11;
    pub const TOKEN_DIGEST: i16 = 15;
}

/// `auth.users`, which is Supabase's: only what is there can be looked at.
#[derive(Clone, Copy)]
pub struct Users {
    pub table: Table,
    /// An index on `id`, or no object: then the table is scanned.
    pub by_id: pg_sys::Oid,
    pub id: i16,
    pub deleted_at: Option<i16>,
    pub banned_until: Option<i16>,
    /// `role`, `email` and `phone`.
    pub texts: [Option<i16>; 3],
    /// `raw_app_meta_data` and `raw_user_meta_data`.
    pub metadata: [Option<i16>; 2],
}

/// `auth.sessions`, which is Supabase's too.
#[derive(Clone, Copy)]
pub struct Sessions {
    pub table: Table,
    /// As in [`Users`].
    pub by_id: pg_sys::Oid,
    pub id: i16,
    pub user_id: i16,
    pub not_after: Option<i16>,
}

/// `pat.user_settings`. The column numbers are those of sql/user_settings.sql.
#[derive(Clone, Copy)]
pub struct UserSettings {
    pub table: Table,
    pub by_user: pg_sys::Oid,
}

impl UserSettings {
    pub const USER_ID: i16 = 1;
    pub const SETTINGS: i16 = 2;
}

/// Object ids of this database, kept until Postgres says that one of the tables or any schema has
/// changed. Finding them takes about a dozen look-ups in the system caches, 1 µs.
struct Known {
    keys: Option<Keys>,
    users: Option<Users>,
    sessions: Option<Sessions>,
    denied: Option<Table>,
    /// Counts what may have changed `pat.denied_tokens`, its rows included.
    denied_changes: u64,
    ring: Option<Table>,
    /// Counts what may have changed `pat.signing_keys`, its rows included.
    ring_changes: u64,
    user_settings: Option<UserSettings>,
    definitions: Option<Table>,
    /// Counts what may have changed `pat.setting_definitions`, its rows included.
    definition_changes: u64,
    /// Counts the changes, so that what was read before one is not kept after it.
    changes: u64,
    callbacks_registered: bool,
}

static KNOWN: Local<Known> = Local::new(Known {
    keys: None,
    users: None,
    sessions: None,
    denied: None,
    denied_changes: 0,
    ring: None,
    ring_changes: 0,
    user_settings: None,
    definitions: None,
    definition_changes: 0,
    changes: 0,
    callbacks_registered: false,
});

/// `None` while the extension is being installed or dropped.
pub fn keys() -> Option<Keys> {
    known(
        |known| &mut known.keys,
        || {
            let table = find_table(c"pat", c"api_keys")?;
            Some(Keys {
                table,
                by_id: find_index(table.oid, Keys::ID)?,
                by_user: find_index(table.oid, Keys::USER_ID)?,
                by_digest: find_partial_index(table.oid, Keys::TOKEN_DIGEST)?,
            })
        },
    )
}

/// `None` if there is no table `auth.users` with a column `id` of type uuid.
pub fn users() -> Option<Users> {
    known(
        |known| &mut known.users,
        || {
            let table = find_table(c"auth", c"users")?;
            let id = find_column(table.oid, c"id", Some(pg_sys::UUIDOID))?;
            Some(Users {
                table,
                by_id: find_index(table.oid, id).unwrap_or(pg_sys::InvalidOid),
                id,
                deleted_at: find_column(table.oid, c"deleted_at", None),
                banned_until: find_column(table.oid, c"banned_until", Some(pg_sys::TIMESTAMPTZOID)),
                texts: [c"role", c"email", c"phone"].map(|name| find_column(table.oid, name, None)),
                metadata: [c"raw_app_meta_data", c"raw_user_meta_data"]
                    .map(|name| find_column(table.oid, name, Some(pg_sys::JSONBOID))),
            })
        },
    )
}

/// `None` if there is no table `auth.sessions` with columns `id` and `user_id` of type uuid.
pub fn sessions() -> Option<Sessions> {
    known(
        |known| &mut known.sessions,
        || {
            let table = find_table(c"auth", c"sessions")?;
            let id = find_column(table.oid, c"id", Some(pg_sys::UUIDOID))?;
            Some(Sessions {
                table,
                by_id: find_index(table.oid, id).unwrap_or(pg_sys::InvalidOid),
                id,
                user_id: find_column(table.oid, c"user_id", Some(pg_sys::UUIDOID))?,
                not_after: find_column(table.oid, c"not_after", Some(pg_sys::TIMESTAMPTZOID)),
            })
        },
    )
}

/// `pat.denied_tokens`; `None` while the extension is being installed or dropped.
pub fn denied() -> Option<Table> {
    known(
        |known| &mut known.denied,
        || find_table(c"pat", c"denied_tokens"),
    )
}

pub fn denied_changes() -> u64 {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { KNOWN.get() }.denied_changes
}

/// `pat.signing_keys`; `None` while the extension is being installed or dropped.
pub fn ring() -> Option<Table> {
    known(
        |known| &mut known.ring,
        || find_table(c"pat", c"signing_keys"),
    )
}

pub fn ring_changes() -> u64 {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { KNOWN.get() }.ring_changes
}

/// `None` while the extension is being installed or dropped.
pub fn user_settings() -> Option<UserSettings> {
    known(
        |known| &mut known.user_settings,
        || {
            let table = find_table(c"pat", c"user_settings")?;
            Some(UserSettings {
                table,
                by_user: find_index(table.oid, UserSettings::USER_ID)?,
            })
        },
    )
}

/// `pat.setting_definitions`; `None` while the extension is being installed or dropped.
pub fn definitions() -> Option<Table> {
    known(
        |known| &mut known.definitions,
        || find_table(c"pat", c"setting_definitions"),
    )
}

pub fn definition_changes() -> u64 {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { KNOWN.get() }.definition_changes
}

/// What is known, or else what there is now, which is then known until a change.
#[inline(always)]
fn known<T: Copy>(
    field: fn(&mut Known) -> &mut Option<T>,
    find: impl FnOnce() -> Option<T>,
) -> Option<T> {
    // SAFETY: the reference is not held while Postgres is called.
    if let Some(known) = *field(unsafe { KNOWN.get() }) {
        return Some(known);
    }
    let before = changes_so_far();
    let found = find()?;
    if before == changes_so_far() {
        // SAFETY: as above.
        *field(unsafe { KNOWN.get() }) = Some(found);
    }
    Some(found)
}

/// A plain table, its owner included, by its full name.
pub fn find_table(schema: &CStr, name: &CStr) -> Option<Table> {
    find_relation(schema, name).filter(|table| {
        // SAFETY: a look-up in the system caches.
        unsafe { pg_sys::get_rel_relkind(table.oid) as u8 == pg_sys::RELKIND_RELATION }
    })
}

/// Whether a table of the schema `pat` is the extension's; if so, it stays that until the end of the
/// transaction.
pub fn hold_own_table(name: &CStr) -> bool {
    let find = || find_table(c"pat", name).map(|table| table.oid);
    let Some(table) = find() else {
        return false;
    };
    // SAFETY: a lock like any other, after which nothing can be dropped or changed, and look-ups in the catalogs.
    unsafe {
        pg_sys::LockRelationOid(table, pg_sys::RowExclusiveLock as i32);
        let extension = pg_sys::get_extension_oid(c"supabase_pat".as_ptr(), true);
        find() == Some(table)
            && extension != pg_sys::InvalidOid
            && pg_sys::getExtensionOfObject(pg_sys::RelationRelationId, table) == extension
    }
}

/// A table, view or anything else in `pg_class`.
pub fn find_relation(schema: &CStr, name: &CStr) -> Option<Table> {
    // SAFETY: look-ups in the system caches, with checked results.
    unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            return None;
        }
        let oid = pg_sys::get_relname_relid(name.as_ptr(), schema);
        if oid == pg_sys::InvalidOid {
            return None;
        }
        let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, oid.into());
        if tuple.is_null() {
            return None;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Some(Table { oid, owner })
    }
}

pub fn find_column(table: pg_sys::Oid, name: &CStr, of_type: Option<pg_sys::Oid>) -> Option<i16> {
    // SAFETY: look-ups in the system caches.
    unsafe {
        let number = pg_sys::get_attnum(table, name.as_ptr());
        let has_type = |expected| pg_sys::get_atttype(table, number) == expected;
        (number > 0 && of_type.is_none_or(has_type)).then_some(number)
    }
}

/// A valid btree index over all rows whose first column is `column`.
pub fn find_index(table: pg_sys::Oid, column: i16) -> Option<pg_sys::Oid> {
    index_where(table, column, |relation| {
        // SAFETY: the index is open.
        unsafe { pg_sys::RelationGetIndexPredicate(relation) }.is_null()
    })
}

/// As [`find_index`], but only over the rows in which `column` is not null, or some others besides.
fn find_partial_index(table: pg_sys::Oid, column: i16) -> Option<pg_sys::Oid> {
    index_where(table, column, |_| true)
}

fn index_where(
    table: pg_sys::Oid,
    column: i16,
    suits: impl Fn(pg_sys::Relation) -> bool,
) -> Option<pg_sys::Oid> {
    // SAFETY: the relations are open and locked while they are looked at.
    unsafe {
        let relation = pg_sys::try_table_open(table, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return None;
        }
        let list = pg_sys::RelationGetIndexList(relation);
        let indexes: Vec<pg_sys::Oid> = pgrx::PgList::<pg_sys::Oid>::from_pg(list)
            .iter_oid()
            .collect();
        let found = indexes.into_iter().find(|&index| {
            let relation = pg_sys::index_open(index, pg_sys::AccessShareLock as i32);
            let form = &*(*relation).rd_index;
            let is_it = form.indisvalid
                && form.indkey.values.as_slice(1)[0] == column
                && (*(*relation).rd_rel).relam == pg_sys::BTREE_AM_OID
                && suits(relation);
            pg_sys::index_close(relation, pg_sys::AccessShareLock as i32);
            is_it
        });
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        found
    }
}

/// Starts listening, if need be, and tells how many changes there have been.
fn changes_so_far() -> u64 {
    // SAFETY: the callbacks stay valid as long as the backend, which never unloads the library.
    unsafe {
        if std::mem::replace(&mut KNOWN.get().callbacks_registered, true) {
            return KNOWN.get().changes;
        }
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
            Some(schema_changed),
            pg_sys::Datum::from(0),
        );
        KNOWN.get().changes
    }
}

unsafe extern "C-unwind" fn relation_changed(_: pg_sys::Datum, relation: pg_sys::Oid) {
    // SAFETY: nobody holds a reference while Postgres processes invalidations.
    let known = unsafe { KNOWN.get() };
    known.changes += 1;
    // A table that is not known may be any. Else what was read from one that could not be kept would
    // never be read anew.
    let concerns = |table: Option<Table>| {
        relation == pg_sys::InvalidOid || table.is_none_or(|table| table.oid == relation)
    };
    if concerns(known.keys.map(|keys| keys.table)) {
        known.keys = None;
    }
    if concerns(known.users.map(|users| users.table)) {
        known.users = None;
    }
    if concerns(known.sessions.map(|sessions| sessions.table)) {
        known.sessions = None;
    }
    if concerns(known.denied) {
        known.denied = None;
        known.denied_changes += 1;
    }
    if concerns(known.ring) {
        known.ring = None;
        known.ring_changes += 1;
    }
    if concerns(known.user_settings.map(|settings| settings.table)) {
        known.user_settings = None;
    }
    if concerns(known.definitions) {
        known.definitions = None;
        known.definition_changes += 1;
    }
}

unsafe extern "C-unwind" fn schema_changed(argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    // SAFETY: as if every relation had changed.
    unsafe { relation_changed(argument, pg_sys::InvalidOid) };
}
