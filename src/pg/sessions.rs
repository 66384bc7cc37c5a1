//! Sessions: their rows in `auth.sessions`, which Supabase Auth honours, and ours beside them.

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::pg_sys::BuiltinOid::{INT8OID, TEXTOID, TIMESTAMPTZOID, UUIDOID};
use supabase_pat_core::error::Error;
use supabase_pat_core::refresh_token::Progress;
use supabase_pat_core::session::Method;
use uuid::Uuid;

use super::clock::Instant;
use super::durability;
use super::http::Origin;
use super::relations::{self, Sessions};
use super::statement::{self, Statement};
use super::store::pg_uuid;

thread_local! {
    static INSERT: Statement = const { Statement::new(
        "insert into pat.sessions (session_id, user_id, method, signing_key, created_at, \
             refreshed_at, previously_refreshed_at) values ($1, $2, $3, $4, $5, $5, $5)",
        &[UUIDOID, UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID],
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
         and ($3 is null or session_id operator(pg_catalog.<>) $3)",
        &[UUIDOID, UUIDOID, UUIDOID],
    ) };

    static FORGET_ORPHANS: Statement = const { Statement::new(
        "delete from pat.sessions as mine where mine.user_id operator(pg_catalog.=) $1 \
         and not exists (select from auth.sessions as theirs \
             where theirs.id operator(pg_catalog.=) mine.session_id)",
        &[UUIDOID],
    ) };
}

/// Which sessions of a user end.
#[derive(Clone, Copy)]
pub enum Which {
    One(Uuid),
    AllBut(Uuid),
    All,
}

/// A session of ours, as it is stored.
pub struct Stored {
    pub user: Uuid,
    pub method: Method,
    pub signing_key: Option<String>,
    pub previous_signing_key: Option<String>,
    pub rekeyed_at: i64,
    pub progress: Progress,
    pub created_at: Instant,
    pub refreshed_at: Instant,
}

impl Stored {
    /// The id of the key that a token of that number was made with.
    pub fn key_of(&self, number: i64) -> Option<&str> {
        match number >= self.rekeyed_at {
            true => self.signing_key.as_deref(),
            false => self.previous_signing_key.as_deref(),
        }
    }
}

/// Begins a session. `ends_at` is when it ends whatever happens.
pub fn begin(
    session: Uuid,
    user: Uuid,
    (method, signing_key): (Method, Option<&str>),
    now: Instant,
    ends_at: Option<Instant>,
    origin: &Origin,
) -> Result<(), Error> {
    let Sessions { table, .. } = relations::sessions().ok_or(Error::NoSessionsTable)?;
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
    let ends_at = ends_at.map(Instant::to_timestamp).transpose()?;
    let arguments = [
        pg_uuid(session).into(),
        pg_uuid(user).into(),
        now.to_timestamp()?.into(),
        ends_at.into(),
        origin.user_agent.as_deref().into(),
        origin.address.map(|address| address.to_string()).into(),
    ];
    statement::run_once(table, &sql, &arguments, |_| Ok(()))?;

    let arguments = [
        pg_uuid(session).into(),
        pg_uuid(user).into(),
        method.as_str().into(),
        signing_key.into(),
        now.to_timestamp()?.into(),
    ];
    INSERT.with(|statement| statement.run(&arguments, |_| Ok(())))
}

/// The session, which nobody else refreshes until the end of the transaction.
pub fn lock(session: Uuid) -> Result<Option<Stored>, Error> {
    LOCK.with(|statement| {
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
            Ok(Some(Stored {
                user: Uuid::from_bytes(*user.as_bytes()),
                method: Method::named(&method),
                signing_key: row.get::<String>(3)?,
                previous_signing_key: row.get::<String>(4)?,
                rekeyed_at,
                progress: Progress {
                    live,
                    previously_refreshed_at: previously.unix_micros(),
                },
                created_at,
                refreshed_at,
            }))
        })
    })
}

/// Makes a number the live one, under the signing key of that id.
pub fn advance(
    session: Uuid,
    stored: &Stored,
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

    let Sessions { table, .. } = relations::sessions().ok_or(Error::NoSessionsTable)?;
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

/// Ends sessions of a user, whoever began them, and tells how many there were.
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
    FORGET.with(|statement| statement.run(&arguments(), |_| Ok(())))?;
    let Some(Sessions { table, .. }) = relations::sessions() else {
        return Ok(0);
    };
    let sql = "delete from auth.sessions where user_id operator(pg_catalog.=) $1 \
         and ($2 is null or id operator(pg_catalog.=) $2) \
         and ($3 is null or id operator(pg_catalog.<>) $3) returning 1";
    statement::run_once(table, sql, &arguments(), |rows| Ok(rows.len()))
}

/// Forgets what is left of a user's sessions that somebody else has ended.
pub fn forget_orphans(user: Uuid) -> Result<(), Error> {
    relations::sessions().ok_or(Error::NoSessionsTable)?;
    FORGET_ORPHANS.with(|statement| statement.run(&[pg_uuid(user).into()], |_| Ok(())))
}
