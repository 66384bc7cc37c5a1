//! Tokens that expire soon.
//!
//! Each of the times before the end at which a user is told has a mark, up to which tokens have been looked at, by the
//! time at which they expire. Looking means to read what lies between the mark and now and so many days, by an index, and
//! to move the mark. So each token is met once by each mark, whatever happens in between, and no other token is read.
//! Workers do it when they claim, one at a time, once a minute or as long as there is something left.
#![allow(unsafe_code)]

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid::{INT2OID, INT4OID, INTERVALOID, TIMESTAMPTZOID, UUIDOID};
use supabase_pat_core::error::Error;
use supabase_pat_core::notices::{DAY, Expiry, OWN_A_DAY, THRESHOLDS, Threshold, TokenNow};
use uuid::Uuid;

use super::store::{Claimed, day_of};
use crate::pg::clock::{self, Instant};
use crate::pg::relations;
use crate::pg::statement::{Statement, uses_transaction_snapshot};
use crate::pg::uuid::pg_uuid;

/// How many tokens are looked at in one step, as the statement has it, and those that expire with the last of them.
const STEP: i32 = 1000;

/// Microseconds between two looks.
const PAUSE: i64 = 60_000_000;

thread_local! {
    static MARKS: Statement = const { Statement::new("select days, reached from pat.notice_marks", &[]) };

    static SET_MARK: Statement = const { Statement::new(
        "insert into pat.notice_marks as mark (days, reached) values ($1, $2) \
         on conflict (days) do update set reached = excluded.reached",
        &[INT2OID, TIMESTAMPTZOID],
    ) };

    // Dead tokens count too, so that a step has an end.
    static TELL: Statement = const { Statement::new(
        "with block as (\
             select id, user_id, name, hint, created_at, expires_at, revoked_at, replaced_by, disabled_at \
             from pat.api_keys where expires_at operator(pg_catalog.>) $1 and expires_at operator(pg_catalog.<=) $2 \
             order by expires_at fetch first 1000 rows with ties), \
         due as (\
             select id, user_id, name, hint, expires_at, pg_catalog.row_number() over (\
                 partition by user_id order by expires_at, id) as number \
             from block where revoked_at is null and replaced_by is null and disabled_at is null \
                 and created_at operator(pg_catalog.<=) (expires_at operator(pg_catalog.-) $3)), \
         placed as (\
             select id, user_id, name, hint, expires_at, number operator(pg_catalog.+) (\
                 select pg_catalog.count(*) from pat.notices as told \
                 where told.user_id operator(pg_catalog.=) due.user_id and told.kind operator(pg_catalog.=) 'expiring' \
                     and told.happened_at operator(pg_catalog.>=) $5 and told.happened_at operator(pg_catalog.<) $6) as place \
             from due), \
         written as (\
             insert into pat.notices (kind, user_id, happened_at, due_at, key_id, name, hint, expires_at, days) \
             select 'expiring', user_id, $4, case when place operator(pg_catalog.<=) $7 then $4 else $6 end, \
                 case when place operator(pg_catalog.<=) $7 then id end, \
                 case when place operator(pg_catalog.<=) $7 then name end, \
                 case when place operator(pg_catalog.<=) $7 then hint end, \
                 case when place operator(pg_catalog.<=) $7 then expires_at end, \
                 case when place operator(pg_catalog.<=) $7 then $8 end \
             from placed where place operator(pg_catalog.<=) ($7 operator(pg_catalog.+) 1)) \
         select pg_catalog.count(*)::integer, pg_catalog.max(expires_at) from block",
        &[
            TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID,
            INT2OID,
        ],
    ) };

    static TOKEN_NOW: Statement = const { Statement::new(
        "select expires_at, revoked_at is not null, disabled_at is not null, replaced_by is not null \
         from pat.api_keys where id operator(pg_catalog.=) $1",
        &[UUIDOID],
    ) };

    static COUNT: Statement = const { Statement::new(
        "select pg_catalog.count(*)::integer from pat.api_keys where user_id operator(pg_catalog.=) $1 \
             and expires_at operator(pg_catalog.>) $2 and expires_at operator(pg_catalog.<=) $3 \
             and revoked_at is null and replaced_by is null and disabled_at is null",
        &[UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID],
    ) };
}

/// Writes the notices of tokens that have come close to their end, some at a time. Not in a transaction with one
/// snapshot (REPEATABLE READ, SERIALIZABLE), which would not see how far others have come.
pub fn sweep(now: Instant) -> Result<(), Error> {
    if uses_transaction_snapshot() || !has_pending(&marks()?, now) {
        return Ok(());
    }
    let Some(table) = relations::find_table(c"pat", c"notice_marks") else {
        return Ok(());
    };
    // SAFETY: Postgres takes the lock or does not, here under pgrx's guard.
    let is_ours = unsafe {
        pg_sys::ConditionalLockRelationOid(table.oid, pg_sys::ShareRowExclusiveLock as i32)
    };
    // Whoever has the lock does it.
    if !is_ours {
        return Ok(());
    }
    let marks = marks()?;
    for threshold in THRESHOLDS {
        let reached = mark_of(&marks, threshold, now);
        if is_pending(reached, threshold, now) {
            step(threshold, reached, now)?;
        }
    }
    Ok(())
}

/// The marks that there are, by their days; in microseconds.
fn marks() -> Result<Vec<(i16, i64)>, Error> {
    MARKS.with(|statement| {
        statement.run(&[], |rows| {
            let mut marks = Vec::new();
            for row in rows {
                if let (Some(days), Some(reached)) =
                    (row.get::<i16>(1)?, row.get::<TimestampWithTimeZone>(2)?)
                {
                    marks.push((days, Instant::from_timestamp(reached).unix_micros()));
                }
            }
            Ok(marks)
        })
    })
}

fn mark_of(marks: &[(i16, i64)], threshold: Threshold, now: Instant) -> Option<i64> {
    let mark = marks.iter().find(|(days, _)| *days == threshold.days);
    mark.map(|(_, reached)| *reached)
        .filter(|reached| threshold.is_credible(*reached, now.unix_micros()))
}

fn has_pending(marks: &[(i16, i64)], now: Instant) -> bool {
    THRESHOLDS
        .iter()
        .any(|&threshold| is_pending(mark_of(marks, threshold, now), threshold, now))
}

fn is_pending(reached: Option<i64>, threshold: Threshold, now: Instant) -> bool {
    let (_, end) = threshold.span(reached, now.unix_micros());
    reached.is_none_or(|reached| reached + PAUSE <= end)
}

fn step(threshold: Threshold, reached: Option<i64>, now: Instant) -> Result<(), Error> {
    let (begin, end) = threshold.span(reached, now.unix_micros());
    let end = Instant::from_unix_micros(end);
    let day = day_of(now);
    let arguments = [
        Instant::from_unix_micros(begin).to_timestamp()?.into(),
        end.to_timestamp()?.into(),
        clock::interval(threshold.least_life()).into(),
        now.to_timestamp()?.into(),
        day.to_timestamp()?.into(),
        day.plus_seconds(DAY).to_timestamp()?.into(),
        OWN_A_DAY.into(),
        threshold.days.into(),
    ];
    let (count, last) = TELL.with(|statement| {
        statement.run(&arguments, |rows| {
            rows.first().get_two::<i32, TimestampWithTimeZone>()
        })
    })?;
    let reached = match (count, last) {
        (Some(count), Some(last)) if count >= STEP => Instant::from_timestamp(last),
        _ => end,
    };
    let arguments: [DatumWithOid; 2] = [threshold.days.into(), reached.to_timestamp()?.into()];
    SET_MARK.with(|statement| statement.run(&arguments, |_| Ok(())))
}

/// What is known now of the token of a notice that it expires.
pub fn of(notice: &Claimed, token: Uuid) -> Result<Expiry, Error> {
    let token = TOKEN_NOW.with(|statement| {
        statement.run(&[pg_uuid(token).into()], |rows| {
            let row = rows.first();
            if row.is_empty() {
                return Ok(None);
            }
            let is = |column| -> pgrx::spi::Result<bool> {
                Ok(row.get::<bool>(column)?.unwrap_or(false))
            };
            let expires_at = row.get::<TimestampWithTimeZone>(1)?;
            Ok(Some(TokenNow {
                expires_at: expires_at.map_or(0, |at| Instant::from_timestamp(at).unix_seconds()),
                is_revoked: is(2)?,
                is_disabled: is(3)?,
                is_replaced: is(4)?,
            }))
        })
    })?;
    Ok(Expiry {
        threshold: notice.days.and_then(Threshold::of_days),
        told: notice.expires_at.map_or(0, Instant::unix_seconds),
        token,
    })
}

/// How many tokens of a user expire within the first threshold.
pub fn count(user: Uuid, now: Instant) -> Result<i32, Error> {
    let end = now.plus_seconds(i64::from(THRESHOLDS[0].days) * DAY);
    let arguments = [
        pg_uuid(user).into(),
        now.to_timestamp()?.into(),
        end.to_timestamp()?.into(),
    ];
    COUNT.with(|statement| {
        statement.run(&arguments, |rows| {
            Ok(rows.first().get_one::<i32>()?.unwrap_or(0))
        })
    })
}
