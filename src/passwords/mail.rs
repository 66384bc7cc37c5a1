//! The outbox, for the mail worker that sends its messages.

use pgrx::datum::{TimestampWithTimeZone, Uuid as PgUuid};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use supabase_pat_core::codes::Purpose;
use supabase_pat_core::error::Error;
use supabase_pat_core::sealed;
use uuid::Uuid;

use crate::passwords::outbox::{self, Message};
use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::rights;
use crate::pg::settings;
use crate::pg::uuid::pg_uuid;
use crate::signing_keys::ring::KeysInUse;

#[pg_extern(requires = ["schema"])]
#[allow(clippy::type_complexity)]
fn claim_messages(
    max: default!(Option<i32>, 10),
) -> Result<
    TableIterator<
        'static,
        (
            name!(id, PgUuid),
            name!(purpose, String),
            name!(email, String),
            name!(code, String),
            name!(expires_at, TimestampWithTimeZone),
            name!(attempt, i32),
        ),
    >,
    ErrorReport,
> {
    reported(|| {
        rights::require_mail_worker("claim messages")?;
        rights::require_writable("claiming messages")?;
        let max = max.ok_or(Error::NullArgument("max"))?;
        let now = Instant::now();
        // Mail workers do most of the sweeping, since no user waits for their answers.
        outbox::sweep(now, 10_000)?;
        let claimed = match max > 0 {
            true => outbox::claim(max, settings::outbox_lease(), now)?,
            false => Vec::new(),
        };
        let keys = KeysInUse::all()?;
        let mut opened = Vec::with_capacity(claimed.len());
        for message in claimed {
            match open(&message, &keys) {
                Some((code, email)) => opened.push((
                    pg_uuid(message.id),
                    message.purpose,
                    email,
                    code,
                    message.expires_at,
                    message.attempt,
                )),
                // The signing key is gone, and the token that goes with the code is no longer valid either.
                None => outbox::drop_unreadable(message.id)?,
            }
        }
        Ok(TableIterator::new(opened))
    })
}

#[pg_extern(requires = ["schema"])]
fn message_sent(id: Option<PgUuid>) -> SqlResult<bool> {
    reported(|| {
        rights::require_mail_worker("confirm messages")?;
        rights::require_writable("confirming a message")?;
        outbox::sent(message_id(id)?, Instant::now())
    })
}

#[pg_extern(requires = ["schema"])]
fn message_failed(id: Option<PgUuid>, error: default!(Option<&str>, "NULL")) -> SqlResult<bool> {
    const MAX_ERROR: usize = 500;
    reported(|| {
        rights::require_mail_worker("return messages")?;
        rights::require_writable("returning a message")?;
        let error: String = error
            .unwrap_or("no reason given")
            .chars()
            .take(MAX_ERROR)
            .collect();
        outbox::failed(message_id(id)?, &error, Instant::now())
    })
}

/// The code in a message and the address that it goes to. `None` if the message cannot be opened.
fn open(message: &Message, keys: &KeysInUse) -> Option<(String, String)> {
    let purpose = Purpose::named(&message.purpose)?;
    let key = keys.find(message.signing_key.as_deref())?;
    let text = sealed::open(key, purpose, message.id, &message.sealed)?;
    let (code, address) = text.split_once(' ')?;
    Some((code.to_owned(), address.to_owned()))
}

fn message_id(id: Option<PgUuid>) -> Result<Uuid, Error> {
    let id = id.ok_or(Error::NullArgument("id"))?;
    Ok(Uuid::from_bytes(*id.as_bytes()))
}
