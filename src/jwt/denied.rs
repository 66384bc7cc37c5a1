//! The table `pat.denied_tokens`: JWTs that are refused although they are valid by themselves.
//!
//! Each backend keeps their digests in memory, as [`crate::pg::kept`] says. As a rule there are none, and then a
//! request costs a comparison of two numbers.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::rc::Rc;

use pgrx::datum::{TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::pg_sys::BuiltinOid::{BYTEAOID, TEXTOID, TIMESTAMPTZOID, UUIDOID};
use supabase_pat_core::denied::Digest;
use supabase_pat_core::error::Error;

use crate::pg::clock::Instant;
use crate::pg::column::{Bytes, BytesCopy, Column};
use crate::pg::durability;
use crate::pg::kept::{Kept, change_trigger};
use crate::pg::relations::{self, Table, layout};
use crate::pg::scan::{expect, look};
use crate::pg::statement::Statement;

thread_local! {
    static ADD: Statement = const { Statement::new(
        "insert into pat.denied_tokens \
             (message_digest, claims_digest, role, user_id, reason, expires_at, other_claims_digests) \
         values ($1, $2, $3, $4, $5, $6, $7) \
         on conflict (message_digest) do update set reason = excluded.reason, \
             claims_digest = excluded.claims_digest, other_claims_digests = excluded.other_claims_digests",
        &[BYTEAOID, BYTEAOID, TEXTOID, UUIDOID, TEXTOID, TIMESTAMPTZOID, BYTEAOID],
    ) };

    // For the table as it was in 0.1.0, where the extension has not been updated yet.
    static ADD_WITHOUT_OTHERS: Statement = const { Statement::new(
        "insert into pat.denied_tokens (message_digest, claims_digest, role, user_id, reason, expires_at) \
         values ($1, $2, $3, $4, $5, $6) \
         on conflict (message_digest) do update set reason = excluded.reason",
        &[BYTEAOID, BYTEAOID, TEXTOID, UUIDOID, TEXTOID, TIMESTAMPTZOID],
    ) };

    // A DELETE makes every backend read the table again, also if it deletes nothing.
    static HAS_EXPIRED: Statement = const { Statement::new(
        "select from pat.denied_tokens where expires_at operator(pg_catalog.<) $1 limit 1",
        &[TIMESTAMPTZOID],
    ) };

    static SWEEP: Statement = const { Statement::new(
        "delete from pat.denied_tokens where message_digest operator(pg_catalog.=) any (array(\
             select message_digest from pat.denied_tokens \
             where expires_at operator(pg_catalog.<) $1 limit 100 for update skip locked))",
        &[TIMESTAMPTZOID],
    ) };
}

/// A row to be added: the digests, and what an operator who looks at the table needs to know of the token.
pub struct DeniedToken<'a> {
    pub message: Digest,
    /// The claims as they stand, then as servers may change them. Empty if they do not identify the token.
    pub claims: &'a [Digest],
    pub role: Option<&'a str>,
    pub user: Option<PgUuid>,
    pub reason: Option<&'a str>,
    pub expires_at: Option<TimestampWithTimeZone>,
}

/// Adds a token to the table, or gives it another reason if it is there.
pub fn add(token: &DeniedToken, now: Instant) -> Result<(), Error> {
    durability::of_revocation()?;
    let (first, others) = match token.claims {
        [] => (&token.message, [].as_slice()),
        [first, others @ ..] => (first, others),
    };
    let mut arguments = vec![
        token.message.to_vec().into(),
        first.to_vec().into(),
        token.role.into(),
        token.user.into(),
        token.reason.into(),
        token.expires_at.into(),
    ];
    // The column came with 0.2.0.
    let others_column =
        table().and_then(|table| relations::find_column(table.oid, c"other_claims_digests", None));
    match others_column {
        Some(_) => {
            let others = (!others.is_empty()).then(|| others.concat());
            arguments.push(others.into());
            ADD.with(|statement| statement.run(&arguments, |_| Ok(())))?;
        }
        None => ADD_WITHOUT_OTHERS.with(|statement| statement.run(&arguments, |_| Ok(())))?,
    }
    sweep(now)
}

/// Removes rows of tokens that expired a day ago or earlier, since a server's clock may be behind by less than that.
pub fn sweep(now: Instant) -> Result<(), Error> {
    const DAY: i64 = 86_400;
    let end = [now.plus_seconds(-DAY).to_timestamp()?.into()];
    match HAS_EXPIRED.with(|statement| statement.run(&end, |rows| Ok(!rows.is_empty())))? {
        true => SWEEP.with(|statement| statement.sweep(&end)),
        false => Ok(()),
    }
}

/// The columns of `pat.denied_tokens`.
#[derive(Clone, Copy)]
pub struct DeniedRows {
    table: Table,
    pub message_digest: Column<Bytes>,
    pub claims_digest: Column<Bytes>,
    /// `None` in 0.1.0.
    pub other_claims_digests: Option<Column<Bytes>>,
}

layout!(DeniedRows, DENIED_ROWS, c"pat".c"denied_tokens", |open| {
    Some(DeniedRows {
        table: open.table,
        message_digest: open.column(c"message_digest")?,
        claims_digest: open.column(c"claims_digest")?,
        other_claims_digests: open.column(c"other_claims_digests"),
    })
});

/// `None` while the extension is being installed or dropped.
fn table() -> Option<Table> {
    relations::find_table(c"pat", c"denied_tokens")
}

/// The digests of all rows. Two columns hold one digest each, and a third one, which 0.1.0 did not have, any number.
fn digests() -> Vec<[u8; 32]> {
    let mut digests: Vec<BytesCopy> = Vec::new();
    let read = look::<DeniedRows, _>(|denied| {
        let layout = &denied.layout;
        denied.rows(|row| {
            digests.extend(row.get(layout.message_digest));
            digests.extend(row.get(layout.claims_digest));
            digests.extend(
                layout
                    .other_claims_digests
                    .and_then(|column| row.get(column)),
            );
            ControlFlow::Continue(())
        });
    });
    expect::<DeniedRows, _>(read);
    let all: Vec<Vec<u8>> = digests
        .into_iter()
        .map(|digests| digests.to_bytes())
        .collect();
    all.iter()
        .flat_map(|bytes| bytes.as_chunks().0.iter().copied())
        .collect()
}

/// The digests of the denied tokens.
#[derive(Default)]
pub struct DeniedTokens(HashSet<Digest>);

impl DeniedTokens {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a digest is that of a denied token. False for `None`.
    pub fn has(&self, digest: Option<Digest>) -> bool {
        digest.is_some_and(|digest| self.0.contains(&digest))
    }
}

static KEPT: Kept<DeniedTokens> = Kept::new(table, relations::changes_of::<DeniedRows>);

/// The tokens that are denied now, whatever the snapshot of the transaction shows.
pub fn tokens() -> Rc<DeniedTokens> {
    let read = |_| DeniedTokens(digests().into_iter().collect());
    KEPT.now(read).unwrap_or_default()
}

change_trigger!(
    pg_finfo_supabase_pat_denied_tokens_changed,
    supabase_pat_denied_tokens_changed,
    table
);
