//! What happened, to whom, and who did it: the table `pat.events`.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid::{INT8OID, TEXTOID, TIMESTAMPTZOID, UUIDOID};
use std::ffi::CStr;
use supabase_pat_core::claims::Credential;
use supabase_pat_core::error::Error;
use uuid::Uuid;

use super::clock::Instant;
use super::http::Origin;
use super::statement::Statement;
use super::store::pg_uuid;
use super::{run, settings};

thread_local! {
    static RECORD: Statement = const { Statement::new(
        "insert into pat.events (event, user_id, key_id, detail, role, by_key, address) \
         values ($1, $2, $3, $4, $5, $6, $7::pg_catalog.inet)",
        &[TEXTOID, UUIDOID, UUIDOID, TEXTOID, TEXTOID, UUIDOID, TEXTOID],
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
    key: Option<Uuid>,
    address: Option<String>,
}

impl Actor {
    /// To be asked before rights are raised.
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
            key: run::with_request(|request| match &request.identity.credential {
                Credential::Token(token) => Some(token.key_id),
                _ => None,
            }),
            address: Origin::of_request().address.map(|ip| ip.to_string()),
        }
    }

    /// The columns `role`, `by_key` and `address`; the last as text.
    pub fn arguments(&self) -> [DatumWithOid<'_>; 3] {
        [
            self.role.as_str().into(),
            self.key.map(pg_uuid).into(),
            self.address.as_deref().into(),
        ]
    }
}

/// Writes an event, and removes a few that are older than they are kept.
pub fn record(
    event: &str,
    user: Option<Uuid>,
    key: Option<Uuid>,
    detail: Option<&str>,
) -> Result<(), Error> {
    let actor = Actor::now();
    let [role, by_key, address] = actor.arguments();
    let arguments = [
        event.into(),
        user.map(pg_uuid).into(),
        key.map(pg_uuid).into(),
        detail.into(),
        role,
        by_key,
        address,
    ];
    RECORD.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    sweep(Instant::now(), 10)
}

/// Removes up to `max` events that are older than they are kept.
pub fn sweep(now: Instant, max: i64) -> Result<(), Error> {
    let Some(seconds) = settings::event_retention() else {
        return Ok(());
    };
    let end = now.plus_seconds(-seconds).to_timestamp()?;
    SWEEP.with(|statement| statement.sweep(&[end.into(), max.into()]))
}
