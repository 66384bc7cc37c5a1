//! How a token is edited: it may be renamed, narrowed, disabled and enabled again, and never loosened.

use pgrx::datum::{DatumWithOid, Interval, Uuid as PgUuid};
use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid::{
    BOOLOID, CIDRARRAYOID, INT4OID, INTERVALOID, JSONBOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID,
    UUIDOID,
};
use pgrx::prelude::*;
use supabase_pat_core::attributes::Attributes;
use supabase_pat_core::error::Error;
use supabase_pat_core::merge_patch;
use supabase_pat_core::rate::{Limit, Which};
use supabase_pat_core::token;

use super::lookup::{self, StoredToken};
use super::mint::{expiry, requested_limit, requested_scopes};
use super::{attributes, store};
use crate::events::{self, About, Actor};
use crate::pg::clock::{self, Instant};
use crate::pg::durability;
use crate::pg::error::{SqlResult, reported};
use crate::pg::json::JsonbText;
use crate::pg::net::Networks;
use crate::pg::statement::Statement;
use crate::pg::uuid::{pg_uuid, to_uuid};
use crate::pg::{rights, settings};
use crate::request::caller::{Caller, hold_token};

thread_local! {
    // What is null stays as it is. An empty description is none.
    static EDIT: Statement = const { Statement::new(
        "update pat.api_keys set \
             name = coalesce($4, name), \
             description = case when $5 is null then description else nullif($5, '') end, \
             scopes = coalesce($6, scopes), \
             attributes = coalesce($7, attributes), \
             expires_at = least($8, expires_at), \
             allowed_ips = coalesce($9, allowed_ips), \
             rate_limit = coalesce($10, rate_limit), \
             rate_window = coalesce($11, rate_window), \
             quota = coalesce($13, quota), \
             quota_window = coalesce($14, quota_window), \
             disabled_at = case when $12 is null then disabled_at when $12 then coalesce(disabled_at, $3) end \
         where id operator(pg_catalog.=) $1 and user_id operator(pg_catalog.=) $2 \
             and revoked_at is null and expires_at operator(pg_catalog.>) $3",
        &[
            UUIDOID, UUIDOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTARRAYOID, JSONBOID, TIMESTAMPTZOID,
            CIDRARRAYOID, INT4OID, INTERVALOID, BOOLOID, INT4OID, INTERVALOID,
        ],
    ) };
}

// SQL names its arguments.
#[allow(clippy::too_many_arguments)]
#[pg_extern(schema = "public", requires = ["schema"])]
fn edit_pat(
    id: Option<PgUuid>,
    name: default!(Option<&str>, "NULL"),
    description: default!(Option<&str>, "NULL"),
    scopes: default!(Option<Vec<Option<String>>>, "NULL"),
    attributes: default!(Option<JsonbText>, "NULL"),
    expires_in: default!(Option<Interval>, "NULL"),
    allowed_ips: default!(Option<Networks>, "NULL"),
    rate_limit: default!(Option<i32>, "NULL"),
    rate_window: default!(Option<Interval>, "NULL"),
    disabled: default!(Option<bool>, "NULL"),
    quota: default!(Option<i32>, "NULL"),
    quota_window: default!(Option<Interval>, "NULL"),
) -> SqlResult<()> {
    reported(|| {
        rights::require_writable("editing a token")?;
        let caller = Caller::now()?;
        let id = to_uuid(id.ok_or(Error::NullArgument("id"))?);
        let owner = caller.owner_among("edit", lookup::owner_of(id))?;
        let loosens = name.is_some() || description.is_some() || disabled == Some(false);
        caller.check_may_edit(id, loosens)?;
        if let Some(name) = name {
            token::check_name(name, settings::max_name_length())?;
        }
        token::check_description(description.unwrap_or_default())?;
        store::require_details()?;

        let user = owner.ok_or(Error::NoLiveToken(id))?;
        let to_edit = caller.judged_after(store::lock_to_revoke_by(&caller, user))?;
        hold_token(id)?;
        caller.check_may_edit(id, loosens)?;
        let now = Instant::now();
        let is_live = |old: &StoredToken| !old.is_revoked && old.expires_at > now;
        let old = lookup::by_id(id).filter(is_live);
        let old = old.ok_or(Error::NoLiveToken(id))?;
        if disabled == Some(false) {
            caller.check_may_enable(&old)?;
        }

        let scopes = match scopes {
            Some(scopes) => {
                let scopes = requested_scopes(Some(&scopes))?;
                tightens(old.scopes().include(&scopes), "scopes")?;
                scopes.to_texts()
            }
            None => None,
        };
        let attributes = attributes
            .map(|JsonbText(patch)| narrowed_attributes(&old, &patch))
            .transpose()?;
        let expires_at = match expires_in {
            Some(expires_in) => {
                let expires_at = expiry(now, Some(expires_in))?;
                tightens(expires_at <= old.expires_at, "how long a token lives")?;
                Some(expires_at.to_timestamp()?)
            }
            None => None,
        };
        let allowed_ips = allowed_ips.map(Networks::check).transpose()?;
        if let Some(new) = allowed_ips {
            let old = old.allowed_networks();
            tightens(old.is_none_or(|old| old.include(new)), "allowed_ips")?;
        }
        let rate = tightened_limit(Which::Rate, &old, rate_limit, rate_window)?;
        let quota = tightened_limit(Which::Quota, &old, quota, quota_window)?;

        let changed = [
            (name.is_some(), "name"),
            (description.is_some(), "description"),
            (scopes.is_some(), "scopes"),
            (attributes.is_some(), "attributes"),
            (expires_at.is_some(), "expires_at"),
            (allowed_ips.is_some(), "allowed_ips"),
            (rate.is_some(), "rate_limit"),
            (quota.is_some(), "quota"),
        ];
        let changed: Vec<&str> = changed
            .into_iter()
            .filter_map(|(is_changed, what)| is_changed.then_some(what))
            .collect();
        let arguments = [
            pg_uuid(id).into(),
            pg_uuid(to_edit.user()).into(),
            now.to_timestamp()?.into(),
            name.into(),
            description.into(),
            scopes.into(),
            attributes.into(),
            expires_at.into(),
            match allowed_ips {
                Some(networks) => networks.as_argument(),
                None => DatumWithOid::null_oid(pg_sys::CIDRARRAYOID),
            },
            rate.map(|rate| rate.requests as i32).into(),
            rate.and_then(|rate| clock::interval(rate.seconds())).into(),
            disabled.into(),
            quota.map(|quota| quota.requests as i32).into(),
            quota
                .and_then(|quota| clock::interval(quota.seconds()))
                .into(),
        ];
        durability::of_revocation()?;
        if EDIT.with(|statement| statement.run_on_latest(&arguments))? == 0 {
            return Err(Error::NoLiveToken(id));
        }
        let about = About {
            user: Some(user),
            token: Some(id),
        };
        let other = Actor::now().other_than(user);
        let other = other.as_deref();
        if !changed.is_empty() {
            let changed = changed.into_iter().chain(other).collect::<Vec<_>>();
            events::record("token_edited", about, Some(&changed.join(", ")))?;
        }
        match disabled {
            Some(true) if !old.is_disabled => events::record("token_disabled", about, other),
            Some(false) if old.is_disabled => events::record("token_enabled", about, other),
            _ => Ok(()),
        }
    })
}

fn tightens(is_so: bool, what: &'static str) -> Result<(), Error> {
    match is_so {
        true => Ok(()),
        false => Err(Error::NotTighter(what)),
    }
}

/// The attributes that a token has once a patch has been laid over them (RFC 7396).
fn narrowed_attributes(old: &StoredToken, patch: &str) -> Result<JsonbText, Error> {
    let present = old.attributes_text();
    let text = merge_patch::apply(Some(present.as_deref().unwrap_or("{}")), patch);
    attributes::declared().check(Some(&text))?;
    let is_narrower = old.attributes().include(&Attributes::parse(&text));
    tightens(is_narrower, "attributes")?;
    Ok(JsonbText(text))
}

/// A limit of a token, if another one is asked for.
fn tightened_limit(
    which: Which,
    old: &StoredToken,
    requests: Option<i32>,
    window: Option<Interval>,
) -> Result<Option<Limit>, Error> {
    if requests.is_none() && window.is_none() {
        return Ok(None);
    }
    let (usual, what) = match which {
        Which::Rate => (60, "the rate limit"),
        Which::Quota => (86_400, "the quota"),
    };
    let old = old.limits.of(which);
    let requests = requests.or(old.map(|limit| limit.requests as i32));
    let present = old.and_then(|limit| clock::interval(limit.seconds()));
    let window = window.or(present).or_else(|| clock::interval(usual));
    let new = requested_limit(which, requests, window)?;
    let new = new.ok_or(Error::NullArgument(which.argument()))?;
    tightens(old.is_none_or(|old| old.includes(new)), what)?;
    Ok(Some(new))
}
