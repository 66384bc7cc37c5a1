//! Sessions: begin one, refresh it, end it, and look at the present one.

pub mod known_networks;
pub mod store;

use pgrx::datum::Uuid as PgUuid;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;
use supabase_pat_core::claims::{Credential, SessionClaim};
use supabase_pat_core::error::Error;
use supabase_pat_core::jwt;
use supabase_pat_core::payload::Lifetime;
use supabase_pat_core::refresh_token::{self, Outcome, Presented, RefreshToken};
use supabase_pat_core::session::{AccessPayload, AccessToken, Info, Method, SignIn};
use uuid::{Builder, Uuid};

use crate::events::{self, About};
use crate::pg::clock::{self, Instant};
use crate::pg::composite::{self, Field};
use crate::pg::error::{SqlResult, reported};
use crate::pg::json::JsonbText;
use crate::pg::random;
use crate::pg::rights;
use crate::pg::settings;
use crate::pg::uuid::pg_uuid;
use crate::request::caller::{self, Caller};
use crate::request::http::{self, Origin};
use crate::request::liveness;
use crate::request::run;
use crate::signing_keys::ring::{self, KeysInUse};
use crate::users::sign_ups;
use crate::users::{self, MayLogIn};
use store::{NewSession, StoredSession, Which};

extension_sql_file!(
    "../../sql/sessions.sql",
    name = "sessions",
    requires = [
        mint_session,
        refresh_session,
        sign_out,
        session_info,
        signed_in_user
    ]
);

const USER_READ: &str = "user:read";

#[pg_extern(requires = ["schema"])]
fn mint_session(
    user_id: Option<PgUuid>,
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "public.minted_session"), ErrorReport> {
    reported(|| {
        rights::require_trusted("mint sessions")?;
        rights::require_writable("a new session")?;
        let user = user_id.ok_or(Error::NullArgument("user_id"))?;
        let user = Uuid::from_bytes(*user.as_bytes());
        ring::lock_to_sign();
        let issued = begin(&users::lock(user)?, Method::Trusted, Instant::now())?;
        events::record("session_minted", About::user(user), None)?;
        issued.into_row(call)
    })
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn refresh_session(
    refresh_token: Option<&str>,
    call: pg_sys::FunctionCallInfo,
) -> Option<pgrx::composite_type!('static, "public.minted_session")> {
    // pgrx does not know an Option of a composite type in a Result, so the error is reported here.
    let refreshed = reported(|| {
        rights::require_writable("refreshing a session")?;
        require_login("refresh a session")?;
        let refreshed = match refresh_token.and_then(RefreshToken::parse) {
            Some(token) => refresh(&token)?,
            None => None,
        };
        if refreshed.is_none() {
            http::answer_with("401")?;
        }
        refreshed.map(|issued| issued.into_row(call)).transpose()
    });
    refreshed.unwrap_or_report()
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn sign_out(scope: default!(Option<&str>, "'local'")) -> SqlResult<i32> {
    reported(|| {
        rights::require_writable("signing out")?;
        require_login("sign out")?;
        // An access token whose session has ended has nothing to end, nor has a user who may not log in.
        let caller = || match Caller::now() {
            Err(Error::SessionEnded | Error::BannedUser(_) | Error::UnknownUser(_)) => Ok(None),
            caller => caller.map(Some),
        };
        let Some(user) = caller()?.map(|caller| caller.user()) else {
            return Ok(0);
        };
        let user = user.ok_or(Error::NoUser)?;
        // Others who end sessions of the same user wait, so that no session ends others after it has been ended itself.
        // The row of the session is not locked here, since a refresh locks rows that come before it.
        caller::lock_user(user);
        if caller()?.is_none() {
            return Ok(0);
        }
        let session = run::with_request(|request| match request.identity.session {
            SessionClaim::Id(session) => Some(session),
            _ => None,
        });
        let which = match (scope.ok_or(Error::NullArgument("scope"))?, session) {
            ("global", _) => Which::All,
            ("local", Some(session)) => Which::One(session),
            ("others", Some(session)) => Which::AllBut(session),
            // A login without a session has none of its own to end, and all sessions are other ones.
            ("local", None) => return Ok(0),
            ("others", None) => Which::All,
            _ => return Err(Error::SignOutScope),
        };
        Ok(store::end(user, which)? as i32)
    })
}

#[pg_extern(schema = "public", stable, parallel_safe, requires = ["schema"])]
fn session_info(
    call: pg_sys::FunctionCallInfo,
) -> Result<pgrx::composite_type!('static, "pat.session_report"), ErrorReport> {
    reported(|| {
        let info = run::with_request(|request| {
            request.claims().map(Info::from_claims).unwrap_or_default()
        });
        let now = Instant::now().unix_seconds();
        let time = |seconds: Option<i64>| match seconds {
            Some(seconds) => Instant::from_unix_seconds(seconds).to_timestamp().map(Some),
            None => Ok(None),
        };
        let expires_in = info
            .expires_at
            .and_then(|expiry| clock::interval(expiry - now));
        let should_refresh = info.should_refresh(now);
        let fields = [
            Field::new(c"user_id", info.user.map(pg_uuid)),
            Field::new(c"session_id", info.session.map(pg_uuid)),
            Field::new(c"role", info.role),
            Field::new(c"aal", info.aal),
            Field::new(c"email", info.email),
            Field::new(c"issued_at", time(info.issued_at)?),
            Field::new(c"expires_at", time(info.expires_at)?),
            Field::new(c"expires_in", expires_in),
            Field::new(c"should_refresh", should_refresh),
            Field::new(c"is_pat", info.is_personal_access_token),
        ];
        composite::result_row(call, fields)
    })
}

#[pg_extern(schema = "public", stable, parallel_restricted, requires = ["schema"])]
fn signed_in_user() -> SqlResult<Option<JsonbText>> {
    reported(|| {
        let scope = USER_READ.parse()?;
        let user = run::with_request(|request| {
            if !request.is_active() {
                return Ok(None);
            }
            match request.has_scope(&scope) {
                true => Ok(request.identity.user),
                false => Err(Error::ScopeMissing("see its user", USER_READ)),
            }
        })?;
        let Some(user) = user else {
            return Ok(None);
        };
        let row = users::row(user)?;
        let role = settings::authenticated_role();
        Ok(row.map(|row| JsonbText(row.to_json(&role).to_string())))
    })
}

/// The tokens of a session, and its user, as Supabase's clients take them.
pub struct IssuedSession {
    access_token: String,
    /// Seconds.
    expires_in: i32,
    /// Seconds since 1970.
    expires_at: i64,
    refresh_token: String,
    user: JsonbText,
}

impl IssuedSession {
    /// The fields of `public.minted_session`, all of them null for none.
    pub fn fields(issued: Option<Self>) -> [Field; 6] {
        let is_issued = issued.is_some();
        let (access_token, expires_in, expires_at, refresh_token, user) = match issued {
            Some(it) => (
                Some(it.access_token),
                Some(it.expires_in),
                Some(it.expires_at),
                Some(it.refresh_token),
                Some(it.user),
            ),
            None => (None, None, None, None, None),
        };
        [
            Field::new(c"access_token", access_token),
            Field::new(c"token_type", is_issued.then_some("bearer")),
            Field::new(c"expires_in", expires_in),
            Field::new(c"expires_at", expires_at),
            Field::new(c"refresh_token", refresh_token),
            Field::new(c"user", user),
        ]
    }

    /// The row of a function that returns `public.minted_session`.
    pub fn into_row(
        self,
        call: pg_sys::FunctionCallInfo,
    ) -> Result<PgHeapTuple<'static, AllocatedByRust>, Error> {
        composite::result_row(call, Self::fields(Some(self)))
    }
}

/// Refuses a personal access token, which is no login and must not become one.
///
/// # Errors
/// [`Error::NotWithToken`].
fn require_login(action: &'static str) -> Result<(), Error> {
    match run::with_request(|request| matches!(request.identity.credential, Credential::Login)) {
        true => Ok(()),
        false => Err(Error::NotWithToken(action)),
    }
}

/// The reason why a user may not have a session, of an error that says so. Callers write it into the trail of events,
/// and tell the client only that there is no session.
///
/// # Errors
/// Any other error is returned as it is.
pub fn reason_of(error: Error) -> Result<&'static str, Error> {
    match error {
        Error::UnknownUser(_) => Ok("the user has been deleted"),
        Error::BannedUser(_) => Ok("the user is banned"),
        Error::ServiceAccount(_) => Ok("the user is a service account"),
        Error::RoleNotAllowed(_) => {
            Ok("auth.users gives the user a role that is not for users who log in")
        }
        error => Err(error),
    }
}

/// Begins a session for a user whose row is locked, and notes that they have signed in.
///
/// # Errors
/// [`Error::NoSessionsTable`], and those of [`ring::signing_key`].
pub fn begin(user: &MayLogIn, method: Method, now: Instant) -> Result<IssuedSession, Error> {
    let user = user.id();
    ring::lock_to_sign();
    let session = Builder::from_random_bytes(random::bytes()?).into_uuid();
    if settings::single_session() {
        store::end(user, Which::All)?;
    }
    store::forget_orphans(user)?;
    let key = ring::signing_key()?;
    let ends_at = settings::session_timebox().map(|seconds| now.plus_seconds(seconds));
    let origin = Origin::of_request();
    store::begin(&NewSession {
        id: session,
        user,
        method,
        signing_key: key.id(),
        created_at: now,
        ends_at,
        origin: &origin,
    })?;
    users::note_sign_in(user, now)?;
    sign_ups::forget(user)?;
    match method {
        Method::Password | Method::Code => known_networks::note(user, origin.address, now)?,
        // The address is that of a backend, and does not tell where the user is.
        Method::Trusted => (),
    }
    let refresh_token = refresh_token::issue(&key, session, 0)?;
    let login = Login {
        user,
        session,
        sign_in: SignIn {
            method,
            at: now.unix_seconds(),
        },
    };
    issue(login, refresh_token, now)
}

/// The session with a new access token. `None` if the refresh token is refused, for whatever reason.
fn refresh(token: &RefreshToken) -> Result<Option<IssuedSession>, Error> {
    // From here on, the key that the token is signed with is not revoked.
    ring::lock_to_sign();
    let keys = KeysInUse::all()?;
    let is_signed = |stored: &StoredSession| {
        let key = keys.find(stored.signing_key_of(token.number));
        key.is_some_and(|key| token.is_signed_by(key))
    };
    // The signature is checked before any row is locked, so that nobody makes others wait with a token that is made up.
    let Some(stored) = store::find(token.session)?.filter(is_signed) else {
        return Ok(None);
    };
    let user = match users::lock(stored.user) {
        Ok(user) => user.id(),
        Err(error) => {
            let is_role = matches!(error, Error::RoleNotAllowed(_));
            let reason = reason_of(error)?;
            if is_role {
                events::record("refresh_refused", About::user(stored.user), Some(reason))?;
            }
            return Ok(None);
        }
    };
    let Some(stored) = store::lock(token.session)?.filter(is_signed) else {
        store::forget_orphans(user)?;
        return Ok(None);
    };
    let now = Instant::now();
    let end = |event: &str| {
        store::end(stored.user, Which::One(token.session))?;
        events::record(event, About::user(stored.user), None)?;
        Ok(None)
    };
    if is_over(&stored, now) {
        return end("session_expired");
    }
    if !liveness::session_verdict(token.session, stored.user).is_live {
        return Ok(None);
    }
    let reuse_interval = settings::refresh_reuse_interval() * 1_000_000;
    let presented = Presented {
        number: token.number,
        at: now.unix_micros(),
    };
    let refresh_token = match stored.progress.outcome(presented, reuse_interval) {
        Outcome::Reused => return end("refresh_token_reused"),
        Outcome::LiveAgain => {
            let live = stored.progress.live;
            match keys.find(stored.signing_key_of(live)) {
                Some(key) => refresh_token::issue(key, token.session, live)?,
                None => return Ok(None), // its signing key has been revoked
            }
        }
        Outcome::Next => {
            let next = token.number + 1;
            let key = ring::signing_key()?;
            store::advance(token.session, &stored, next, key.id(), now)?;
            refresh_token::issue(&key, token.session, next)?
        }
    };
    let login = Login {
        user: stored.user,
        session: token.session,
        sign_in: SignIn {
            method: stored.method,
            at: stored.created_at.unix_seconds(),
        },
    };
    issue(login, refresh_token, now).map(Some)
}

/// Whether a session has come to its end by the settings: too long since the last refresh, or since it began.
fn is_over(stored: &StoredSession, now: Instant) -> bool {
    let is_past = |since: Instant, limit: Option<i64>| {
        limit.is_some_and(|seconds| since.plus_seconds(seconds) <= now)
    };
    is_past(stored.refreshed_at, settings::session_inactivity())
        || is_past(stored.created_at, settings::session_timebox())
}

/// A login that a session stands for.
struct Login {
    user: Uuid,
    session: Uuid,
    sign_in: SignIn,
}

/// The tokens of a session: a new access token, and the refresh token as it is given.
fn issue(login: Login, refresh_token: String, now: Instant) -> Result<IssuedSession, Error> {
    let Login {
        user,
        session,
        sign_in,
    } = login;
    let row = users::row(user)?.ok_or(Error::UnknownUser(user))?;
    let key = ring::signing_key()?;
    let issuer = settings::issuer();
    let role = users::role_of_user(row.named_role())?;
    let seconds = settings::access_token_lifetime();
    let lifetime = Lifetime {
        issued_at: now.unix_seconds(),
        expires_at: now.unix_seconds() + seconds,
    };
    let payload = AccessPayload::new(&AccessToken {
        session,
        user_id: user,
        user: &row,
        role: &role,
        issuer: &issuer,
        sign_in,
        lifetime,
    });
    Ok(IssuedSession {
        access_token: jwt::sign(&payload, &key)?,
        // The setting is an integer of four bytes.
        expires_in: seconds as i32,
        expires_at: lifetime.expires_at,
        refresh_token,
        user: JsonbText(row.to_json(&role).to_string()),
    })
}
