//! What the REST server tells of a request, and what it is told of the answer.

use std::ffi::CStr;
use std::net::IpAddr;

use pgrx::pg_sys;
use supabase_pat_core::json::Members;

/// Who asks, as the request's headers say. They can say anything.
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
            // Each proxy adds whom it hears from at the end; what is before that is hearsay.
            address: text("x-forwarded-for").and_then(|list| {
                list.rsplit(',')
                    .next()
                    .and_then(|last| last.trim().parse().ok())
            }),
        }
    }
}

/// Makes the REST server answer with a status although nothing is raised: an error would take back what
/// the refusal has to leave behind.
pub fn answer_with(status: &CStr) {
    // SAFETY: a setting of nobody's, which everybody may set for their transaction.
    unsafe {
        pg_sys::set_config_option(
            c"response.status".as_ptr(),
            status.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}

fn setting(name: &CStr) -> Option<String> {
    // SAFETY: a setting that is missing is a null pointer; the text is copied at once.
    let text = unsafe {
        let text = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if text.is_null() {
            return None;
        }
        CStr::from_ptr(text).to_string_lossy().into_owned()
    };
    Some(text).filter(|text| !text.is_empty())
}
