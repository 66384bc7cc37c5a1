//! What the REST server says of an HTTP request, and what it is told about the answer.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char};
use std::net::IpAddr;

use pgrx::{PgList, pg_sys};
use supabase_pat_core::error::Error;
use supabase_pat_core::forwarded::client_address;
use supabase_pat_core::headers::Headers;
use supabase_pat_core::presented::TokenHeader;

use crate::pg::guc::{self, setting};
use crate::pg::settings;

/// An HTTP request, as far as the gate looks at it: most requests have few of these headers.
pub struct HttpRequest<'a> {
    headers: Headers<'a>,
}

/// The headers of the present request, as the REST server has set them.
pub fn headers() -> Option<String> {
    setting(HEADERS)
}

/// Whether the server has told of a method.
pub fn has_method() -> bool {
    guc::is_set(METHOD)
}

impl<'a> HttpRequest<'a> {
    /// The request of the present transaction, with what [`headers`] has given.
    pub fn present(headers: Option<&'a str>) -> Self {
        Self {
            headers: headers.map_or(Headers::default(), Headers::parse),
        }
    }

    /// Empty if the server has set nothing, as the path is.
    pub fn method(&self) -> String {
        setting(METHOD).unwrap_or_default()
    }

    /// The path below the address of the REST server, percent-encoded.
    pub fn path(&self) -> String {
        setting(c"request.path").unwrap_or_default()
    }

    pub fn authorization(&self) -> Option<Cow<'a, str>> {
        self.headers.text("authorization")
    }

    /// What stands in a header for tokens, as [`Headers::whatever`] has it.
    pub fn token_header(&self, header: &TokenHeader) -> Option<Cow<'a, str>> {
        self.headers.whatever(header.name())
    }

    pub fn address(&self) -> Option<IpAddr> {
        address(&self.headers)
    }

    /// The schemas that the request may be for; `None` in the list is the default schema.
    ///
    /// PostgREST chooses by `Accept-Profile` for GET and HEAD and by `Content-Profile` for all else; other servers use
    /// whichever of the two is there. If a client sends one header twice, PostgREST goes by the first, and only the last
    /// is in `request.headers`. So the headers alone do not tell the schema. But these servers put the schema that they
    /// have chosen first into the search path. The list has the schemas of both headers and this one.
    pub fn schemas(&self, method: &str) -> Vec<Option<String>> {
        let profiles = ["accept-profile", "content-profile"].map(|name| self.headers.text(name));
        if profiles.iter().all(Option::is_none) {
            return vec![None];
        }
        let [reading, writing] = &profiles;
        let of_method = match method {
            "GET" | "HEAD" | "OPTIONS" => reading,
            _ => writing,
        };
        let chosen = schema_of_search_path();
        let profiles = profiles.iter().flatten().map(|name| &**name);
        let mut names: Vec<&str> = profiles.chain(chosen.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        let default = settings::default_schema();
        let mut schemas: Vec<Option<String>> = names
            .into_iter()
            .map(|name| (name != default).then(|| name.to_owned()))
            .collect();
        if of_method.is_none() && chosen.is_none() {
            schemas.push(None);
        }
        schemas.dedup();
        schemas
    }
}

const HEADERS: &CStr = c"request.headers";

const METHOD: &CStr = c"request.method";

/// The address that a request comes from, by the header `X-Forwarded-For`.
fn address(headers: &Headers) -> Option<IpAddr> {
    let proxies = settings::trusted_proxies();
    client_address(&headers.text("x-forwarded-for")?, proxies)
}

/// Where a request comes from, by its headers. A client can send any user agent; the address is what the trusted
/// proxies say.
#[derive(Default)]
pub struct Origin {
    pub user_agent: Option<String>,
    pub address: Option<IpAddr>,
}

impl Origin {
    /// The origin of the present request; the user agent is cut after 500 characters.
    pub fn of_request() -> Self {
        const MAX_USER_AGENT: usize = 500;
        let text = self::headers();
        let headers = text.as_deref().map_or(Headers::default(), Headers::parse);
        let agent = headers.text("user-agent");
        Self {
            user_agent: agent.map(|text| text.chars().take(MAX_USER_AGENT).collect()),
            address: address(&headers),
        }
    }
}

/// Makes the REST server answer with a status although no error is raised: an error would roll back what the refusal
/// must store, for instance the count of wrong passwords.
///
/// # Errors
/// Those of [`guc::set`].
pub fn answer_with(status: &str) -> Result<(), Error> {
    // This setting is defined by nobody, so every role may set it for its transaction.
    guc::set(c"response.status", status)
}

/// The first schema of the search path, if the search path was set for this request or session.
fn schema_of_search_path() -> Option<String> {
    let record = guc::find_setting(c"search_path")?;
    // SAFETY: the record is Postgres's, and stays as long as the setting is defined, which is always for this one.
    if unsafe { (*record).source } < pg_sys::GucSource::PGC_S_SESSION {
        return None;
    }
    let path = CString::new(setting(c"search_path")?).ok()?;
    // SAFETY: `SplitIdentifierString` cuts the copy into names that end in NUL, and fills the list with pointers to
    // them. They are copied while the memory context of the copy is there.
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
    // A function with a search path of its own begins it with one of these, which are no schema of the REST server.
    let is_none = |name: &String| matches!(name.as_str(), "" | "$user" | "pg_catalog" | "pg_temp");
    names.into_iter().find(|name| !is_none(name))
}
