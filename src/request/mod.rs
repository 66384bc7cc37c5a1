//! The claims of the present request, read from the settings in which the REST server puts them.
#![allow(unsafe_code)]

pub mod accounts;
pub mod admitted;
pub mod attributes;
pub mod auth_functions;
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
use supabase_pat_core::scope::{Scope, Scopes};

use crate::pg::Local;
use crate::pg::clock::Instant;
use crate::pg::guc::{self, Moment, Watch};
use attributes::{Held, KeptAttributes};
use liveness::{Horizon, Verdict};

/// The identity of a request, and what has been found out about it so far.
pub struct Request {
    pub identity: Rc<Identity>,
    claims: Option<Source>,
    /// When the settings were read that the identity is from. `NEVER` if one of them can change untold.
    read_at: Moment,
    is_valid: Option<bool>,
    is_active: Option<bool>,
    /// The scopes that the gate has let the token through with.
    admitted: Option<Option<Scopes>>,
    attributes: Option<Held>,
    is_service_account: Option<bool>,
}

/// The last request that this backend has seen, for the next statement of the same request. If the claims are the same
/// text, they are not parsed again, which saves 0.4 µs. If nothing has been written since, the tables are not read
/// again, which saves 1.5 µs.
struct Last {
    texts: [Option<Box<str>>; SETTINGS.len()],
    identity: Rc<Identity>,
    /// The verdict on its token, or else on its session, and what could be seen then.
    verdict: Option<(Horizon, Verdict)>,
    attributes: Option<KeptAttributes>,
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

/// The value that was read from a setting.
///
/// `GetConfigOption` would search for it each time, which takes 40 ns on Postgres 15, as much as the rest of a row in a
/// scan. So Postgres is made to tell of each new value ([`guc::watch`]).
#[derive(Clone, Copy)]
struct Source {
    value: *mut c_char,
    is_watched: bool,
}

impl Request {
    /// Reads the settings as they are now.
    pub fn read() -> Self {
        let sources = find_sources();
        let are_watched = sources.iter().flatten().all(|source| source.is_watched);
        let texts = sources.each_ref().map(|source| source.as_ref()?.text());
        Self {
            identity: identity_of(texts),
            claims: sources[0],
            read_at: match are_watched {
                true => Moment::now(),
                false => Moment::NEVER,
            },
            is_valid: None,
            is_active: None,
            admitted: None,
            attributes: None,
            is_service_account: None,
        }
    }

    /// The same request, about which nothing is known: for a caller that has waited since the request was judged.
    pub fn anew(identity: &Rc<Identity>) -> Self {
        Self {
            identity: Rc::clone(identity),
            claims: None,
            read_at: Moment::NEVER,
            is_valid: None,
            is_active: None,
            admitted: None,
            attributes: None,
            is_service_account: None,
        }
    }

    /// The claims as JSON, as they were verified.
    pub fn claims(&self) -> Option<&str> {
        self.claims.as_ref()?.text()
    }

    /// Whether the settings still hold what was read.
    #[inline(always)]
    pub fn is_current(&self) -> bool {
        self.read_at.is_now()
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
                        liveness::token_verdict(token.id, token.user)
                    });
                    // The row of a token that was exchanged for a lesser one does not say what that one may do.
                    let is_listed = matches!(token.scopes, Scopes::Only(_));
                    verdict.is_some_and(|verdict| {
                        verdict.is_live
                            && !token.have_ended(Instant::now().unix_seconds())
                            && (!verdict.needs_gate && !is_listed
                                || admitted::has_admitted(token.id))
                    })
                }
            })
    }

    /// Takes over a verdict on the token of this request from the gate, with what could be seen when it was reached.
    pub fn remember(&mut self, seen: Horizon, verdict: Verdict) {
        // The answer may be another one, now that the gate has judged the token.
        self.is_valid = None;
        self.admitted = None;
        self.attributes = None;
        // SAFETY: nothing that could come back here is called while the reference is in use.
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

    /// The answer of `has_scope()`: true for a login, and for a valid token that grants the scope, both by its claims and
    /// by its row, which may have been given fewer since. Where the row has a list, the token is valid only where the gate
    /// has let it through, and then the gate knows the list.
    pub fn has_scope(&mut self, scope: &Scope) -> bool {
        self.is_valid()
            && match &self.identity.credential {
                Credential::Login => true,
                Credential::Token(token) => {
                    let admitted = self.admitted.get_or_insert_with(admitted::scopes);
                    token.scopes.grants(scope)
                        && admitted.as_ref().is_none_or(|scopes| scopes.grants(scope))
                }
                Credential::Malformed => false,
            }
    }

    /// The answer of `is_valid_api_token()`, if it is known already.
    #[inline(always)]
    pub fn known_validity(&self) -> Option<bool> {
        self.is_valid
    }
}

fn identity_of(texts: [Option<&str>; SETTINGS.len()]) -> Rc<Identity> {
    // SAFETY: while the reference is in use, only the parser of the core is called, which does not come back here.
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
        attributes: None,
    });
    identity
}

/// The verdict on the token or session of an identity: the kept one if it still holds, or else what `find` gives.
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
    /// A setting, from its record, which is watched from now on. `None` if it is not of type string.
    fn of(record: *mut pg_sys::config_generic) -> Option<Self> {
        // SAFETY: the record is Postgres's. `vartype` says of which larger struct it is the beginning, and a setting of
        // type string always has a variable.
        unsafe {
            if (*record).vartype != pg_sys::config_type::PGC_STRING {
                return None;
            }
            Some(Self {
                value: *(*record.cast::<pg_sys::config_string>()).variable,
                is_watched: guc::watch_record(record) == Watch::Watched,
            })
        }
    }

    fn text(&self) -> Option<&str> {
        if self.value.is_null() {
            return None;
        }
        // SAFETY: the value of a string setting ends in NUL, and stays until something sets it. `read` has found it
        // just now, and `run::with_request` hands out only requests that are current.
        let bytes = unsafe { CStr::from_ptr(self.value) }.to_bytes();
        // Settings are in the encoding of the database. A text that is not UTF-8, or too long, is replaced by one that
        // is not JSON, so that the request is malformed and not one without claims.
        let text = match bytes.len() {
            ..=MAX_CLAIMS => std::str::from_utf8(bytes).unwrap_or(UNREADABLE),
            _ => UNREADABLE,
        };
        (!bytes.is_empty()).then_some(text)
    }
}

/// The settings of [`SETTINGS`], as far as they exist.
#[cfg(not(feature = "pg15"))]
fn find_sources() -> [Option<Source>; SETTINGS.len()] {
    SETTINGS.map(|name| guc::find_setting(name).and_then(Source::of))
}

/// The settings of [`SETTINGS`], as far as they exist. One search finds all, since they follow each other.
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
