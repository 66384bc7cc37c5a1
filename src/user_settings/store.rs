//! The tables of the settings of users and of the declarations behind them. Each backend reads the declarations once,
//! and again when they have changed.
//!
//! To read them takes a scan of the table, and to compile a schema 10 µs and more, 2 ms the first time in a backend.
//! How every backend hears of a change is in [`crate::pg::kept`].
#![allow(unsafe_code)]

use std::ops::ControlFlow;
use std::rc::Rc;

use pg_sys::BuiltinOid::{BOOLOID, INT4OID, JSONBOID, TEXTOID, TIMESTAMPTZOID, UUIDOID};
use pgrx::datum::Uuid as PgUuid;
use pgrx::pg_sys;
use supabase_pat_core::error::Error;
use supabase_pat_core::user_settings::{Declaration, Definition, Definitions};
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::column::{Boolean, Column, Id, Json, JsonCopy, Text};
use crate::pg::json::JsonbText;
use crate::pg::kept::{Kept, change_trigger};
use crate::pg::lock;
use crate::pg::relations::{self, Rows, Table, layout};
use crate::pg::scan::{self, expect, look};
use crate::pg::statement::Statement;
use crate::pg::uuid::pg_uuid;
use crate::request::caller::Judged;

thread_local! {
    static DEFINE: Statement = const { Statement::new(
        "insert into pat.setting_definitions as known \
         (key, default_value, schema, overridable, created_at) values ($1, $2, $3, $4, $5) \
         on conflict (key) do update set default_value = excluded.default_value, \
             schema = excluded.schema, overridable = excluded.overridable",
        &[TEXTOID, JSONBOID, JSONBOID, BOOLOID, TIMESTAMPTZOID],
    ) };

    static REMOVE: Statement = const { Statement::new(
        "delete from pat.setting_definitions where key operator(pg_catalog.=) $1 returning 1",
        &[TEXTOID],
    ) };

    static REMOVE_VALUES: Statement = const { Statement::new(
        "update pat.user_settings set settings = settings operator(pg_catalog.-) $1, updated_at = $2 \
         where settings operator(pg_catalog.?) $1",
        &[TEXTOID, TIMESTAMPTZOID],
    ) };

    static VALUES_AFTER: Statement = const { Statement::new(
        "select user_id, settings operator(pg_catalog.->) $1 from pat.user_settings \
         where settings operator(pg_catalog.?) $1 \
         and ($2 is null or user_id operator(pg_catalog.>) $2) order by user_id limit $3",
        &[TEXTOID, UUIDOID, INT4OID],
    ) };

    static LOCK_ROW: Statement = const { Statement::new(
        "select settings from pat.user_settings where user_id operator(pg_catalog.=) $1 for update",
        &[UUIDOID],
    ) };

    static SET: Statement = const { Statement::new(
        "insert into pat.user_settings (user_id, settings, updated_at) values ($1, $2, $3) \
         on conflict (user_id) do update set settings = excluded.settings, \
             updated_at = excluded.updated_at",
        &[UUIDOID, JSONBOID, TIMESTAMPTZOID],
    ) };
}

/// `pat.user_settings`.
#[derive(Clone, Copy)]
pub struct UserSettings {
    pub table: Table,
    pub by_user: pg_sys::Oid,
    pub user_id: Column<Id>,
    pub settings: Column<Json>,
}

layout!(UserSettings, USER_SETTINGS, c"pat".c"user_settings", |open| {
    let user_id = open.column(c"user_id")?;
    Some(UserSettings {
        table: open.table,
        by_user: open.index(user_id, Rows::All),
        user_id,
        settings: open.column(c"settings")?,
    })
});

/// `pat.setting_definitions`.
#[derive(Clone, Copy)]
pub struct SettingDefinitions {
    table: Table,
    pub key: Column<Text>,
    pub default_value: Column<Json>,
    pub schema: Column<Json>,
    pub overridable: Column<Boolean>,
}

layout!(SettingDefinitions, DEFINITIONS, c"pat".c"setting_definitions", |open| {
    Some(SettingDefinitions {
        table: open.table,
        key: open.column(c"key")?,
        default_value: open.column(c"default_value")?,
        schema: open.column(c"schema")?,
        overridable: open.column(c"overridable")?,
    })
});

/// `None` while the extension is being installed or dropped.
fn definitions_table() -> Option<Table> {
    relations::find_table(c"pat", c"setting_definitions")
}

static KEPT: Kept<Definitions> = Kept::new(
    definitions_table,
    relations::changes_of::<SettingDefinitions>,
);

/// The declarations that have been committed by now, whatever the snapshot of the transaction shows.
pub fn definitions() -> Rc<Definitions> {
    KEPT.now(|_| Definitions::new(stored_definitions()))
        .unwrap_or_else(|| Rc::new(Definitions::new(Vec::new())))
}

fn stored_definitions() -> Vec<Definition> {
    let mut rows = Vec::new();
    let read = scan::look::<SettingDefinitions, _>(|definitions| {
        let layout = &definitions.layout;
        definitions.rows(|row| {
            rows.push((
                row.get(layout.key),
                row.get(layout.default_value),
                row.get(layout.schema),
                row.get(layout.overridable).unwrap_or(false),
            ));
            ControlFlow::Continue(())
        });
    });
    scan::expect::<SettingDefinitions, _>(read);
    rows.into_iter()
        .filter_map(|(key, default, schema, is_overridable)| {
            let schema = schema.map(JsonCopy::into_text);
            let default = default?.into_text();
            let declaration = Declaration {
                key: key?.to_text(),
                default,
                schema,
                is_overridable,
            };
            Some(Definition::from_stored(declaration, check_for_interrupts))
        })
        .collect()
}

/// Ends the statement if it has been cancelled or its time is up.
pub fn check_for_interrupts() {
    pgrx::check_for_interrupts!();
}

/// What a user has set, as it is in the table now.
pub fn of_user(user: Uuid) -> Option<String> {
    settings_of(user).map(JsonCopy::into_text)
}

/// Locks the declarations to change them. This waits for transactions that set values by them, and keeps others from
/// setting values until the end of this transaction: so no value is stored that was checked by an older schema.
pub fn lock_to_define() {
    lock_definitions(pg_sys::ExclusiveLock);
}

/// Shows that this transaction holds the locks to change the settings of a user.
pub struct ToSet {
    user: Uuid,
}

/// Makes transactions that change the settings of `user` wait for each other, also while there is no
/// row that could be locked.
pub fn lock_to_set(user: Uuid) -> ToSet {
    lock_definitions(pg_sys::RowShareLock);
    if let Some(settings) = relations::current::<UserSettings>() {
        lock::bucket(settings.table, &user);
    }
    ToSet { user }
}

fn lock_definitions(mode: u32) {
    if let Some(table) = definitions_table() {
        // SAFETY: takes a lock like any other, or raises an error.
        unsafe { pg_sys::LockRelationOid(table.oid, mode as i32) };
    }
}

/// How many users have a value that does not fit a new definition. To be asked after [`lock_to_define`]. In READ
/// COMMITTED each statement sees what has been committed before it, so that no value is missed.
pub fn users_who_do_not_fit(definition: &Definition) -> Result<usize, Error> {
    const BATCH: i32 = 1000;
    let mut count = 0;
    let mut last: Option<Uuid> = None;
    loop {
        let arguments = [
            definition.key().into(),
            last.map(pg_uuid).into(),
            BATCH.into(),
        ];
        let values = VALUES_AFTER.with(|statement| {
            statement.run(&arguments, |rows| {
                let mut values = Vec::new();
                for row in rows {
                    let user = row.get::<PgUuid>(1)?;
                    let value = row.get::<JsonbText>(2)?;
                    values.extend(user.zip(value));
                }
                Ok(values)
            })
        })?;
        count += values
            .iter()
            .filter(|(_, JsonbText(value))| !definition.accepts(value))
            .count();
        match values.last() {
            Some((user, _)) => last = Some(Uuid::from_bytes(*user.as_bytes())),
            None => return Ok(count),
        }
    }
}

/// Adds a definition, or replaces the one with the same key.
pub fn define(definition: &Definition, now: Instant) -> Result<(), Error> {
    let jsonb = |text: &str| JsonbText(text.to_owned());
    let arguments = [
        definition.key().into(),
        jsonb(definition.default()).into(),
        definition.schema().map(jsonb).into(),
        definition.is_overridable().into(),
        now.to_timestamp()?.into(),
    ];
    DEFINE.with(|statement| statement.run(&arguments, |_| Ok(())))
}

/// Removes a setting and the users' values of it, and tells whether there was one.
pub fn remove(key: &str, now: Instant) -> Result<bool, Error> {
    let arguments = [key.into(), now.to_timestamp()?.into()];
    REMOVE_VALUES.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    REMOVE.with(|statement| statement.run(&[key.into()], |rows| Ok(!rows.is_empty())))
}

/// What a user has set. If there is a row, it is locked, so that nobody changes or deletes it until the transaction
/// ends.
pub fn lock_row(to_set: &ToSet) -> Result<Option<String>, Error> {
    LOCK_ROW.with(|statement| {
        statement.run(&[pg_uuid(to_set.user).into()], |rows| {
            if rows.is_empty() {
                return Ok(None);
            }
            let settings = rows.first().get_one::<JsonbText>()?;
            Ok(settings.map(|JsonbText(settings)| settings))
        })
    })
}

/// Stores the settings of a user, a JSON object.
pub fn set(to_set: &Judged<ToSet>, settings: &str, now: Instant) -> Result<(), Error> {
    let arguments = [
        pg_uuid(to_set.user).into(),
        JsonbText(settings.to_owned()).into(),
        now.to_timestamp()?.into(),
    ];
    SET.with(|statement| statement.run(&arguments, |_| Ok(())))
}

change_trigger!(
    pg_finfo_supabase_pat_setting_definitions_changed,
    supabase_pat_setting_definitions_changed,
    definitions_table
);

/// What is in the table `pat.user_settings` for a user.
fn settings_of(user: Uuid) -> Option<JsonCopy> {
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
