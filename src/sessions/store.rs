//! The rows of sessions: one in `auth.sessions`, which Supabase Auth honours, and one in `pat.sessions` beside it.
//!
//! Rows are locked in this order, so that nobody waits in a circle: the user's, that of `pat.sessions`, that of
//! `auth.sessions`.

use std::ops::ControlFlow;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::pg_sys::BuiltinOid::{INT8OID, TEXTOID, TIMESTAMPTZOID, UUIDARRAYOID, UUIDOID};
use supabase_pat_core::error::Error;
use supabase_pat_core::refresh_token::Progress;
use supabase_pat_core::session::Method;
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::durability;
use crate::pg::relations;
use crate::pg::scan::look;
use crate::pg::statement::{self, Statement};
use crate::pg::uuid::pg_uuid;
use crate::request::http::Origin;
use crate::request::tables::{self, Sessions};
use crate::users;

thread_local! {
    static INSERT: Statement = const { Statement::new(
        "insert into pat.sessions (session_id, user_id, method, signing_key, created_at, \
             refreshed_at, previously_refreshed_at) values ($1, $2, $3, $4, $5, $5, $5)",
        &[UUIDOID, UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID],
    ) };

    static FIND: Statement = const { Statement::new(
        "select user_id, method, signing_key, previous_signing_key, rekeyed_at, live, created_at, \
             refreshed_at, previously_refreshed_at \
         from pat.sessions where session_id operator(pg_catalog.=) $1",
        &[UUIDOID],
    ) };

    static LOCK: Statement = const { Statement::new(
        "select user_id, method, signing_key, previous_signing_key, rekeyed_at, live, created_at, \
             refreshed_at, previously_refreshed_at \
         from pat.sessions where session_id operator(pg_catalog.=) $1 for update",
        &[UUIDOID],
    ) };

    static ADVANCE: Statement = const { Statement::new(
        "update pat.sessions set live = $2, previously_refreshed_at = refreshed_at, \
             refreshed_at = $3, signing_key = $4, \
             previous_signing_key = case when $5 then signing_key else previous_signing_key end, \
             rekeyed_at = case when $5 then $2 else rekeyed_at end \
         where session_id operator(pg_catalog.=) $1",
        &[UUIDOID, INT8OID, TIMESTAMPTZOID, TEXTOID, pgrx::pg_sys::BuiltinOid::BOOLOID],
    ) };

    static FORGET: Statement = const { Statement::new(
        "delete from pat.sessions where user_id operator(pg_catalog.=) $1 \
         and ($2 is null or session_id operator(pg_catalog.=) $2) \
         and ($3 is null or session_id operator(pg_catalog.<>) $3) returning 1",
        &[UUIDOID, UUIDOID, UUIDOID],
    ) };

    static OF_USER: Statement = const { Statement::new(
        "select session_id from pat.sessions where user_id operator(pg_catalog.=) $1",
        &[UUIDOID],
    ) };

    static FORGET_SOME: Statement = const { Statement::new(
        "delete from pat.sessions where session_id operator(pg_catalog.=) any ($1)",
        &[UUIDARRAYOID],
    ) };
}

/// Which sessions of a user end.
#[derive(Clone, Copy)]
pub enum Which {
    One(Uuid),
    AllBut(Uuid),
    All,
}

/// A row of `pat.sessions`.
pub struct StoredSession {
    pub user: Uuid,
    pub method: Method,
    pub signing_key: Option<String>,
    pub previous_signing_key: Option<String>,
    /// The number of the first refresh token under `signing_key`. Those before it are under `previous_signing_key`.
    pub rekeyed_at: i64,
    pub progress: Progress,
    pub created_at: Instant,
    pub refreshed_at: Instant,
}

impl StoredSession {
    /// The id of the key that the refresh token of that number is signed with, `None` for the configured secret.
    pub fn signing_key_of(&self, number: i64) -> Option<&str> {
        match number >= self.rekeyed_at {
            true => self.signing_key.as_deref(),
            false => self.previous_signing_key.as_deref(),
        }
    }
}

/// A session to be added.
pub struct NewSession<'a> {
    pub id: Uuid,
    pub user: Uuid,
    pub method: Method,
    /// The id of the key that its refresh token is signed with, `None` for the configured secret.
    pub signing_key: Option<&'a str>,
    pub created_at: Instant,
    /// When it ends, however often it is refreshed.
    pub ends_at: Option<Instant>,
    pub origin: &'a Origin,
}

/// Adds both rows of a session. Of the columns of `auth.sessions`, those are set that this version of it has.
///
/// # Errors
/// [`Error::NoSessionsTable`].
pub fn begin(new: &NewSession) -> Result<(), Error> {
    let Sessions { table, .. } = tables::sessions().ok_or(Error::NoSessionsTable)?;
    let (mut columns, mut values) = (String::from("id, user_id"), String::from("$1, $2"));
    for (column, name, value) in [
        (c"created_at", "created_at", "$3"),
        (c"updated_at", "updated_at", "$3"),
        (c"not_after", "not_after", "$4"),
        (c"aal", "aal", "'aal1'"),
        (c"user_agent", "user_agent", "$5"),
        (c"ip", "ip", "$6::pg_catalog.inet"),
    ] {
        if relations::find_column(table.oid, column, None).is_some() {
            columns += &format!(", {name}");
            values += &format!(", {value}");
        }
    }
    let sql = format!("insert into auth.sessions ({columns}) values ({values})");
    let ends_at = new.ends_at.map(Instant::to_timestamp).transpose()?;
    let arguments = [
        pg_uuid(new.id).into(),
        pg_uuid(new.user).into(),
        new.created_at.to_timestamp()?.into(),
        ends_at.into(),
        new.origin.user_agent.as_deref().into(),
        new.origin.address.map(|address| address.to_string()).into(),
    ];
    statement::run_once(table, &sql, &arguments, |_| Ok(()))?;

    let arguments = [
        pg_uuid(new.id).into(),
        pg_uuid(new.user).into(),
        new.method.as_str().into(),
        new.signing_key.into(),
        new.created_at.to_timestamp()?.into(),
    ];
    INSERT.with(|statement| statement.run(&arguments, |_| Ok(())))
}

/// The row of a session in `pat.sessions`, without a lock.
pub fn find(session: Uuid) -> Result<Option<StoredSession>, Error> {
    FIND.with(|statement| read(statement, session))
}

/// The row of a session in `pat.sessions`. Both rows are locked, so that nobody else refreshes or ends the session
/// until the end of the transaction. `None` if one of them is missing.
///
/// # Errors
/// [`Error::NoSessionsTable`].
pub fn lock(session: Uuid) -> Result<Option<StoredSession>, Error> {
    let Sessions { table, .. } = tables::sessions().ok_or(Error::NoSessionsTable)?;
    let Some(stored) = LOCK.with(|statement| read(statement, session))? else {
        return Ok(None);
    };
    let sql = "select from auth.sessions where id operator(pg_catalog.=) $1 for no key update";
    let arguments = [pg_uuid(session).into()];
    let is_there = statement::run_once(table, sql, &arguments, |rows| Ok(!rows.is_empty()))?;
    Ok(is_there.then_some(stored))
}

fn read(statement: &Statement, session: Uuid) -> Result<Option<StoredSession>, Error> {
    statement.run(&[pg_uuid(session).into()], |rows| {
        let row = rows.first();
        if row.is_empty() {
            return Ok(None);
        }
        let time = |column| -> pgrx::spi::Result<Option<Instant>> {
            let time = row.get::<TimestampWithTimeZone>(column)?;
            Ok(time.map(Instant::from_timestamp))
        };
        let (Some(user), Some(method), Some(rekeyed_at), Some(live)) = (
            row.get::<PgUuid>(1)?,
            row.get::<String>(2)?,
            row.get::<i64>(5)?,
            row.get::<i64>(6)?,
        ) else {
            return Ok(None); // no column of these is null
        };
        let (Some(created_at), Some(refreshed_at), Some(previously)) =
            (time(7)?, time(8)?, time(9)?)
        else {
            return Ok(None); // nor of these
        };
        Ok(Some(StoredSession {
            user: Uuid::from_bytes(*user.as_bytes()),
            method: Method::named(&method),
            signing_key: row.get::<String>(3)?,
            previous_signing_key: row.get::<String>(4)?,
            rekeyed_at,
            progress: Progress {
                live,
                refreshed_at: refreshed_at.unix_micros(),
                previously_refreshed_at: previously.unix_micros(),
            },
            created_at,
            refreshed_at,
        }))
    })
}

/// Makes a number that of the live refresh token, which is signed with the key of that id.
///
/// # Errors
/// [`Error::NoSessionsTable`].
pub fn advance(
    session: Uuid,
    stored: &StoredSession,
    number: i64,
    signing_key: Option<&str>,
    now: Instant,
) -> Result<(), Error> {
    let arguments = [
        pg_uuid(session).into(),
        number.into(),
        now.to_timestamp()?.into(),
        signing_key.into(),
        (stored.signing_key.as_deref() != signing_key).into(),
    ];
    ADVANCE.with(|statement| statement.run(&arguments, |_| Ok(())))?;

    let Sessions { table, .. } = tables::sessions().ok_or(Error::NoSessionsTable)?;
    let mut changes = Vec::new();
    for (column, change) in [
        (c"updated_at", "updated_at = $2"),
        // Supabase Auth keeps this one without a time zone, in UTC.
        (c"refreshed_at", "refreshed_at = $2 at time zone 'UTC'"),
    ] {
        if relations::find_column(table.oid, column, None).is_some() {
            changes.push(change);
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "update auth.sessions set {} where id operator(pg_catalog.=) $1",
        changes.join(", ")
    );
    let arguments = [pg_uuid(session).into(), now.to_timestamp()?.into()];
    statement::run_once(table, &sql, &arguments, |_| Ok(()))
}

/// Ends sessions of a user, whoever began them, and tells how many there were. It ends all that have been committed by
/// the time it runs, at every isolation level, and waits for a transaction that is beginning one.
pub fn end(user: Uuid, which: Which) -> Result<usize, Error> {
    let (only, all_but) = match which {
        Which::One(session) => (Some(session), None),
        Which::AllBut(session) => (None, Some(session)),
        Which::All => (None, None),
    };
    let arguments = || -> [DatumWithOid; 3] {
        [
            pg_uuid(user).into(),
            only.map(pg_uuid).into(),
            all_but.map(pg_uuid).into(),
        ]
    };
    durability::of_revocation()?;
    users::lock_row(user)?;
    FORGET.with(|statement| statement.run_on_latest(&arguments()))?;
    let Some(Sessions { table, .. }) = tables::sessions() else {
        return Ok(0);
    };
    let sql = "delete from auth.sessions where user_id operator(pg_catalog.=) $1 \
         and ($2 is null or id operator(pg_catalog.=) $2) \
         and ($3 is null or id operator(pg_catalog.<>) $3) returning 1";
    statement::run_once_on_latest(table, sql, &arguments())
}

/// Removes the rows in `pat.sessions` of a user's sessions that have been deleted from `auth.sessions`.
///
/// Nobody has the rights to do this in one statement: `pat.sessions` is the extension owner's alone, and if a query on
/// `auth.sessions` were planned with that owner's rights, code that the owner of `auth.sessions` has put into its
/// indexes would run with them.
pub fn forget_orphans(user: Uuid) -> Result<(), Error> {
    let ours = OF_USER.with(|statement| {
        statement.run(&[pg_uuid(user).into()], |rows| {
            let mut ours = Vec::new();
            for row in rows {
                ours.extend(
                    row.get::<PgUuid>(1)?
                        .map(|id| Uuid::from_bytes(*id.as_bytes())),
                );
            }
            Ok(ours)
        })
    })?;
    let gone: Vec<PgUuid> = gone_sessions(&ours)?.into_iter().map(pg_uuid).collect();
    if gone.is_empty() {
        return Ok(());
    }
    FORGET_SOME.with(|statement| statement.run(&[gone.into()], |_| Ok(())))
}

/// Which of some sessions are no longer in `auth.sessions`.
///
/// # Errors
/// [`Error::NoSessionsTable`].
fn gone_sessions(sessions: &[Uuid]) -> Result<Vec<Uuid>, Error> {
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
