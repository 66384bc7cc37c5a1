//! What the REST server says of an HTTP request, and what it is told about the answer.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char};
use std::net::IpAddr;

use pgrx::{PgList, pg_sys};
use supabase_pat_core::error::Error;
use supabase_pat_core::forwarded::client_address;
use supabase_pat_core::json::{Members, WrongType};
use supabase_pat_core::presented::TokenHeader;

use crate::pg::guc::{self, setting};
use crate::pg::settings;

/// The parts of an HTTP request that the gate looks at.
#[derive(Default)]
pub struct HttpRequest {
    pub method: String,
    /// The path below the address of the REST server, percent-encoded.
    pub path: String,
    pub authorization: Option<String>,
    /// What stands in the headers of `supabase_pat.token_headers`, as far as they are there.
    pub token_headers: Vec<(TokenHeader, String)>,
    pub address: Option<IpAddr>,
    /// The schemas that its headers name, for reading and for writing.
    profiles: [Option<String>; 2],
}

impl HttpRequest {
    /// The request of the present transaction. Its texts are empty if the REST server has set nothing.
    pub fn present() -> Self {
        let text = setting(HEADERS);
        let headers = Headers::parse(text.as_deref());
        Self {
            method: setting(c"request.method").unwrap_or_default(),
            path: setting(c"request.path").unwrap_or_default(),
            authorization: headers.text("authorization"),
            token_headers: headers.for_tokens(),
            address: headers.address(),
            profiles: ["accept-profile", "content-profile"].map(|name| headers.text(name)),
        }
    }

    /// The schemas that the request may be for; `None` in the list is the default schema.
    ///
    /// PostgREST chooses by `Accept-Profile` for GET and HEAD and by `Content-Profile` for all else; other servers use
    /// whichever of the two is there. If a client sends one header twice, PostgREST goes by the first, and only the last
    /// is in `request.headers`. So the headers alone do not tell the schema. But these servers put the schema that they
    /// have chosen first into the search path. The list has the schemas of both headers and this one.
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

const HEADERS: &CStr = c"request.headers";

/// The headers of a request. If a name stands twice, the last one is used, as in jsonb.
struct Headers<'a>(Option<Members<'a>>);

impl<'a> Headers<'a> {
    /// They are parsed once for all that is asked of them: that takes 1 µs.
    fn parse(text: Option<&'a str>) -> Self {
        Self(text.and_then(|text| Members::parse_lenient(text).ok()))
    }

    fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.0.as_ref()?.text(name).ok().flatten()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(Cow::into_owned)
    }

    fn for_tokens(&self) -> Vec<(TokenHeader, String)> {
        if self.0.is_none() {
            return Vec::new();
        }
        let value = |header: &TokenHeader| {
            let headers = self.0.as_ref()?;
            let value = match headers.text(header.name()) {
                Ok(text) => text?.into_owned(),
                // A list, or half a character: whatever is in it must not be overlooked.
                Err(WrongType) => headers.get(header.name())?.get().to_owned(),
            };
            Some((header.clone(), value))
        };
        settings::token_headers().iter().filter_map(value).collect()
    }

    /// The address that the request comes from, by the header `X-Forwarded-For`.
    fn address(&self) -> Option<IpAddr> {
        let proxies = settings::trusted_proxies();
        client_address(&self.get("x-forwarded-for")?, proxies)
    }
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
        let text = setting(HEADERS);
        let headers = Headers::parse(text.as_deref());
        let agent = headers.get("user-agent");
        Self {
            user_agent: agent.map(|text| text.chars().take(MAX_USER_AGENT).collect()),
            address: headers.address(),
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
