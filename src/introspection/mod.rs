//! What another service (an Edge Function, a worker, a gateway) is told of a token that it was handed.
//!
//! The answer is for a service that looks at `active` and at nothing else, so whatever nobody but the gate could hold a
//! token to makes it inactive: addresses, since the service cannot say where the token came from, and limits, since it
//! would have to be counted. Nothing is kept from one call to the next.

use pgrx::prelude::*;
use supabase_pat_core::claims::{ClaimSettings, Credential, Identity, SessionClaim, TokenClaims};
use supabase_pat_core::introspection::{Active, Claims, INACTIVE, Kind, Wanted};
use supabase_pat_core::jwt::Unverified;
use supabase_pat_core::rate::Limits;
use supabase_pat_core::scope::Scopes;

use crate::gate::usage::{self, Bearer};
use crate::jwt;
use crate::pg::clock::Instant;
use crate::pg::column::TextCopy;
use crate::pg::error::{SqlResult, reported};
use crate::pg::json::JsonbText;
use crate::pg::{rights, settings};
use crate::request::liveness;
use crate::tokens::lookup::{self, Described};
use crate::users::role_of_user;
use crate::users::state::{UserState, state_of_user};

extension_sql_file!(
    "../../sql/introspection.sql",
    name = "introspection",
    requires = ["request", introspect_token]
);

#[pg_extern(schema = "public", stable, parallel_restricted, requires = ["schema"])]
fn introspect_token(
    token: Option<&str>,
    scope: default!(Option<&str>, "NULL"),
) -> SqlResult<JsonbText> {
    reported(|| {
        rights::require_trusted("introspect tokens")?;
        let found = token.and_then(|token| introspect(token, scope));
        Ok(JsonbText(found.unwrap_or_else(|| INACTIVE.to_owned())))
    })
}

/// The answer for a token that is good, and grants the scopes that are asked for. `None` for any other: the reason is
/// no business of whoever holds it.
fn introspect(token: &str, scope: Option<&str>) -> Option<String> {
    let wanted = scope.map(Wanted::parse).transpose().ok()?;
    let of_jwt = match Unverified::parse(token).is_ok() {
        true => jwt(token, wanted.as_ref()),
        false => None,
    };
    // An imported token may have any form, that of a JWT too.
    of_jwt.or_else(|| opaque(token, wanted.as_ref()))
}

fn opaque(token: &str, wanted: Option<&Wanted>) -> Option<String> {
    let found = lookup::described_by_text(token)?;
    let stored = found.token;
    let scopes = stored.scopes();
    let role = usable(&found, &scopes, wanted, None)?;
    // What the claims say that the gate gives a request with it.
    let issuer = settings::issuer();
    let mut active = Active::bare(Kind::Opaque);
    active.sub = Some(stored.user.to_string().into());
    active.username = text(found.user.email);
    active.role = Some(role.into());
    active.scope = scopes.to_claim().map(Into::into);
    active.exp = Some(stored.expires_at.unix_seconds());
    active.iat = Some(stored.created_at.unix_seconds());
    active.iss = Some(issuer.as_str().into());
    active.aud = Active::audience_of_tokens();
    active.jti = Some(stored.id.to_string().into());
    active.name = found.name.map(TextCopy::to_text);
    active.attributes = Active::attributes_of(stored.attributes_text());
    active.is_anonymous = found.user.is_anonymous;
    active.to_json().ok()
}

fn jwt(token: &str, wanted: Option<&Wanted>) -> Option<String> {
    let verified = jwt::valid_by_itself(token).ok()?;
    let claims = Claims::parse(verified.payload())?;
    let identity = Identity::from_settings(&ClaimSettings {
        claims: Some(verified.payload()),
        ..ClaimSettings::default()
    });
    let active = match &identity.credential {
        Credential::Malformed => return None,
        Credential::Token(token) => of_token(token, &claims, wanted)?,
        Credential::Login if claims.are_of_a_login(&settings::authenticated_role()) => {
            is_live_login(&identity).then_some(())?;
            Active::of_claims(Kind::Session, &claims)
        }
        Credential::Login => of_api_key(&claims, wanted)?,
    };
    active.to_json().ok()
}

fn of_token<'a>(
    token: &TokenClaims,
    claims: &'a Claims<'a>,
    wanted: Option<&Wanted>,
) -> Option<Active<'a>> {
    let found = lookup::described_by_id(token.id).filter(|found| found.token.user == token.user)?;
    let scopes = found.token.narrow(&token.scopes);
    let role = usable(&found, &scopes, wanted, claims.text("role").as_deref())?;
    let mut active = Active::of_claims(Kind::Jwt, claims);
    // One that has been rotated ends sooner than it says, and one that was exchanged sooner than its row.
    let end = found.token.expires_at.unix_seconds();
    active.username = text(found.user.email);
    active.role = Some(role.into());
    active.scope = scopes.to_claim().map(Into::into);
    active.exp = Some(active.exp.map_or(end, |exp| exp.min(end)));
    active.name = found.name.map(TextCopy::to_text);
    active.attributes = Active::attributes_of(found.token.attributes_text());
    active.is_anonymous = active.is_anonymous.or(found.user.is_anonymous);
    Some(active)
}

/// The role of a token that is good for another service, and grants what is wanted; its use is noted. `None` for any
/// other token.
fn usable(
    found: &Described,
    scopes: &Scopes,
    wanted: Option<&Wanted>,
    claimed_role: Option<&str>,
) -> Option<String> {
    let stored = &found.token;
    let is_granted = wanted.is_none_or(|wanted| wanted.are_granted_by(scopes));
    // An empty list would be an empty text, which a service could take for no list.
    let grants_nothing = matches!(scopes, Scopes::Only(list) if list.is_empty());
    if !stored.is_live(Instant::now()) || stored.is_limited() || !is_granted || grants_nothing {
        return None;
    }
    let role = match (settings::live_claims(), claimed_role) {
        // The gate refuses the token of a user whose role is not for tokens.
        (true, _) if found.user.has_unfit_role => return None,
        (true, _) => role_of_user(found.user.role.map(TextCopy::to_text).as_deref()).ok()?,
        (false, Some(role)) => role.to_owned(),
        (false, None) => settings::authenticated_role(),
    };
    // For whoever looks for tokens that nobody uses. Without a limit it is always admitted.
    let bearer = Bearer {
        token: stored.id,
        user: stored.user,
    };
    let _admitted = usage::admit(bearer, &Limits::NONE, None, |_| false);
    Some(role)
}

/// Whether the user of a login may log in, and its session, if it names one, has not ended.
fn is_live_login(identity: &Identity) -> bool {
    let Some(user) = identity.user else {
        return false;
    };
    match identity.session {
        SessionClaim::Id(session) => liveness::session_verdict(session, user).is_live,
        SessionClaim::None => matches!(state_of_user(user), Ok(UserState::Active)),
        SessionClaim::Malformed => false,
    }
}

/// Everybody has the key of the anonymous role: it grants no scope.
fn of_api_key<'a>(claims: &'a Claims<'a>, wanted: Option<&Wanted>) -> Option<Active<'a>> {
    let role = claims.text("role")?;
    let is_anon = role == settings::anon_role();
    if !is_anon && role != settings::service_role_name() || is_anon && wanted.is_some() {
        return None;
    }
    Some(Active::of_claims(Kind::ApiKey, claims))
}

fn text<'a>(text: Option<TextCopy>) -> Option<std::borrow::Cow<'a, str>> {
    let text = text.map(TextCopy::to_text);
    text.filter(|text| !text.is_empty()).map(Into::into)
}
