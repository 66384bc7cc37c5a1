//! The claims of the present request, read from the settings that the REST server makes for it.
#![allow(unsafe_code)]

pub mod admitted;
pub mod caller;
pub mod http;
pub mod identity;
pub mod liveness;
pub mod policy;
pub mod run;
pub mod session;
pub mod tables;

use std::ffi::{CStr, c_char};
use std::rc::Rc;

use pgrx::pg_sys;
use supabase_pat_core::claims::{
    ClaimSettings, Credential, Identity, MAX_CLAIMS, SessionClaim, UNREADABLE,
};
use supabase_pat_core::scope::Scope;

use crate::pg::Local;
use crate::pg::clock::Instant;
use crate::pg::guc;
use liveness::{Horizon, Verdict};

/// A request's identity, as far as it has been found out.
pub struct Request {
    pub identity: Rc<Identity>,
    /// The settings that the identity was read from, `request.jwt.claims` first; empty if there
    /// was no such setting.
    sources: Vec<Source>,
    is_valid: Option<bool>,
    is_active: Option<bool>,
}

/// The last request that this backend has seen, for the next statement of the same request: the
/// claims need no parsing if they are the same text, which saves 0.4 µs, and the tables no look if
/// nothing has been written since, which saves 1.5 µs.
struct Last {
    texts: [Option<Box<str>>; SETTINGS.len()],
    identity: Rc<Identity>,
    /// On its token, or else its session.
    verdict: Option<(Horizon, Verdict)>,
}

static LAST: Local<Option<Last>> = Local::new(None);

const SETTINGS: [&CStr; 6] = [
    c"request.jwt.claims",
    c"request.jwt.claim.sub",
    c"request.jwt.claim.type",
    c"request.jwt.claim.jti",
    c"request.jwt.claim.scope",
    c"request.jwt.claim.session_id",
];

/// Where a setting is kept, and the address of the value that was read from there.
///
/// `GetConfigOption` would find it again each time, for 40 ns on Postgres 15, which is as much as
/// the rest of a row in a scan. Postgres allocates a new value before it frees the old one, so a
/// changed setting has another address.
#[derive(Clone, Copy)]
struct Source {
    variable: *mut *mut c_char,
    value: *mut c_char,
}

impl Request {
    pub fn read() -> Self {
        let sources = find_sources();
        let texts = sources.each_ref().map(|source| source.as_ref()?.text());
        Self {
            identity: identity_of(texts),
            sources: match sources[0] {
                Some(_) => sources.into_iter().flatten().collect(),
                None => Vec::new(),
            },
            is_valid: None,
            is_active: None,
        }
    }

    /// The same request, of which nothing is known yet: for whoever has waited since it was judged.
    pub fn anew(identity: &Rc<Identity>) -> Self {
        Self {
            identity: Rc::clone(identity),
            sources: Vec::new(),
            is_valid: None,
            is_active: None,
        }
    }

    /// The claims as JSON, as they were verified.
    pub fn claims(&self) -> Option<&str> {
        self.sources.first()?.text()
    }

    /// Whether the settings still hold what was read. Always no if `request.jwt.claims` did not
    /// exist, since it may have been created since. A legacy setting that did not exist is not
    /// looked for again until the next statement.
    #[inline(always)]
    pub fn is_current(&self) -> bool {
        !self.sources.is_empty() && self.sources.iter().all(Source::is_current)
    }

    /// The answer of `is_valid_api_token()`.
    pub fn is_valid(&mut self) -> bool {
        *self
            .is_valid
            .get_or_insert_with(|| match &self.identity.credential {
                Credential::Login => true,
                Credential::Malformed => false,
                Credential::Token(token) => {
                    let verdict = verdict(&self.identity, || {
                        liveness::token_verdict(token.key_id, token.user)
                    });
                    verdict.is_some_and(|verdict| {
                        verdict.is_live
                            && (!verdict.needs_gate || admitted::has_admitted(token.key_id))
                    })
                }
            })
    }

    /// Takes note of a verdict on the token of this request that was reached elsewhere, with what could be
    /// seen at the time.
    pub fn remember(&mut self, seen: Horizon, verdict: Verdict) {
        // To be found out anew, now that the gate has judged the token.
        self.is_valid = None;
        // SAFETY: nothing is called that could come back here.
        if let Some(last) = unsafe { LAST.get() }
            && Rc::ptr_eq(&last.identity, &self.identity)
        {
            last.verdict = Some((seen, verdict));
        }
    }

    /// The answer of `is_active_session()`.
    pub fn is_active(&mut self) -> bool {
        if let Some(known) = self.is_active {
            return known;
        }
        let is_active = match (&self.identity.credential, self.identity.session) {
            (Credential::Token(_), _) => self.is_valid(),
            (Credential::Malformed, _) | (_, SessionClaim::Malformed) => false,
            (Credential::Login, SessionClaim::None) => true,
            (Credential::Login, SessionClaim::Id(session)) => {
                self.identity.user.is_some_and(|user| {
                    verdict(&self.identity, || liveness::session_verdict(session, user))
                        .is_some_and(|verdict| verdict.is_live)
                })
            }
        };
        *self.is_active.insert(is_active)
    }

    /// The answer of `has_scope()`: true for a login, and for a valid token that grants the scope.
    pub fn has_scope(&mut self, scope: &Scope) -> bool {
        self.is_valid()
            && match &self.identity.credential {
                Credential::Login => true,
                Credential::Token(token) => token.scopes.grants(scope),
                Credential::Malformed => false,
            }
    }

    #[inline(always)]
    pub fn known_validity(&self) -> Option<bool> {
        self.is_valid
    }
}

fn identity_of(texts: [Option<&str>; SETTINGS.len()]) -> Rc<Identity> {
    // SAFETY: nothing is called that could come back here.
    let last = unsafe { LAST.get() };
    if let Some(last) = last
        && last.texts.each_ref().map(Option::as_deref) == texts
    {
        return Rc::clone(&last.identity);
    }
    let [claims, sub, r#type, jti, scope, session_id] = texts;
    let identity = Rc::new(Identity::from_settings(&ClaimSettings {
        claims,
        sub,
        r#type,
        jti,
        scope,
        session_id,
    }));
    *last = Some(Last {
        texts: texts.map(|text| text.map(Box::from)),
        identity: Rc::clone(&identity),
        verdict: None,
    });
    identity
}

/// How what an identity rests on stands, its token or its session. `None` while the extension is being installed or
/// dropped.
fn verdict(identity: &Rc<Identity>, find: impl FnOnce() -> Verdict) -> Option<Verdict> {
    let horizon = liveness::horizon()?;
    let last = || {
        // SAFETY: the reference is not held while Postgres is called.
        let last = unsafe { LAST.get() };
        last.as_mut()
            .filter(|last| Rc::ptr_eq(&last.identity, identity))
    };
    if let Some((seen, verdict)) = last().and_then(|last| last.verdict)
        && seen == horizon
        && Instant::now() < verdict.holds_until
    {
        return Some(verdict);
    }
    let verdict = find();
    if let Some(last) = last() {
        last.verdict = Some((horizon, verdict));
    }
    Some(verdict)
}

impl Source {
    /// A setting of type string, from its record.
    fn of(record: *mut pg_sys::config_generic) -> Option<Self> {
        // SAFETY: the record is Postgres's. `vartype` says which struct begins with it, and a
        // setting of type string always has a variable.
        unsafe {
            if (*record).vartype != pg_sys::config_type::PGC_STRING {
                return None;
            }
            let variable = (*record.cast::<pg_sys::config_string>()).variable;
            Some(Self {
                variable,
                value: *variable,
            })
        }
    }

    fn text(&self) -> Option<&str> {
        if self.value.is_null() {
            return None;
        }
        // SAFETY: the value of a string setting is NUL-terminated, and stays while nothing sets it.
        let bytes = unsafe { CStr::from_ptr(self.value) }.to_bytes();
        // Settings are in the database's encoding. What is not UTF-8, or too long to be read, becomes no
        // JSON, so that the request is malformed rather than without claims.
        let text = match bytes.len() {
            ..=MAX_CLAIMS => std::str::from_utf8(bytes).unwrap_or(UNREADABLE),
            _ => UNREADABLE,
        };
        (!bytes.is_empty()).then_some(text)
    }

    #[inline(always)]
    fn is_current(&self) -> bool {
        // SAFETY: the record of a setting is freed only when a library defines a setting of its
        // own under the same name, and then before, not during, a run of the executor.
        unsafe { *self.variable == self.value }
    }
}

/// The settings of [`SETTINGS`], as far as they exist.
#[cfg(not(feature = "pg15"))]
fn find_sources() -> [Option<Source>; SETTINGS.len()] {
    SETTINGS.map(|name| guc::find_setting(name).and_then(Source::of))
}

/// The settings of [`SETTINGS`], as far as they exist: with one search, since they stand together.
#[cfg(feature = "pg15")]
fn find_sources() -> [Option<Source>; SETTINGS.len()] {
    const PREFIX: &[u8] = b"request.jwt.claim";
    let mut found = [None; SETTINGS.len()];
    let ours = guc::settings_from(PREFIX).take_while(|(_, name)| {
        let start = name.get(..PREFIX.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
    });
    for (record, name) in ours {
        let known = |setting: &&CStr| setting.to_bytes().eq_ignore_ascii_case(name);
        if let Some(index) = SETTINGS.iter().position(known) {
            found[index] = Source::of(record);
        }
    }
    found
}
