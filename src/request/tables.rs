//! The tables that say whether the identity of a request is still valid, the one of tokens and the one of sessions, and the
//! one that says which token has made which.

use pgrx::pg_sys;
use supabase_pat_core::rate::{self, Limit, Limits};

use crate::pg::column::{
    Bytes, Column, Duration, Found, Id, Integer, Json, NetworkList, Text, Texts, Timestamp,
};
use crate::pg::relations::{self, Rows, Table, layout};
use crate::pg::scan::Row;

/// `pat.api_keys`.
#[derive(Clone, Copy)]
pub struct Tokens {
    pub table: Table,
    /// The indexes on these columns. No object (`InvalidOid`) if there is none: then the whole table is scanned.
    pub by_id: pg_sys::Oid,
    pub by_user: pg_sys::Oid,
    /// A partial index: it has the opaque tokens only.
    pub by_digest: pg_sys::Oid,
    pub id: Column<Id>,
    pub user_id: Column<Id>,
    pub created_at: Column<Timestamp>,
    pub expires_at: Column<Timestamp>,
    pub revoked_at: Column<Timestamp>,
    pub rate_limit: Column<Integer>,
    pub rate_window: Column<Duration>,
    pub name: Column<Text>,
    pub scopes: Column<Texts>,
    pub allowed_ips: Column<NetworkList>,
    pub token_digest: Column<Bytes>,
    /// Version 0.1.0 has none of these.
    pub attributes: Found<Json>,
    pub disabled_at: Found<Timestamp>,
    pub quota: Found<Integer>,
    pub quota_window: Found<Duration>,
}

impl Tokens {
    /// What the token is limited to. A limit that cannot be read allows nothing.
    pub fn limits(&self, row: &Row) -> Limits {
        let of = |requests: Column<Integer>, window: Column<Duration>| {
            Some(Limit {
                window: row.get(window)?.clamp(1, rate::LONGEST_WINDOW),
                requests: row.get(requests)? as u32,
            })
        };
        let nothing = Limit {
            requests: 0,
            window: 1_000_000,
        };
        Limits {
            rate: of(self.rate_limit, self.rate_window),
            quota: match (self.quota, self.quota_window) {
                (Found::AsExpected(requests), Found::AsExpected(window)) => of(requests, window),
                _ => self.has_quota(row).then_some(nothing),
            },
            // They came together.
            have_leases: !matches!(self.quota, Found::Missing),
        }
    }

    /// Whether the token has a quota, of whatever type the column is.
    pub fn has_quota(&self, row: &Row) -> bool {
        match self.quota {
            Found::Missing => false,
            Found::AsExpected(column) => row.has(column),
            Found::OfAnotherType(column) => row.has(column),
        }
    }

    /// Whether somebody has disabled the token for a while. What cannot be read counts as it would if it were there.
    pub fn is_disabled(&self, row: &Row) -> bool {
        match self.disabled_at {
            Found::Missing => false,
            Found::AsExpected(column) => row.has(column),
            Found::OfAnotherType(column) => row.has(column),
        }
    }
}

layout!(Tokens, TOKENS, c"pat".c"api_keys", |open| {
    let (id, user_id) = (open.column(c"id")?, open.column(c"user_id")?);
    let token_digest = open.column(c"token_digest")?;
    Some(Tokens {
        table: open.table,
        by_id: open.index(id, Rows::All),
        by_user: open.index(user_id, Rows::All),
        by_digest: open.index(token_digest, Rows::AllOrSome),
        id,
        user_id,
        created_at: open.column(c"created_at")?,
        expires_at: open.column(c"expires_at")?,
        revoked_at: open.column(c"revoked_at")?,
        rate_limit: open.column(c"rate_limit")?,
        rate_window: open.column(c"rate_window")?,
        name: open.column(c"name")?,
        scopes: open.column(c"scopes")?,
        allowed_ips: open.column(c"allowed_ips")?,
        token_digest,
        attributes: open.find(c"attributes"),
        disabled_at: open.find(c"disabled_at"),
        quota: open.find(c"quota"),
        quota_window: open.find(c"quota_window"),
    })
});

/// `pat.api_key_origins`. Version 0.1.0 does not have it.
#[derive(Clone, Copy)]
pub struct Origins {
    pub table: Table,
    pub by_id: pg_sys::Oid,
    /// A partial index: it has the tokens only that another one has made.
    pub by_maker: pg_sys::Oid,
    pub key_id: Column<Id>,
    pub user_id: Column<Id>,
    pub made_by: Column<Id>,
}

layout!(Origins, ORIGINS, c"pat".c"api_key_origins", |open| {
    let (key_id, made_by) = (open.column(c"key_id")?, open.column(c"made_by")?);
    Some(Origins {
        table: open.table,
        by_id: open.index(key_id, Rows::All),
        by_maker: open.index(made_by, Rows::AllOrSome),
        key_id,
        user_id: open.column(c"user_id")?,
        made_by,
    })
});

/// `auth.sessions`, which is Supabase's table.
#[derive(Clone, Copy)]
pub struct Sessions {
    pub table: Table,
    pub by_id: pg_sys::Oid,
    pub id: Column<Id>,
    pub user_id: Column<Id>,
    pub not_after: Found<Timestamp>,
}

layout!(Sessions, SESSIONS, c"auth".c"sessions", |open| {
    let id = open.column(c"id")?;
    Some(Sessions {
        table: open.table,
        by_id: open.index(id, Rows::All),
        id,
        user_id: open.column(c"user_id")?,
        not_after: open.find(c"not_after"),
    })
});

/// The table of tokens. `None` while the extension is being installed or dropped, or if the table has been changed.
pub fn tokens() -> Option<Tokens> {
    relations::current()
}

/// The table of sessions. `None` if there is no table `auth.sessions` with columns `id` and `user_id` of type uuid.
pub fn sessions() -> Option<Sessions> {
    relations::current()
}
