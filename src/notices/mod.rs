//! Notices: what users are told by mail of their tokens. They wait in the table `pat.notices` for the mail worker.
//!
//! A notice is written in the transaction of what it tells of. It holds neither an address nor a secret: to whom it goes,
//! in which language, and whether there is still something to tell is looked up when a worker claims it. Writing one
//! only adds a row, so that no transaction waits for another one because of it, or fails.

mod attribution;
mod expiry;
mod revocation;
mod room;
mod store;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::account::Address;
use supabase_pat_core::error::Error;
use supabase_pat_core::notices::{self, Kind, Pending};

pub use attribution::{By, as_leaked, attributed};
pub use revocation::deleted;
pub use room::of as room;
pub use store::{About, tell, tidy};

use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::{rights, settings};
use crate::users::{accounts, state};
use store::Claimed;

extension_sql_file!(
    "../../sql/notices.sql",
    name = "notices",
    requires = ["tokens", claim_notices, notice_sent, notice_failed]
);

/// How many notices that are not to be sent any more a call looks at, at most.
const MAX_LAPSED: usize = 10_000;

/// How many notices are looked at together, if no more are wanted.
const MAX_AT_ONCE: i32 = 256;

#[pg_extern(requires = ["schema"])]
#[allow(clippy::type_complexity)]
fn claim_notices(
    max: default!(Option<i32>, 10),
) -> Result<
    TableIterator<
        'static,
        (
            name!(id, i64),
            name!(kind, String),
            name!(email, String),
            name!(language, Option<String>),
            name!(token_name, Option<String>),
            name!(token_hint, Option<String>),
            name!(is_rotation, bool),
            name!(others, Option<i32>),
            name!(actor, Option<String>),
            name!(actor_token, Option<String>),
            name!(found_at, Option<String>),
            name!(happened_at, TimestampWithTimeZone),
            name!(expires_at, Option<TimestampWithTimeZone>),
            name!(attempt, i32),
        ),
    >,
    ErrorReport,
> {
    reported(|| {
        rights::require_mail_worker("claim notices")?;
        rights::require_writable("claiming notices")?;
        let max = max.ok_or(Error::NullArgument("max"))?;
        let now = Instant::now();
        store::sweep(now, 10_000)?;
        if settings::notices().has(Kind::Expiring) {
            expiry::sweep(now)?;
        }
        let mut opened = Vec::new();
        let mut beyond = Vec::new();
        let (mut wanted, mut lapsed) = (max.max(0), 0);
        // What is over must not hide what waits. Where much is over, more are looked at each time.
        let mut at_once = wanted;
        while wanted > 0 && lapsed < MAX_LAPSED {
            let claimed = store::claim(at_once, settings::outbox_lease(), now)?;
            at_once = at_once
                .saturating_mul(2)
                .clamp(wanted, wanted.max(MAX_AT_ONCE));
            if claimed.is_empty() {
                break;
            }
            for notice in claimed {
                match open(&notice, now)? {
                    Ok(_) if wanted == 0 => beyond.push(notice.id),
                    Ok(letter) => {
                        wanted -= 1;
                        let shown = |text: &Option<String>| text.as_deref().map(notices::shown);
                        opened.push((
                            notice.id,
                            notice.kind.as_str().to_owned(),
                            letter.address.as_str().to_owned(),
                            letter.language,
                            shown(&notice.name),
                            shown(&notice.hint),
                            notice.is_rotation,
                            letter.others,
                            notice.actor.clone(),
                            shown(&letter.actor_token),
                            shown(&notice.found_at),
                            notice.happened_at.to_timestamp()?,
                            letter.expires_at.map(Instant::to_timestamp).transpose()?,
                            notice.attempt,
                        ));
                    }
                    Err(reason) => {
                        lapsed += 1;
                        store::drop(notice.id, reason, now)?;
                    }
                }
            }
        }
        store::leave(beyond)?;
        Ok(TableIterator::new(opened))
    })
}

#[pg_extern(requires = ["schema"])]
fn notice_sent(id: Option<i64>) -> SqlResult<bool> {
    reported(|| {
        rights::require_mail_worker("confirm notices")?;
        rights::require_writable("confirming a notice")?;
        let id = id.ok_or(Error::NullArgument("id"))?;
        store::sent(id, Instant::now())
    })
}

#[pg_extern(requires = ["schema"])]
fn notice_failed(id: Option<i64>, error: default!(Option<&str>, "NULL")) -> SqlResult<bool> {
    const MAX_ERROR: usize = 500;
    reported(|| {
        rights::require_mail_worker("return notices")?;
        rights::require_writable("returning a notice")?;
        let id = id.ok_or(Error::NullArgument("id"))?;
        let error = error.unwrap_or("no reason given");
        let error: String = error.chars().take(MAX_ERROR).collect();
        store::failed(id, &error, Instant::now())
    })
}

/// What a notice has only when it is about to be sent.
struct Letter {
    address: Address,
    language: Option<String>,
    /// How many tokens it tells of, if it stands for several.
    others: Option<i32>,
    expires_at: Option<Instant>,
    /// The name of the token that has done it.
    actor_token: Option<String>,
}

/// Looks up to whom a notice goes, or why it is not to be sent any more.
fn open(notice: &Claimed, now: Instant) -> Result<Result<Letter, &'static str>, Error> {
    let expiry = match (notice.kind, notice.token) {
        (Kind::Expiring, Some(token)) => Some(expiry::of(notice, token)?),
        _ => None,
    };
    let pending = Pending {
        kind: notice.kind,
        due_at: notice.due_at.unix_seconds(),
        expiry,
    };
    if let Some(reason) = pending.lapse(now.unix_seconds()) {
        return Ok(Err(reason));
    }
    // One that has an address has it for something else, and what a manager does for it is not done with its login.
    if accounts::is_account(notice.user) {
        return Ok(Err("the user is a service account"));
    }
    let Some(user) = state::correspondent(notice.user) else {
        return Ok(Err("the user has no confirmed address, or may not log in"));
    };
    let Ok(address) = Address::stored(&user.email) else {
        return Ok(Err("the address of the user is none"));
    };
    let others = match notice.token {
        Some(_) => None,
        None if notice.kind == Kind::Expiring => Some(expiry::count(notice.user, now)?),
        None => Some(store::count_events(notice)?),
    };
    if others == Some(0) {
        return Ok(Err("there is nothing left to tell"));
    }
    let language = user.metadata.as_deref().and_then(notices::language);
    let expires_at = expiry.and_then(|expiry| expiry.token);
    Ok(Ok(Letter {
        address,
        language,
        others,
        expires_at: expires_at.map(|token| Instant::from_unix_seconds(token.expires_at)),
        actor_token: store::name_of_actor(notice)?,
    }))
}
