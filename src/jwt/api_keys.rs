//! Supabase's API keys: mint one, and find out what is wrong with one.

use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::api_key::{self, Checked, Installation, Roles};
use supabase_pat_core::error::Error;
use supabase_pat_core::jwt::{self, Unverified};
use supabase_pat_core::opaque_token::Prefix;
use supabase_pat_core::payload::{ApiKeyPayload, Lifetime};
use supabase_pat_core::rejection::Rejection;

use crate::events;
use crate::pg::clock::{self, Instant};
use crate::pg::composite::{self, Field};
use crate::pg::error::{SqlResult, reported};
use crate::pg::rights;
use crate::pg::settings;
use crate::signing_keys::ring::{self, KeysInUse};
use crate::tokens::lookup;

// pgrx would call the second argument `r#ref`.
#[pg_extern(
    requires = ["schema"],
    sql = r#"
create function pat.mint_api_key(role text, ref text default null, expires_in interval default '10 years') returns text
    language c as 'MODULE_PATHNAME', 'mint_api_key_wrapper';
"#
)]
fn mint_api_key(
    role: Option<&str>,
    project: default!(Option<&str>, "NULL"),
    expires_in: default!(Option<Interval>, "'10 years'"),
) -> SqlResult<String> {
    reported(|| {
        rights::require_trusted("mint API keys")?;
        let role = role.ok_or(Error::NullArgument("role"))?;
        let (anon, service) = (settings::anon_role(), settings::service_role_name());
        if role != anon && role != service {
            return Err(Error::NoApiKeyRole { anon, service });
        }
        let expires_in = expires_in.ok_or(Error::NullArgument("expires_in"))?;
        if clock::is_infinite(&expires_in) {
            return Err(Error::LifetimeInfinite);
        }
        let now = Instant::now();
        let expires_at = now.plus(expires_in);
        if expires_at.floor_to_second() <= now {
            return Err(Error::LifetimeTooShort);
        }
        let lifetime = Lifetime {
            issued_at: now.unix_seconds(),
            expires_at: expires_at.unix_seconds(),
        };
        let payload = ApiKeyPayload::new(role, project, lifetime)?;
        let key = ring::signing_key()?;
        let api_key = jwt::sign(&payload, &key)?;
        events::record_signing("api_key_minted", &payload.to_json()?)?;
        Ok(api_key)
    })
}

#[pg_extern(stable, parallel_restricted, requires = ["schema"])]
fn inspect_api_key(
    key: Option<&str>,
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "pat.api_key_report"), ErrorReport> {
    reported(|| {
        let (anon, authenticated, service) = (
            settings::anon_role(),
            settings::authenticated_role(),
            settings::service_role_name(),
        );
        let roles = Roles {
            anon: &anon,
            authenticated: &authenticated,
            service: &service,
        };
        // A secret that cannot be used is taken for none.
        let here = ThisInstallation {
            keys: KeysInUse::to_inspect().ok(),
            token_prefix: settings::token_prefix(),
        };
        let now = Instant::now().unix_seconds();
        let report = api_key::inspect(key.unwrap_or_default(), now, &roles, &here);
        let time = |seconds: Option<i64>| match seconds {
            Some(seconds) => Instant::from_unix_seconds(seconds).to_timestamp().map(Some),
            None => Ok(None),
        };
        let fields = [
            Field::new(c"format", report.format.as_str()),
            Field::new(c"role", report.role),
            Field::new(c"ref", report.r#ref),
            Field::new(c"iss", report.iss),
            Field::new(c"issued_at", time(report.issued_at)?),
            Field::new(c"expires_at", time(report.expires_at)?),
            Field::new(c"length", i32::try_from(report.length).ok()),
            Field::new(c"signature", report.signature.as_str()),
            Field::new(c"problems", report.problems),
        ];
        composite::result_row(call, fields)
    })
}

struct ThisInstallation {
    /// The signing keys, if they can be read.
    keys: Option<KeysInUse>,
    token_prefix: String,
}

impl Installation for ThisInstallation {
    fn check(&self, token: &str) -> Checked {
        let Some(keys) = &self.keys else {
            return Checked::NoKey;
        };
        let found = Unverified::parse(token).and_then(|token| {
            keys.borrow().verify(&token)?;
            token.claims()
        });
        match found {
            Ok(claims) if super::is_live(&claims) => Checked::Matches,
            Ok(_) => Checked::NotLive,
            Err(Rejection::RevokedKey) => Checked::Revoked,
            Err(Rejection::UnknownKey) if keys.configured().is_none() => Checked::NoKey,
            Err(_) => Checked::DoesNotMatch,
        }
    }

    fn token_prefix(&self) -> Prefix<'_> {
        Prefix::of_setting(&self.token_prefix)
    }

    fn knows_token(&self, text: &str) -> bool {
        lookup::by_text(text).is_some()
    }

    fn shared_secret(&self) -> Option<&[u8]> {
        let configured = self.keys.as_ref()?.configured()?;
        Some(configured.secret()?.expose())
    }
}
