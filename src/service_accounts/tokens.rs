//! The tokens of a service account, as its managers see them.

use pgrx::datum::{TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::BuiltinOid::UUIDOID;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::error::Error;
use supabase_pat_core::scope::SERVICE_ACCOUNTS_READ;

use crate::pg::error::reported;
use crate::pg::json::JsonbText;
use crate::pg::statement::Statement;
use crate::pg::uuid::{pg_uuid, to_uuid};
use crate::request::caller::Caller;

thread_local! {
    static LIST: Statement = const { Statement::new(
        "select token.id, token.name, token.kind, token.scopes, token.allowed_ips::pg_catalog._text, \
             token.rate_limit, token.rate_window, token.hint, token.created_at, token.expires_at, \
             usage.last_used_at, pg_catalog.host(usage.last_used_ip), token.revoked_at, \
             token.revoked_at is null and token.disabled_at is null \
                 and token.expires_at operator(pg_catalog.>) pg_catalog.statement_timestamp(), \
             token.description, token.attributes, token.disabled_at, token.quota, token.quota_window \
         from pat.api_keys as token left join pat.api_key_usage as usage on usage.key_id operator(pg_catalog.=) token.id \
         where token.user_id operator(pg_catalog.=) $1 order by token.created_at, token.id",
        &[UUIDOID],
    ) };
}

#[pg_extern(schema = "public", stable, requires = ["schema"])]
#[allow(clippy::type_complexity)]
fn service_account_tokens(
    account: Option<PgUuid>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(id, PgUuid),
            name!(name, String),
            name!(kind, String),
            name!(scopes, Option<Vec<Option<String>>>),
            name!(allowed_ips, Option<Vec<Option<String>>>),
            name!(rate_limit, Option<i32>),
            name!(rate_window, Option<Interval>),
            name!(hint, Option<String>),
            name!(created_at, TimestampWithTimeZone),
            name!(expires_at, TimestampWithTimeZone),
            name!(last_used_at, Option<TimestampWithTimeZone>),
            name!(last_used_ip, Option<String>),
            name!(revoked_at, Option<TimestampWithTimeZone>),
            name!(is_active, bool),
            name!(description, Option<String>),
            name!(attributes, Option<JsonbText>),
            name!(disabled_at, Option<TimestampWithTimeZone>),
            name!(quota, Option<i32>),
            name!(quota_window, Option<Interval>),
        ),
    >,
    ErrorReport,
> {
    reported(|| {
        let caller = Caller::now()?;
        let account = to_uuid(account.ok_or(Error::NullArgument("account"))?);
        let sees = "see the tokens of service accounts";
        if !caller.manages_account(sees, account, SERVICE_ACCOUNTS_READ)? {
            return Err(Error::UnknownServiceAccount(account));
        }
        let rows = LIST.with(|statement| {
            statement.read(&[pg_uuid(account).into()], |rows| {
                let mut read = Vec::new();
                for row in rows {
                    read.push((
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        row.get(5)?,
                        row.get(6)?,
                        row.get(7)?,
                        row.get(8)?,
                        row.get(9)?,
                        row.get(10)?,
                        row.get(11)?,
                        row.get(12)?,
                        row.get(13)?,
                        row.get(14)?,
                        row.get(15)?,
                        row.get(16)?,
                        row.get(17)?,
                        row.get(18)?,
                        row.get(19)?,
                    ));
                }
                Ok(read)
            })
        })?;
        let present = |(
            id,
            name,
            kind,
            scopes,
            ips,
            limit,
            window,
            hint,
            created,
            expires,
            used,
            ip,
            revoked,
            active,
            about,
            attributes,
            disabled,
            quota,
            quota_window,
        )| {
            Some((
                id?,
                name?,
                kind?,
                scopes,
                ips,
                limit,
                window,
                hint,
                created?,
                expires?,
                used,
                ip,
                revoked,
                active?,
                about,
                attributes,
                disabled,
                quota,
                quota_window,
            ))
        };
        Ok(TableIterator::new(
            rows.into_iter().filter_map(present).collect::<Vec<_>>(),
        ))
    })
}
