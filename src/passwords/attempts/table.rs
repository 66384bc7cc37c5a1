//! The table `pat.code_attempts`: the wrong tries at codes that were committed.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ops::ControlFlow;

use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid::{BYTEAOID, INT8OID, TIMESTAMPTZOID, UUIDOID};
use supabase_pat_core::error::Error;
use supabase_pat_core::guessing::{Chance, DAY};
use uuid::Uuid;

use super::{LookupKey, Payers, WrittenTries, know_table, knows_table};
use crate::passwords::has_column;
use crate::pg::clock::Instant;
use crate::pg::column::{Column, Id, Integer};
use crate::pg::relations::{Rows, Table, layout};
use crate::pg::scan::{expect, look};
use crate::pg::statement::Statement;
use crate::pg::uuid::pg_uuid;

thread_local! {
    static COUNT: Statement = const { Statement::new(
        "insert into pat.code_attempts as known \
         (token_id, attempts, expires_at, chance, address_digest, account_digest) \
         values ($1, 1, $2, $3, $4, $5) \
         on conflict (token_id) do update set attempts = known.attempts operator(pg_catalog.+) 1, \
             expires_at = greatest(known.expires_at, $2)",
        &[UUIDOID, TIMESTAMPTZOID, INT8OID, BYTEAOID, BYTEAOID],
    ) };

    static READ: Statement = const { Statement::new(
        "select address_digest, account_digest, chance operator(pg_catalog.*) attempts \
         from pat.code_attempts \
         where chance operator(pg_catalog.>) 0 and expires_at operator(pg_catalog.>) $1 \
         order by expires_at desc limit $2",
        &[TIMESTAMPTZOID, INT8OID],
    ) };

    static SWEEP: Statement = const { Statement::new(
        "delete from pat.code_attempts where token_id operator(pg_catalog.=) any (array(\
             select token_id from pat.code_attempts where expires_at operator(pg_catalog.<) $1 \
             order by expires_at limit 100 for update skip locked))",
        &[TIMESTAMPTZOID],
    ) };

    // For the table as it was in 0.1.0, where the extension has not been updated yet.
    static COUNT_IN_0_1_0: Statement = const { Statement::new(
        "insert into pat.code_attempts as known (token_id, attempts, expires_at) values ($1, 1, $2) \
         on conflict (token_id) do update set attempts = known.attempts operator(pg_catalog.+) 1",
        &[UUIDOID, TIMESTAMPTZOID],
    ) };
}

const HOUR: i64 = 3600;

/// `pat.code_attempts`.
#[derive(Clone, Copy)]
pub struct CodeAttempts {
    table: Table,
    pub by_token: pg_sys::Oid,
    pub token_id: Column<Id>,
    pub attempts: Column<Integer>,
}

layout!(CodeAttempts, CODE_ATTEMPTS, c"pat".c"code_attempts", |open| {
    let token_id = open.column(c"token_id")?;
    Some(CodeAttempts {
        table: open.table,
        by_token: open.index(token_id, Rows::All),
        token_id,
        attempts: open.column(c"attempts")?,
    })
});

/// How many wrong tries at the code of a token are in the table.
pub fn written(token: Uuid) -> u32 {
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

/// Writes down a wrong try at a code. `expires_at` is when the token of the code expires. What the try was worth is
/// kept for a day at least.
pub fn write(
    token: Uuid,
    expires_at: Instant,
    chance: Chance,
    payers: Payers,
    now: Instant,
) -> Result<(), Error> {
    let kept_until = match chance.is_none() {
        true => expires_at,
        false => expires_at.max(now.plus_seconds(DAY / 1_000_000)),
    };
    let arguments = [
        pg_uuid(token).into(),
        kept_until.to_timestamp()?.into(),
        chance.trillionths().into(),
        payers.address.to_vec().into(),
        payers.account.to_vec().into(),
    ];
    let (statement, arguments) = match has_column(c"code_attempts", c"chance") {
        true => (&COUNT, &arguments[..]),
        false => (&COUNT_IN_0_1_0, &arguments[..2]),
    };
    statement.with(|statement| statement.run(arguments, |_| Ok(())))?;
    let hour_ago = now.plus_seconds(-HOUR).to_timestamp()?;
    SWEEP.with(|statement| statement.sweep(&[hour_ago.into()]))
}

/// Makes the wrong tries that were committed before the server started count in shared memory. This is done once for
/// each database.
pub fn recall(now: Instant) -> Result<(), Error> {
    /// The allowances let fewer tries at codes of six digits through. At longer codes there can be any number, if
    /// somebody tries hard; then codes are long for a while.
    const MAX: i64 = 20_000;
    if knows_table() || !has_column(c"code_attempts", c"chance") {
        return Ok(());
    }
    let arguments = [now.to_timestamp()?.into(), (MAX + 1).into()];
    let rows = READ.with(|statement| {
        statement.run(&arguments, |rows| {
            let mut all = Vec::new();
            for row in rows {
                let (address, account, chance) = (
                    row.get::<Vec<u8>>(1)?,
                    row.get::<Vec<u8>>(2)?,
                    row.get::<i64>(3)?,
                );
                let key = |digest: Option<Vec<u8>>| LookupKey::try_from(digest?).ok();
                if let Some((address, account)) = key(address).zip(key(account)) {
                    let chance = Chance::from_trillionths(chance.unwrap_or_default());
                    all.push((address, account, chance));
                }
            }
            Ok(all)
        })
    })?;
    let mut together = Chance::NONE;
    let mut of: HashMap<LookupKey, Chance> = HashMap::new();
    for &(address, account, chance) in &rows {
        together = together.plus(chance);
        for key in [address, account] {
            let so_far = of.entry(key).or_insert(Chance::NONE);
            *so_far = so_far.plus(chance);
        }
    }
    let tries = WrittenTries {
        of: of.into_iter().collect(),
        together: (rows.len() as i64 <= MAX).then_some(together),
    };
    know_table(&tries, now);
    Ok(())
}
