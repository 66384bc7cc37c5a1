//! The usage of all tokens together, for operators: how many requests there were on each day, and which tokens and users
//! made most of them.
//!
//! The REST server aggregates nothing, so that these are functions. Each reads the rows of its days, by the index that
//! begins with the day, and `pat.api_key_usage`, which has one row for each token that was ever used. Names are looked up
//! for the rows alone that are returned.

use pgrx::datum::{Date, DatumWithOid, Uuid as PgUuid};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::BuiltinOid::{BOOLOID, DATEOID, INT4OID};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::daily::Day;
use supabase_pat_core::error::Error;
use supabase_pat_core::usage_summary::{self, Order, Period};

use crate::pg::clock::{self, Instant};
use crate::pg::error::reported;
use crate::pg::rights;
use crate::pg::statement::Statement;

// A sum is no error, however large the counts in a table are that somebody has loaded into it.
thread_local! {
    static TOTALS: Statement = const { Statement::new(
        "select day, least(sum(requests), 9223372036854775807)::pg_catalog.int8, \
             least(sum(refused), 9223372036854775807)::pg_catalog.int8, count(*) \
         from (\
             select day, requests, refused from pat.api_key_days \
             where day operator(pg_catalog.>=) $1 and day operator(pg_catalog.<=) $2 \
             union all \
             select day, requests, refused from pat.api_key_usage \
             where day operator(pg_catalog.>=) $1 and day operator(pg_catalog.<=) $2) as days \
         group by day order by day",
        &[DATEOID, DATEOID],
    ) };

    static BY_TOKEN: Statement = const { Statement::new(
        "with tokens as (\
             select key_id, user_id, sum(requests) as requests, sum(refused) as refused \
             from (\
                 select key_id, user_id, requests, refused from pat.api_key_days \
                 where day operator(pg_catalog.>=) $1 and day operator(pg_catalog.<=) $2 \
                 union all \
                 select key_id, user_id, requests, refused from pat.api_key_usage \
                 where day operator(pg_catalog.>=) $1 and day operator(pg_catalog.<=) $2) as days \
             group by (key_id, user_id)), \
         most as (\
             select key_id, user_id, requests, refused, case when $3 then refused else requests end as rank \
             from tokens where case when $3 then refused else requests end operator(pg_catalog.>) 0 \
             order by rank desc, requests operator(pg_catalog.+) refused desc, key_id limit $4) \
         select key_id, user_id, (select token.name from pat.api_keys as token where token.id operator(pg_catalog.=) key_id), \
             least(requests, 9223372036854775807)::pg_catalog.int8, least(refused, 9223372036854775807)::pg_catalog.int8 \
         from most order by rank desc, requests operator(pg_catalog.+) refused desc, key_id",
        &[DATEOID, DATEOID, BOOLOID, INT4OID],
    ) };

    static BY_USER: Statement = const { Statement::new(
        "with tokens as (\
             select key_id, user_id, sum(requests) as requests, sum(refused) as refused \
             from (\
                 select key_id, user_id, requests, refused from pat.api_key_days \
                 where day operator(pg_catalog.>=) $1 and day operator(pg_catalog.<=) $2 \
                 union all \
                 select key_id, user_id, requests, refused from pat.api_key_usage \
                 where day operator(pg_catalog.>=) $1 and day operator(pg_catalog.<=) $2) as days \
             group by (key_id, user_id)), \
         users as (\
             select user_id, count(*) as keys, sum(requests) as requests, sum(refused) as refused from tokens group by user_id), \
         most as (\
             select user_id, keys, requests, refused, case when $3 then refused else requests end as rank \
             from users where case when $3 then refused else requests end operator(pg_catalog.>) 0 \
             order by rank desc, requests operator(pg_catalog.+) refused desc, user_id limit $4) \
         select user_id, \
             (select account.name from pat.service_accounts as account where account.user_id operator(pg_catalog.=) most.user_id), \
             keys, \
             least(requests, 9223372036854775807)::pg_catalog.int8, least(refused, 9223372036854775807)::pg_catalog.int8 \
         from most as most order by rank desc, requests operator(pg_catalog.+) refused desc, user_id",
        &[DATEOID, DATEOID, BOOLOID, INT4OID],
    ) };
}

#[pg_extern(stable, requires = ["schema"])]
#[allow(clippy::type_complexity)]
fn usage_totals(
    days: default!(Option<i32>, 30),
    last_day: default!(Option<Date>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(day, Date),
            name!(requests, i64),
            name!(refused, i64),
            name!(tokens, i64),
        ),
    >,
    ErrorReport,
> {
    reported(|| {
        rights::require_trusted(ACTION)?;
        let period = period(days, last_day)?;
        let counted: Vec<(Day, [i64; 3])> = TOTALS.with(|statement| {
            statement.read(&ends(period)?, |rows| {
                let mut read = Vec::new();
                for row in rows {
                    let day = row.get(1)?.and_then(clock::day);
                    let counts = [count(row.get(2)?), count(row.get(3)?), count(row.get(4)?)];
                    read.extend(day.map(|day| (day, counts)));
                }
                Ok(read)
            })
        })?;
        // A day without a request has its row too, so that whoever draws them need not know which days there are.
        let mut counted = counted.into_iter().peekable();
        let rows = period.days().map(|day| {
            let found = counted.next_if(|&(found, _)| found == day);
            let [requests, refused, tokens] = found.map_or([0; 3], |(_, counts)| counts);
            Ok((clock::date(day)?, requests, refused, tokens))
        });
        Ok(TableIterator::new(rows.collect::<Result<Vec<_>, Error>>()?))
    })
}

#[pg_extern(stable, requires = ["schema"])]
#[allow(clippy::type_complexity)]
fn usage_by_token(
    days: default!(Option<i32>, 30),
    last_day: default!(Option<Date>, "NULL"),
    order_by: default!(Option<String>, "'requests'"),
    max_rows: default!(Option<i32>, 10),
) -> Result<
    TableIterator<
        'static,
        (
            name!(key_id, Option<PgUuid>),
            name!(user_id, Option<PgUuid>),
            name!(name, Option<String>),
            name!(requests, i64),
            name!(refused, i64),
        ),
    >,
    ErrorReport,
> {
    reported(|| {
        rights::require_trusted(ACTION)?;
        let ranking = ranking(days, last_day, order_by, max_rows)?;
        let rows = BY_TOKEN.with(|statement| {
            statement.read(&ranking, |rows| {
                let mut read = Vec::new();
                for row in rows {
                    let (key, user, name) = (row.get(1)?, row.get(2)?, row.get(3)?);
                    read.push((key, user, name, count(row.get(4)?), count(row.get(5)?)));
                }
                Ok(read)
            })
        })?;
        Ok(TableIterator::new(rows))
    })
}

#[pg_extern(stable, requires = ["schema"])]
#[allow(clippy::type_complexity)]
fn usage_by_user(
    days: default!(Option<i32>, 30),
    last_day: default!(Option<Date>, "NULL"),
    order_by: default!(Option<String>, "'requests'"),
    max_rows: default!(Option<i32>, 10),
) -> Result<
    TableIterator<
        'static,
        (
            name!(user_id, Option<PgUuid>),
            name!(service_account, Option<String>),
            name!(tokens, i64),
            name!(requests, i64),
            name!(refused, i64),
        ),
    >,
    ErrorReport,
> {
    reported(|| {
        rights::require_trusted(ACTION)?;
        let ranking = ranking(days, last_day, order_by, max_rows)?;
        let rows = BY_USER.with(|statement| {
            statement.read(&ranking, |rows| {
                let mut read = Vec::new();
                for row in rows {
                    let (user, account) = (row.get(1)?, row.get(2)?);
                    let counts = [count(row.get(3)?), count(row.get(4)?), count(row.get(5)?)];
                    read.push((user, account, counts[0], counts[1], counts[2]));
                }
                Ok(read)
            })
        })?;
        Ok(TableIterator::new(rows))
    })
}

const ACTION: &str = "see the usage of all users";

/// The days that were asked for, up to the present one in UTC if none is named.
fn period(days: Option<i32>, last_day: Option<Date>) -> Result<Period, Error> {
    let last = match last_day {
        Some(date) => clock::day(date),
        None => Some(Day::at(Instant::now().unix_micros())),
    };
    Period::ending(last, days.ok_or(Error::NullArgument("days"))?)
}

fn ends(period: Period) -> Result<[DatumWithOid<'static>; 2], Error> {
    Ok([
        clock::date(period.first())?.into(),
        clock::date(period.last())?.into(),
    ])
}

/// The parameters of `BY_TOKEN` and `BY_USER`.
fn ranking(
    days: Option<i32>,
    last_day: Option<Date>,
    order_by: Option<String>,
    max_rows: Option<i32>,
) -> Result<[DatumWithOid<'static>; 4], Error> {
    let [first, last] = ends(period(days, last_day)?)?;
    let order = Order::named(&order_by.ok_or(Error::NullArgument("order_by"))?)?;
    let rows = usage_summary::rows(max_rows.ok_or(Error::NullArgument("max_rows"))?)?;
    Ok([first, last, (order == Order::Refused).into(), rows.into()])
}

/// Sums and numbers of rows are never null.
fn count(value: Option<i64>) -> i64 {
    value.unwrap_or_default()
}
