//! Personal access tokens: mint, rotate, revoke. What a policy asks about them is in [`crate::request::policy`].

mod attributes;
mod deletion;
mod edit;
mod exchange;
mod grant;
mod import;
pub mod lookup;
mod mint;
pub mod revocation;
pub mod store;

use pgrx::datum::{Interval, Uuid as PgUuid};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::attributes::Attributes;
use supabase_pat_core::error::Error;
use supabase_pat_core::rate::Which;
use supabase_pat_core::token;
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::composite::{self, Field};
use crate::pg::error::{SqlResult, reported};
use crate::pg::json::JsonbText;
use crate::pg::net::Networks;
use crate::pg::uuid::{pg_uuid, to_uuid};
use crate::pg::{random, rights, settings};
use crate::request::caller::{Caller, hold_token};
use mint::{Wanted, expiry, grace_end, requested_limit, requested_scopes};
use revocation::Others;
use store::{Details, Limits, Replacement};

extension_sql_file!(
    "../../sql/tokens.sql",
    name = "tokens",
    requires = [
        "request",
        attributes::define_key_attribute,
        attributes::drop_key_attribute,
        mint,
        edit::edit_pat,
        rotate_pat,
        revoke_pat,
        revoke_pat_and_its_own,
        revoke_all_pats,
        import::import_token,
        exchange::exchange_token
    ]
);

const MINT: &str = "mint tokens";
const ROTATE: &str = "rotate tokens";

// SQL names its arguments.
#[allow(clippy::too_many_arguments)]
#[pg_extern(schema = "public", name = "mint_pat", requires = ["schema"])]
fn mint(
    user_id: default!(Option<PgUuid>, "NULL"),
    name: default!(Option<&str>, "NULL"),
    expires_in: default!(Option<Interval>, "NULL"),
    scopes: default!(Option<Vec<Option<String>>>, "NULL"),
    kind: default!(Option<&str>, "'jwt'"),
    allowed_ips: default!(Option<Networks>, "NULL"),
    rate_limit: default!(Option<i32>, "NULL"),
    rate_window: default!(Option<Interval>, "'1 minute'"),
    attributes: default!(Option<JsonbText>, "NULL"),
    description: default!(Option<&str>, "NULL"),
    quota: default!(Option<i32>, "NULL"),
    quota_window: default!(Option<Interval>, "'1 day'"),
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "public.minted_pat"), ErrorReport> {
    reported(|| {
        let asked = Asked {
            user: user_id.map(to_uuid),
            name,
            expires_in,
            scopes: scopes.as_deref(),
            kind,
            allowed_ips,
            rate_limit,
            rate_window,
            attributes: attributes.as_ref().map(|JsonbText(text)| text.as_str()),
            description,
            quota,
            quota_window,
        };
        mint_as_asked(asked, call)
    })
}

// What `mint_pat` was in 0.1.0, for a database that has not been updated yet.
#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn mint_pat(
    user_id: Option<PgUuid>,
    name: Option<&str>,
    expires_in: Option<Interval>,
    scopes: Option<Vec<Option<String>>>,
    kind: Option<&str>,
    allowed_ips: Option<Networks>,
    rate_limit: Option<i32>,
    rate_window: Option<Interval>,
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "public.minted_pat"), ErrorReport> {
    reported(|| {
        let asked = Asked {
            user: user_id.map(to_uuid),
            name,
            expires_in,
            scopes: scopes.as_deref(),
            kind,
            allowed_ips,
            rate_limit,
            rate_window,
            attributes: None,
            description: None,
            quota: None,
            quota_window: None,
        };
        mint_as_asked(asked, call)
    })
}

/// The arguments of `mint_pat`.
struct Asked<'a> {
    user: Option<Uuid>,
    name: Option<&'a str>,
    expires_in: Option<Interval>,
    scopes: Option<&'a [Option<String>]>,
    kind: Option<&'a str>,
    allowed_ips: Option<Networks>,
    rate_limit: Option<i32>,
    rate_window: Option<Interval>,
    /// JSON.
    attributes: Option<&'a str>,
    description: Option<&'a str>,
    quota: Option<i32>,
    quota_window: Option<Interval>,
}

fn mint_as_asked(
    asked: Asked,
    call: pg_sys::FunctionCallInfo,
) -> Result<PgHeapTuple<'static, AllocatedByRust>, Error> {
    rights::require_writable("minting a token")?;
    let caller = Caller::now()?;
    let user = caller.owner_for("mint", asked.user)?;
    let scopes = requested_scopes(asked.scopes)?;
    let held = Attributes::parse(asked.attributes.unwrap_or("{}"));
    caller.check_may_grant(MINT, &scopes, &held)?;

    let name = asked.name.ok_or(Error::NullArgument("name"))?;
    token::check_name(name, settings::max_name_length())?;
    let details = Details {
        description: asked.description.filter(|text| !text.is_empty()),
        attributes: asked.attributes,
    };
    token::check_description(details.description.unwrap_or_default())?;
    let kind = asked.kind.ok_or(Error::NullArgument("kind"))?.parse()?;
    let limits = Limits::Of {
        allowed_ips: asked.allowed_ips.map(Networks::check).transpose()?,
        rate: requested_limit(Which::Rate, asked.rate_limit, asked.rate_window)?,
        quota: requested_limit(Which::Quota, asked.quota, asked.quota_window)?,
    };
    expiry(Instant::now(), asked.expires_in)?;
    attributes::declared().check(details.attributes)?;

    let to_grant = caller.judged_after(store::lock_to_grant(&caller, user))?;
    caller.check_may_grant(MINT, &scopes, &held)?;
    let restrictions = caller.restrictions(MINT, user, &scopes)?;
    let now = Instant::now();
    let expires_at = expiry(now, asked.expires_in)?;
    let id = token::new_id(now.unix_millis(), &random::bytes()?);
    let wanted = Wanted {
        id,
        name,
        kind,
        scopes: &scopes,
        restrictions: &restrictions,
        limits,
        details,
        created_at: now,
        expires_at,
    };
    let token = wanted.issue(&caller, &to_grant)?;
    minted(call, &wanted, &token)
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn rotate_pat(
    id: Option<PgUuid>,
    grace: default!(Option<Interval>, "'0'"),
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "public.minted_pat"), ErrorReport> {
    reported(|| {
        rights::require_writable("rotating a token")?;
        let caller = Caller::now()?;
        let old_id = to_uuid(id.ok_or(Error::NullArgument("id"))?);
        let owner = caller.owner_among("rotate", lookup::owner_of(old_id))?;
        caller.check_may_rotate(old_id)?;

        let grace = grace.ok_or(Error::NullArgument("grace"))?;
        grace_end(Instant::now(), grace)?;
        let user = owner.ok_or(Error::NoLiveToken(old_id))?;

        let to_grant = caller.judged_after(store::lock_to_grant(&caller, user))?;
        hold_token(old_id)?;
        let held = match lookup::by_id(old_id) {
            Some(old) if !old.is_disabled => old.attributes(),
            _ => return Err(Error::NoLiveToken(old_id)),
        };
        let now = Instant::now();
        let grace_ends = grace_end(now, grace)?;
        let new_id = token::new_id(now.unix_millis(), &random::bytes()?);
        let replacement = Replacement {
            id: old_id,
            successor: new_id,
        };
        let old = store::replace(&to_grant, replacement, now, grace_ends)?
            .ok_or(Error::NoLiveToken(old_id))?;
        caller.check_may_grant(ROTATE, &old.scopes, &held)?;
        let restrictions = caller.restrictions(ROTATE, user, &old.scopes)?;
        let restrictions = match &old.claims {
            Some(claims) => restrictions.with_those_of(claims)?,
            None => restrictions,
        };
        let lifetime = old.lifetime.clamp(1, settings::max_lifetime());
        let expires_at = now.floor_to_second().plus_seconds(lifetime);
        let wanted = Wanted {
            id: new_id,
            name: &old.name,
            kind: old.kind,
            scopes: &old.scopes,
            restrictions: &restrictions,
            limits: Limits::LikeThoseOf(old_id),
            details: Details::default(),
            created_at: now,
            expires_at,
        };
        let token = wanted.issue(&caller, &to_grant)?;
        minted(call, &wanted, &token)
    })
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn revoke_pat(id: default!(Option<PgUuid>, "NULL")) -> SqlResult<bool> {
    reported(|| revoke(id, Others::Stay))
}

// This is a function of its own, and not a default argument of the first one, which keeps the privileges that operators
// have given or taken.
#[pg_extern(schema = "public", name = "revoke_pat", requires = ["schema"])]
fn revoke_pat_and_its_own(id: Option<PgUuid>, cascade: Option<bool>) -> SqlResult<bool> {
    reported(|| match cascade.ok_or(Error::NullArgument("cascade"))? {
        true => revoke(id, Others::GoToo),
        false => revoke(id, Others::Stay),
    })
}

fn revoke(id: Option<PgUuid>, others: Others) -> Result<bool, Error> {
    rights::require_writable("revoking a token")?;
    let caller = Caller::now()?;
    // Without an id a token means itself.
    let id = id.map(to_uuid).or(caller.token_id());
    let id = id.ok_or(Error::NullArgument("id"))?;
    let owner = caller.owner_among("revoke", revocation::last_known_owner(id)?)?;
    caller.check_may_revoke(match others {
        Others::Stay => Some(id),
        Others::GoToo => None,
    })?;
    let Some(user) = owner else {
        return Ok(false);
    };
    let to_revoke = caller.judged_after(match others {
        Others::Stay => store::lock_to_revoke_by(&caller, user),
        Others::GoToo => store::lock_family(Some(&caller), user, id),
    })?;
    revocation::revoke(&to_revoke, id, others, Instant::now())
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn revoke_all_pats(user_id: default!(Option<PgUuid>, "NULL")) -> SqlResult<i32> {
    reported(|| {
        rights::require_writable("revoking tokens")?;
        let caller = Caller::now()?;
        let user = caller.owner_for("revoke", user_id.map(to_uuid))?;
        caller.check_may_revoke(None)?;
        let to_revoke = caller.judged_after(store::lock_to_revoke_by(&caller, user))?;
        Ok(revocation::revoke_all(&to_revoke, Instant::now())? as i32)
    })
}

/// The row of `public.minted_pat`.
fn minted(
    call: pg_sys::FunctionCallInfo,
    made: &Wanted,
    token: &str,
) -> Result<PgHeapTuple<'static, AllocatedByRust>, Error> {
    let fields = [
        Field::new(c"token", token),
        Field::new(c"id", pg_uuid(made.id)),
        Field::new(c"name", made.name),
        Field::new(c"expires_at", made.expires_at.to_timestamp()?),
    ];
    composite::result_row(call, fields)
}
