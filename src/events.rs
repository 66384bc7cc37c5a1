//! The trail, table `pat.events`: what happened, to which user, and who did it.
#![allow(unsafe_code)]

use pgrx::datum::DatumWithOid;
use pgrx::extension_sql_file;
use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid::{INT8OID, TEXTOID, TIMESTAMPTZOID, UUIDOID};
use std::ffi::CStr;
use supabase_pat_core::claims::Credential;
use supabase_pat_core::error::Error;
use supabase_pat_core::json::Members;
use uuid::Uuid;

use crate::pg::Local;
use crate::pg::clock::Instant;
use crate::pg::rights;
use crate::pg::settings;
use crate::pg::statement::Statement;
use crate::pg::uuid::pg_uuid;
use crate::request::http::Origin;
use crate::request::run;

extension_sql_file!("../sql/events.sql", name = "events", requires = ["request"]);

thread_local! {
    static RECORD: Statement = const { Statement::new(
        "insert into pat.events (event, user_id, key_id, detail, role, by_key, address) \
         values ($1, $2, $3, $4, $5, $6, $7::pg_catalog.inet)",
        &[TEXTOID, UUIDOID, UUIDOID, TEXTOID, TEXTOID, UUIDOID, TEXTOID],
    ) };

    static RECORD_COUNTED: Statement = const { Statement::new(
        "insert into pat.events (event, user_id, detail, count, role, by_key, address) \
         values ($1, $2, $3, $4, $5, $6, $7::pg_catalog.inet)",
        &[TEXTOID, UUIDOID, TEXTOID, INT8OID, TEXTOID, UUIDOID, TEXTOID],
    ) };

    static SWEEP: Statement = const { Statement::new(
        "delete from pat.events where (happened_at, id) in (\
             select happened_at, id from pat.events where happened_at operator(pg_catalog.<) $1 \
             order by happened_at limit $2 for update skip locked)",
        &[TIMESTAMPTZOID, INT8OID],
    ) };
}

/// Who makes the present request.
pub struct Actor {
    role: String,
    user: Option<Uuid>,
    /// The personal access token of the request.
    token: Option<Uuid>,
    address: Option<String>,
}

impl Actor {
    /// The role in force, and what the request tells. This is to be asked before rights are raised, which changes the
    /// role.
    pub fn now() -> Self {
        // SAFETY: the name of a role that exists, or null; it is copied at once.
        let role = unsafe {
            let name = pg_sys::GetUserNameFromId(pg_sys::GetUserId(), true);
            match name.is_null() {
                true => String::new(),
                false => CStr::from_ptr(name).to_string_lossy().into_owned(),
            }
        };
        Self {
            role,
            user: run::with_request(|request| request.identity.user),
            token: run::with_request(|request| match &request.identity.credential {
                Credential::Token(token) => Some(token.id),
                _ => None,
            }),
            address: Origin::of_request().address.map(|ip| ip.to_string()),
        }
    }

    /// For the column `detail`: who it was, if that was another user than the one whom the event is about.
    pub fn other_than(&self, user: Uuid) -> Option<String> {
        let other = self.user.filter(|&own| own != user)?;
        Some(format!("by user {other}"))
    }

    /// The columns `role`, `by_key` and `address`; the last as text.
    pub fn arguments(&self) -> [DatumWithOid<'_>; 3] {
        [
            self.role.as_str().into(),
            self.token.map(pg_uuid).into(),
            self.address.as_deref().into(),
        ]
    }
}

/// Whom an event is about, and which of their tokens.
#[derive(Clone, Copy)]
pub struct About {
    pub user: Option<Uuid>,
    pub token: Option<Uuid>,
}

impl About {
    pub fn user(user: impl Into<Option<Uuid>>) -> Self {
        Self {
            user: user.into(),
            token: None,
        }
    }
}

/// Writes an event, and removes up to ten events that have been kept long enough.
pub fn record(event: &str, about: About, detail: Option<&str>) -> Result<(), Error> {
    let actor = Actor::now();
    let [role, by_token, address] = actor.arguments();
    let arguments = [
        event.into(),
        about.user.map(pg_uuid).into(),
        about.token.map(pg_uuid).into(),
        detail.into(),
        role,
        by_token,
        address,
    ];
    RECORD.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    sweep(Instant::now(), 10)
}

/// What was signed last. By it a statement that signs thousands of tokens writes one event for each role and subject,
/// and not one for each token: a row takes twenty times as long as a signature.
struct Signed {
    /// The transaction, by its start, and the subtransaction that wrote the event. In another one a new event is
    /// written, since this one may have been rolled back.
    subtransaction: (pg_sys::TimestampTz, pg_sys::SubTransactionId),
    event: &'static str,
    claims: String,
    user: Option<Uuid>,
    detail: Option<String>,
}

static SIGNED: Local<Option<Signed>> = Local::new(None);

/// Writes an event for claims that are signed, with their role as its detail. If tokens with the same role and subject
/// are signed one after the other in one subtransaction, they have one event. Where nothing can be written, on a
/// standby or in a READ ONLY transaction, a line in the server's log takes its place.
///
/// # Errors
/// [`Error::ClaimsNotAnObject`].
pub fn record_signing(event: &'static str, claims: &str) -> Result<(), Error> {
    // SAFETY: they only read.
    let subtransaction = unsafe {
        (
            pg_sys::GetCurrentTransactionStartTimestamp(),
            pg_sys::GetCurrentSubTransactionId(),
        )
    };
    // SAFETY: the reference is not held while Postgres is called.
    let last = unsafe { SIGNED.get() }
        .as_ref()
        .filter(|last| last.subtransaction == subtransaction && last.event == event);
    if last.is_some_and(|last| last.claims == claims) {
        return Ok(());
    }
    let members = Members::parse(claims).ok_or(Error::ClaimsNotAnObject)?;
    let text = |name| members.text(name).ok().flatten();
    let user = text("sub").and_then(|sub| Uuid::try_parse(&sub).ok());
    // A role has a name of 63 bytes at most.
    let detail = text("role").map(|role| role.chars().take(63).collect::<String>());
    if last.is_none_or(|last| last.user != user || last.detail != detail) {
        match rights::require_writable(event) {
            Ok(()) => record(event, About::user(user), detail.as_deref())?,
            Err(_) => pgrx::log!(
                "supabase_pat: {event} by {}, for the role {}, subject {}",
                Actor::now().role,
                detail.as_deref().unwrap_or("none"),
                user.map_or("none".into(), |user| user.to_string()),
            ),
        }
    }
    // SAFETY: as above.
    unsafe {
        *SIGNED.get() = Some(Signed {
            subtransaction,
            event,
            claims: claims.to_owned(),
            user,
            detail,
        });
    }
    Ok(())
}

/// Writes one event for something that has happened `count` times to a user.
pub fn record_counted(event: &str, user: Uuid, detail: &str, count: i64) -> Result<(), Error> {
    let actor = Actor::now();
    let [role, by_token, address] = actor.arguments();
    let arguments = [
        event.into(),
        pg_uuid(user).into(),
        detail.into(),
        count.into(),
        role,
        by_token,
        address,
    ];
    RECORD_COUNTED.with(|statement| statement.run(&arguments, |_| Ok(())))
}

/// Removes up to `max` events that have been kept as long as `supabase_pat.event_retention` says.
pub fn sweep(now: Instant, max: i64) -> Result<(), Error> {
    let Some(seconds) = settings::event_retention() else {
        return Ok(());
    };
    let end = now.plus_seconds(-seconds).to_timestamp()?;
    SWEEP.with(|statement| statement.sweep(&[end.into(), max.into()]))
}
