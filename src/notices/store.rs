//! The table `pat.notices`: what is added to it, and how workers take from it.

use pgrx::datum::{TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::pg_sys::BuiltinOid::{
    BOOLOID, INT4OID, INT8ARRAYOID, INT8OID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, UUIDOID,
};
use supabase_pat_core::error::Error;
use supabase_pat_core::notices::{DAY, KEPT, Kind, Room};
use uuid::Uuid;

use super::attribution::By;
use super::room;
use crate::pg::clock::Instant;
use crate::pg::statement::Statement;
use crate::pg::uuid::{pg_uuid, to_uuid};

thread_local! {
    static INSERT: Statement = const { Statement::new(
        "insert into pat.notices \
         (kind, user_id, happened_at, due_at, key_id, name, hint, is_rotation, actor, by_key, found_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        &[
            TEXTOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, UUIDOID,
            TEXTOID,
        ],
    ) };

    static OLDEST: Statement = const { Statement::new(
        "select happened_at operator(pg_catalog.<) $1 from pat.notices \
         where happened_at operator(pg_catalog.<=) $2 order by id limit 1",
        &[TIMESTAMPTZOID, TIMESTAMPTZOID],
    ) };

    // Ids and times grow together, but for what was written while the clock was wrong: that must not be in the way.
    static SWEEP: Statement = const { Statement::new(
        "delete from pat.notices where happened_at operator(pg_catalog.<) $1 and id operator(pg_catalog.=) any (array(\
             select id from pat.notices where happened_at operator(pg_catalog.<=) $3 \
             order by id limit $2 for update skip locked))",
        &[TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID],
    ) };

    static CLAIM: Statement = const { Statement::new(
        "update pat.notices as notice set claimed_until = $2, attempts = notice.attempts operator(pg_catalog.+) 1 \
         where notice.id operator(pg_catalog.=) any (array(\
             select id from pat.notices where ended_at is null and due_at operator(pg_catalog.<=) $1 \
             and (claimed_until is null or claimed_until operator(pg_catalog.<=) $1) \
             order by due_at limit $3 for update skip locked)) \
         returning notice.id, notice.kind, notice.user_id, notice.happened_at, notice.due_at, notice.key_id, \
             notice.name, notice.hint, notice.is_rotation, notice.actor, notice.by_key, notice.found_at, \
             notice.expires_at, notice.days, notice.attempts",
        &[TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID],
    ) };

    static LEAVE: Statement = const { Statement::new(
        "update pat.notices set claimed_until = null, attempts = attempts operator(pg_catalog.-) 1 \
         where id operator(pg_catalog.=) any ($1)",
        &[INT8ARRAYOID],
    ) };

    // The row is kept, since it counts for its day; what was in it is not.
    static END: Statement = const { Statement::new(
        "update pat.notices set ended_at = $2, outcome = $3, name = null, hint = null, found_at = null \
         where id operator(pg_catalog.=) $1 and ended_at is null returning 1",
        &[INT8OID, TIMESTAMPTZOID, TEXTOID],
    ) };

    static FAILED: Statement = const { Statement::new(
        "update pat.notices set last_error = $3, claimed_until = $2 operator(pg_catalog.+) \
             pg_catalog.make_interval(secs => least(3600, pg_catalog.power(2, least(20, attempts)))) \
         where id operator(pg_catalog.=) $1 and ended_at is null returning 1",
        &[INT8OID, TIMESTAMPTZOID, TEXTOID],
    ) };

    static NAME: Statement = const { Statement::new(
        "select name from pat.api_keys where id operator(pg_catalog.=) $1",
        &[UUIDOID],
    ) };

    static COUNT_EVENTS: Statement = const { Statement::new(
        "select pg_catalog.count(*)::integer from pat.events where user_id operator(pg_catalog.=) $1 \
             and happened_at operator(pg_catalog.>=) $2 and happened_at operator(pg_catalog.<) $3 \
             and event operator(pg_catalog.=) any ($4)",
        &[UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTARRAYOID],
    ) };
}

/// The token that a notice tells of.
pub struct About<'a> {
    pub user: Uuid,
    pub token: Uuid,
    pub name: &'a str,
    pub hint: Option<&'a str>,
    /// Whether it has been minted in the place of another one.
    pub is_rotation: bool,
}

/// A notice that a worker has claimed.
pub struct Claimed {
    pub id: i64,
    pub kind: Kind,
    pub user: Uuid,
    pub happened_at: Instant,
    pub due_at: Instant,
    /// `None` for a notice that stands for several tokens.
    pub token: Option<Uuid>,
    pub name: Option<String>,
    pub hint: Option<String>,
    pub is_rotation: bool,
    pub actor: Option<String>,
    pub by_token: Option<Uuid>,
    pub found_at: Option<String>,
    pub expires_at: Option<Instant>,
    pub days: Option<i16>,
    /// The number of this attempt to send it, from 1.
    pub attempt: i32,
}

/// The beginning of a day, in UTC.
pub fn day_of(now: Instant) -> Instant {
    let now = now.unix_seconds();
    Instant::from_unix_seconds(now - now.rem_euclid(DAY))
}

/// Adds a notice, if those of the kind are sent and there is room: one of the token's own, or the one that stands for all
/// others of the user and the day.
///
/// # Errors
/// Those of [`Statement::run`].
pub fn tell(kind: Kind, about: &About, by: &By, happened_at: Instant) -> Result<(), Error> {
    let (due_at, about, by) = match room::of(kind, about.user, happened_at) {
        Room::Own => (happened_at, Ok(about), Some(by)),
        Room::Last => (day_of(happened_at).plus_seconds(DAY), Err(about.user), None),
        Room::None => return Ok(()),
    };
    let user = about.map_or_else(|user| user, |about| about.user);
    let about = about.ok();
    let (by_token, found_at) = match by {
        Some(By::Token(token)) => (Some(*token), None),
        Some(By::LeakReport { found_at, .. }) => (None, found_at.as_deref()),
        Some(By::User | By::Operator) | None => (None, None),
    };
    let arguments = [
        kind.as_str().into(),
        pg_uuid(user).into(),
        happened_at.to_timestamp()?.into(),
        due_at.to_timestamp()?.into(),
        about.map(|about| pg_uuid(about.token)).into(),
        about.map(|about| about.name).into(),
        about.and_then(|about| about.hint).into(),
        about.is_some_and(|about| about.is_rotation).into(),
        by.map(By::as_str).into(),
        by_token.map(pg_uuid).into(),
        found_at.into(),
    ];
    INSERT.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    tidy(happened_at)
}

/// Removes some old notices now and then: where no mail worker runs, nobody else does it.
pub fn tidy(happened_at: Instant) -> Result<(), Error> {
    match happened_at.unix_micros() % 16 {
        0 => sweep(Instant::now(), 100),
        _ => Ok(()),
    }
}

/// Removes up to `max` notices that have been kept long enough.
pub fn sweep(now: Instant, max: i64) -> Result<(), Error> {
    let end = now.plus_seconds(-KEPT).to_timestamp()?;
    let now = now.to_timestamp()?;
    let is_there = OLDEST.with(|statement| {
        statement.run(&[end.into(), now.into()], |rows| match rows.is_empty() {
            true => Ok(false),
            false => Ok(rows.first().get_one::<bool>()? == Some(true)),
        })
    })?;
    match is_there {
        true => SWEEP.with(|statement| statement.sweep(&[end.into(), max.into(), now.into()])),
        false => Ok(()),
    }
}

/// Takes up to `max` notices that are due. For `lease` seconds, nobody else gets them.
pub fn claim(max: i32, lease: i64, now: Instant) -> Result<Vec<Claimed>, Error> {
    let arguments = [
        now.to_timestamp()?.into(),
        now.plus_seconds(lease).to_timestamp()?.into(),
        max.into(),
    ];
    CLAIM.with(|statement| {
        statement.run(&arguments, |rows| {
            let mut claimed = Vec::new();
            for row in rows {
                let id = |column| -> pgrx::spi::Result<Option<Uuid>> {
                    Ok(row.get::<PgUuid>(column)?.map(to_uuid))
                };
                let time = |column| -> pgrx::spi::Result<Option<Instant>> {
                    let time = row.get::<TimestampWithTimeZone>(column)?;
                    Ok(time.map(Instant::from_timestamp))
                };
                let kind = row.get::<String>(2)?;
                let kind = kind.as_deref().and_then(Kind::named);
                let (Some(number), Some(kind), Some(user), Some(happened_at), Some(due_at)) =
                    (row.get::<i64>(1)?, kind, id(3)?, time(4)?, time(5)?)
                else {
                    continue; // no column of these is null
                };
                claimed.push(Claimed {
                    id: number,
                    kind,
                    user,
                    happened_at,
                    due_at,
                    token: id(6)?,
                    name: row.get(7)?,
                    hint: row.get(8)?,
                    is_rotation: row.get(9)?.unwrap_or(false),
                    actor: row.get(10)?,
                    by_token: id(11)?,
                    found_at: row.get(12)?,
                    expires_at: time(13)?,
                    days: row.get(14)?,
                    attempt: row.get(15)?.unwrap_or(1),
                });
            }
            claimed.sort_by_key(|notice| notice.due_at);
            Ok(claimed)
        })
    })
}

/// Leaves notices to others that this transaction has claimed.
pub fn leave(ids: Vec<i64>) -> Result<(), Error> {
    match ids.is_empty() {
        true => Ok(()),
        false => LEAVE.with(|statement| statement.run(&[ids.into()], |_| Ok(()))),
    }
}

/// Notes that a notice has been sent. False if there is no such notice any more.
pub fn sent(id: i64, now: Instant) -> Result<bool, Error> {
    end(id, "sent", now)
}

/// Gives up a notice, since there is nothing to tell any more, or nobody.
pub fn drop(id: i64, reason: &str, now: Instant) -> Result<(), Error> {
    end(id, reason, now).map(|_| ())
}

fn end(id: i64, outcome: &str, now: Instant) -> Result<bool, Error> {
    let arguments = [id.into(), now.to_timestamp()?.into(), outcome.into()];
    END.with(|statement| statement.run(&arguments, |rows| Ok(!rows.is_empty())))
}

/// Gives a notice back, with the reason why it could not be sent. It can be claimed again after 2, 4, 8 seconds and so
/// on, an hour at most. False if there is no such notice any more.
pub fn failed(id: i64, error: &str, now: Instant) -> Result<bool, Error> {
    let arguments = [id.into(), now.to_timestamp()?.into(), error.into()];
    FAILED.with(|statement| statement.run(&arguments, |rows| Ok(!rows.is_empty())))
}

/// The name of the token that has done what a notice tells of, if it is still there.
pub fn name_of_actor(notice: &Claimed) -> Result<Option<String>, Error> {
    match notice.by_token {
        // Its row may be gone.
        Some(token) if notice.token == Some(token) => Ok(notice.name.clone()),
        Some(token) => NAME.with(|statement| {
            statement.run(&[pg_uuid(token).into()], |rows| match rows.is_empty() {
                true => Ok(None),
                false => rows.first().get_one::<String>(),
            })
        }),
        None => Ok(None),
    }
}

/// How many tokens a notice tells of that stands for several: by the events of its day from its own time on.
pub fn count_events(notice: &Claimed) -> Result<i32, Error> {
    let arguments = [
        pg_uuid(notice.user).into(),
        notice.happened_at.to_timestamp()?.into(),
        notice.due_at.to_timestamp()?.into(),
        notice.kind.events().to_vec().into(),
    ];
    let count = COUNT_EVENTS
        .with(|statement| statement.run(&arguments, |rows| rows.first().get_one::<i32>()))?;
    // Events may be kept for less than a day.
    Ok(count.unwrap_or(0).max(1))
}
