//! Tokens that somebody has found where they should not be: a scanner for secrets, a colleague, a stranger.
//!
//! Having the whole token is the proof. Whoever has it could use it, so revoking it takes nothing from anybody, and the
//! answer tells nothing of which tokens were known. What was made with it goes too, where it could have made anything:
//! a JWT that was exchanged for less, and handed to somebody for some minutes, ends its token and no other.
//!
//! What strangers may report is limited ([`leak_reports`]), counted in memory, where no rollback undoes it, and before
//! anything is looked up. All connections share the memory if the library is preloaded.
//!
//! The API key of the anonymous role is no secret, and whoever could have it denied by showing it could close the
//! database to everybody. It is left alone.
#![allow(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init};
use supabase_pat_core::claims::{ClaimSettings, Credential, Identity};
use supabase_pat_core::denied::{Digest, digest_of_message};
use supabase_pat_core::error::Error;
use supabase_pat_core::guessing::{LookupKey, Places, neighbourhood};
use supabase_pat_core::json::Members;
use supabase_pat_core::jwt::bearer_token;
use supabase_pat_core::leak_reports::{
    MAX_TOKEN_BYTES, MAX_TOKENS, REPORTER, STRANGERS, Spent, place, reporter_key,
};
use supabase_pat_core::scope::TOKENS_WRITE;
use uuid::Uuid;

use super::deny;
use crate::events::{self, About};
use crate::jwt::{self, denied};
use crate::notices;
use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::{Local, cluster, lock, rights, settings};
use crate::request::http::{self, Origin};
use crate::request::run;
use crate::tokens::lookup::{self, StoredToken};
use crate::tokens::revocation::{self, Others};
use crate::tokens::store;
use crate::users::state::{self, UserState};

#[pg_extern(schema = "public", requires = ["schema"])]
fn report_leaked_tokens(
    tokens: Option<Vec<Option<String>>>,
    found_at: default!(Option<&str>, "NULL"),
) -> SqlResult<()> {
    reported(|| {
        if !settings::enable_leak_reports() {
            return Err(Error::Disabled("reporting leaked tokens"));
        }
        rights::require_writable("reporting leaked tokens")?;
        let tokens = tokens.ok_or(Error::NullArgument("tokens"))?;
        if tokens.len() > MAX_TOKENS {
            return Err(Error::TooManyReported { max: MAX_TOKENS });
        }
        let found_at = found_at.map(place).transpose()?.flatten();
        let now = Instant::now();
        if !pay_for(tokens.len(), now) {
            return http::answer_with("429");
        }
        let mut leaked = Leaked::default();
        for token in tokens.iter().flatten() {
            leaked.add(token, now);
        }
        leaked.end(found_at.as_deref(), now)
    })
}

/// The reported tokens that are to be ended, in the order in which that is done. Each transaction takes the locks of users
/// in the order of their numbers, and then those of denied tokens in the order of their digests: so no two reports wait for
/// each other.
#[derive(Default)]
struct Leaked {
    /// By the number of the lock of the user, the user, and the id of the token.
    tokens: BTreeMap<(u32, Uuid, Uuid), Others>,
    /// JWTs of the service role, by their digests.
    keys: BTreeSet<(Digest, String)>,
}

impl Leaked {
    fn add(&mut self, text: &str, now: Instant) {
        let text = text.trim();
        let text = bearer_token(text).unwrap_or(text);
        if text.len() > MAX_TOKEN_BYTES {
            return;
        }
        let found = match lookup::by_text(text) {
            Some(token) => Some((token, Others::GoToo)),
            None => self.add_jwt(text),
        };
        let is_live = |token: &StoredToken| !token.is_revoked && token.expires_at > now;
        if let Some((token, others)) = found.filter(|(token, _)| is_live(token)) {
            let key = (lock::number_of(&token.user), token.user, token.id);
            let reported = self.tokens.entry(key).or_insert(others);
            if others == Others::GoToo {
                *reported = others;
            }
        }
    }

    /// Adds a JWT of the service role, and returns the personal access token that a JWT is, with what becomes of those
    /// that were made with it. The claims say what it could make: the row may have been given fewer scopes since.
    fn add_jwt(&mut self, text: &str) -> Option<(StoredToken, Others)> {
        let verified = jwt::signed(text).ok()?;
        let claims = ClaimSettings {
            claims: Some(verified.payload()),
            ..ClaimSettings::default()
        };
        match Identity::from_settings(&claims).credential {
            Credential::Token(claimed) => {
                let others = match claimed.scopes.grants(&TOKENS_WRITE.parse().ok()?) {
                    true => Others::GoToo,
                    false => Others::Stay,
                };
                let found = lookup::by_id(claimed.id).filter(|token| token.user == claimed.user);
                found.map(|token| (token, others))
            }
            Credential::Malformed => None,
            Credential::Login => {
                let members = Members::parse(verified.payload())?;
                let role = members.text("role").ok().flatten()?;
                let digest = digest_of_message(text)?;
                let is_new = !denied::tokens().has(Some(digest));
                if role == settings::service_role_name() && is_new {
                    self.keys.insert((digest, text.to_owned()));
                }
                None
            }
        }
    }

    /// Revokes the tokens, with what was made with them, and denies the keys.
    fn end(self, found_at: Option<&str>, now: Instant) -> Result<(), Error> {
        let users: Vec<Uuid> = self.tokens.keys().map(|&(_, user, _)| user).collect();
        let makers = self
            .tokens
            .iter()
            .filter(|&(_, &others)| others == Others::GoToo);
        let makers: Vec<Uuid> = makers.map(|(&(_, _, id), _)| id).collect();
        store::lock_families(&makers, &users);
        for ((_, user, id), others) in self.tokens {
            // What is locked already is locked again at once.
            let lock = match others {
                Others::GoToo => store::lock_family(None, user, id),
                Others::Stay => store::lock_to_revoke(user),
            };
            // Another transaction may have ended it before this one got the lock.
            let was_live =
                notices::as_leaked(id, found_at, || revocation::revoke(&lock, id, others, now))?;
            if was_live {
                let about = About {
                    user: Some(user),
                    token: Some(id),
                };
                events::record("token_leaked", about, found_at)?;
            }
        }
        for (_, key) in &self.keys {
            deny::deny_jwt(key, "token_leaked", found_at)?;
        }
        Ok(())
    }
}

/// What is used of the budgets: 26 kB.
#[derive(Clone, Copy)]
pub struct Reports {
    reporters: Places<Spent, 64, 16>,
    /// Of all strangers, by database.
    strangers: Places<Spent, 1, 64>,
}

const NONE: Reports = Reports {
    reporters: Places::EMPTY,
    strangers: Places::EMPTY,
};

// SAFETY: plain data without pointers.
unsafe impl PGRXSharedMemory for Reports {}

// SAFETY: the name is used once.
static SHARED: PgLwLock<Reports> = unsafe { PgLwLock::new(c"supabase_pat_reports") };

/// The memory of this connection, if there is none that is shared.
static OWN: Local<Option<Box<Reports>>> = Local::new(None);

/// To be called while the library is being preloaded.
pub fn init() {
    pg_shmem_init!(SHARED = NONE);
}

/// Counts so many tokens for whoever reports them. False if that is more than there may be, and then nothing is counted.
/// Trusted roles pay nothing. A user pays from a budget of their own, a stranger from one of the network and from one of
/// all strangers. Who is no user that may log in is a stranger, and so is an anonymous one: anybody can become one as
/// often as they like.
fn pay_for(tokens: usize, now: Instant) -> bool {
    if rights::is_trusted() {
        return true;
    }
    let database = cluster::database().to_u32();
    let is_anonymous = rights::current_role_is(&settings::anon_role());
    let is_known = |user: Uuid| {
        matches!(state::state_of_user(user), Ok(UserState::Active))
            && state::is_anonymous(user) != Some(true)
    };
    let user = run::with_request(|request| request.identity.user)
        .filter(|user| !is_anonymous && is_known(*user));
    let reporter = match user {
        Some(user) => Some(reporter_key(database, "user", user.as_bytes())),
        None => Origin::of_request().address.map(|address| {
            let network = neighbourhood(address).to_string();
            reporter_key(database, "network", network.as_bytes())
        }),
    };
    let strangers = match user {
        Some(_) => None,
        None => Some(reporter_key(database, "strangers", &[])),
    };
    let now = now.unix_micros();
    match settings::is_preloaded() {
        true => SHARED.exclusive().pay_for(reporter, strangers, tokens, now),
        // SAFETY: nothing is called that could come back here.
        false => unsafe { OWN.get() }
            .get_or_insert_with(|| Box::new(NONE))
            .pay_for(reporter, strangers, tokens, now),
    }
}

impl Reports {
    fn pay_for(
        &mut self,
        reporter: Option<LookupKey>,
        strangers: Option<LookupKey>,
        tokens: usize,
        now: i64,
    ) -> bool {
        let has_room = reporter
            .is_none_or(|key| self.reporters.of(&key).has_room(REPORTER.cost(tokens), now))
            && strangers.is_none_or(|key| {
                self.strangers
                    .of(&key)
                    .has_room(STRANGERS.cost(tokens), now)
            });
        if has_room {
            if let Some(key) = reporter {
                self.reporters
                    .place(&key, now)
                    .raise(REPORTER.cost(tokens), now);
            }
            if let Some(key) = strangers {
                self.strangers
                    .place(&key, now)
                    .raise(STRANGERS.cost(tokens), now);
            }
        }
        has_room
    }
}
