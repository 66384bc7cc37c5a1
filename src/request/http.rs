//! What the REST server tells of a request, and what it is told of the answer.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char};
use std::net::IpAddr;

use pgrx::{PgList, pg_sys};
use supabase_pat_core::error::Error;
use supabase_pat_core::forwarded::client_address;
use supabase_pat_core::json::Members;

use crate::pg::guc::{self, setting};
use crate::pg::settings;

/// What a request is, as far as the gate looks at it.
#[derive(Default)]
pub struct Request {
    pub method: String,
    /// Without the address of the REST server, percent-encoded.
    pub path: String,
    pub authorization: Option<String>,
    pub api_key: Option<String>,
    pub address: Option<IpAddr>,
    /// The schemas that it names, for reading and for writing.
    profiles: [Option<String>; 2],
}

impl Request {
    pub fn present() -> Self {
        let headers = Headers::present();
        Self {
            method: setting(c"request.method").unwrap_or_default(),
            path: setting(c"request.path").unwrap_or_default(),
            authorization: headers.text("authorization"),
            api_key: headers.text("x-api-key"),
            address: headers.address(),
            profiles: ["accept-profile", "content-profile"].map(|name| headers.text(name)),
        }
    }

    /// The schemas that it may be for, `None` for the default one.
    ///
    /// PostgREST goes by `Accept-Profile` for GET and HEAD and by `Content-Profile` for all else, other servers by
    /// whichever there is; and where a header stands twice, PostgREST goes by the first and shows the last. What these
    /// servers do tell is the search path, which they begin with the schema that they have chosen.
    pub fn schemas(&self) -> Vec<Option<String>> {
        if self.profiles.iter().all(Option::is_none) {
            return vec![None];
        }
        let [reading, writing] = &self.profiles;
        let of_method = match self.method.as_str() {
            "GET" | "HEAD" | "OPTIONS" => reading,
            _ => writing,
        };
        let chosen = schema_of_search_path();
        let mut names: Vec<&String> = self.profiles.iter().flatten().chain(&chosen).collect();
        names.sort_unstable();
        names.dedup();
        let default = settings::default_schema();
        let mut schemas: Vec<Option<String>> = names
            .into_iter()
            .map(|name| Some(name.clone()).filter(|name| *name != default))
            .collect();
        if of_method.is_none() && chosen.is_none() {
            schemas.push(None);
        }
        schemas.dedup();
        schemas
    }
}

/// The headers of a request. Where a name stands twice, the last one counts, as in jsonb.
struct Headers(Option<String>);

impl Headers {
    fn present() -> Self {
        Self(setting(c"request.headers"))
    }

    fn text(&self, name: &str) -> Option<String> {
        let headers = Members::parse_lenient(self.0.as_deref()?).ok()?;
        headers.text(name).ok().flatten().map(Cow::into_owned)
    }

    /// Where the request comes from, by its header `X-Forwarded-For`.
    fn address(&self) -> Option<IpAddr> {
        client_address(&self.text("x-forwarded-for")?, settings::trusted_proxies())
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
        let headers = Headers::present();
        let agent = headers.text("user-agent");
        Self {
            user_agent: agent.map(|text| text.chars().take(MAX_USER_AGENT).collect()),
            address: headers.address(),
        }
    }
}

/// Makes the REST server answer with a status although nothing is raised: an error would take back what
/// the refusal has to leave behind.
pub fn answer_with(status: &str) -> Result<(), Error> {
    // A setting of nobody's, which everybody may set for their transaction.
    guc::set(c"response.status", status)
}

/// The first schema of the search path, if it was set for this request or session.
fn schema_of_search_path() -> Option<String> {
    let record = guc::find_setting(c"search_path")?;
    // SAFETY: a record of Postgres's.
    if unsafe { (*record).source } < pg_sys::GucSource::PGC_S_SESSION {
        return None;
    }
    let path = CString::new(setting(c"search_path")?).ok()?;
    // SAFETY: SplitIdentifierString cuts a copy of the C string into names, and puts them into a list.
    let names: Vec<String> = unsafe {
        let mut names = std::ptr::null_mut();
        let copy = pg_sys::pstrdup(path.as_ptr());
        if !pg_sys::SplitIdentifierString(copy, b',' as c_char, &mut names) {
            return None;
        }
        PgList::<c_char>::from_pg(names)
            .iter_ptr()
            .map(|name| CStr::from_ptr(name).to_string_lossy().into_owned())
            .collect()
    };
    // These are where a function begins that has a search path of its own.
    let is_none = |name: &String| matches!(name.as_str(), "" | "$user" | "pg_catalog" | "pg_temp");
    names.into_iter().find(|name| !is_none(name))
}
