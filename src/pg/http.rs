//! What the REST server tells of a request, and what it is told of the answer.

use std::borrow::Cow;
use std::net::IpAddr;

use supabase_pat_core::error::Error;
use supabase_pat_core::forwarded::client_address;
use supabase_pat_core::json::Members;

use super::identity::{self, setting};
use super::settings;

/// What a request is, as far as the gate looks at it.
#[derive(Default)]
pub struct Request {
    pub method: String,
    /// Without the address of the REST server, percent-encoded.
    pub path: String,
    pub authorization: Option<String>,
    pub api_key: Option<String>,
    pub address: Option<IpAddr>,
}

impl Request {
    pub fn present() -> Self {
        let headers = setting(c"request.headers").unwrap_or_default();
        let headers = Members::parse_lenient(&headers).ok();
        let text = |name| headers.as_ref()?.text(name).ok().flatten();
        Self {
            method: setting(c"request.method").unwrap_or_default(),
            path: setting(c"request.path").unwrap_or_default(),
            authorization: text("authorization").map(|text| text.into_owned()),
            api_key: text("x-api-key").map(|text| text.into_owned()),
            address: address(text("x-forwarded-for")),
        }
    }
}

/// Who asks, as the request's headers say. The user agent can be anything; the address is what trusted
/// proxies say.
#[derive(Default)]
pub struct Origin {
    pub user_agent: Option<String>,
    pub address: Option<IpAddr>,
}

impl Origin {
    pub fn of_request() -> Self {
        const MAX_USER_AGENT: usize = 500;
        let Some(headers) = setting(c"request.headers") else {
            return Self::default();
        };
        let Some(headers) = Members::parse(&headers) else {
            return Self::default();
        };
        let text = |name| headers.text(name).ok().flatten();
        Self {
            user_agent: text("user-agent").map(|text| text.chars().take(MAX_USER_AGENT).collect()),
            address: address(text("x-forwarded-for")),
        }
    }
}

/// Makes the REST server answer with a status although nothing is raised: an error would take back what
/// the refusal has to leave behind.
pub fn answer_with(status: &str) -> Result<(), Error> {
    // A setting of nobody's, which everybody may set for their transaction.
    identity::set(c"response.status", status)
}

/// Where a request comes from, by its header `X-Forwarded-For`.
fn address(forwarded_for: Option<Cow<str>>) -> Option<IpAddr> {
    client_address(&forwarded_for?, settings::trusted_proxies())
}
