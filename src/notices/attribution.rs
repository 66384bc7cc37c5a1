//! By whom a token is revoked, for the trigger that tells of it.
//!
//! The trigger runs inside of a statement with the rights of the extension's owner, where the role in force says nothing
//! of the caller any more. So the caller is noted before. Whoever changes the table by hand has the own role in force in
//! the trigger.
#![allow(unsafe_code)]

use supabase_pat_core::claims::Credential;
use supabase_pat_core::notices::Kinds;
use uuid::Uuid;

use crate::pg::Local;
use crate::pg::rights;
use crate::pg::settings;
use crate::request::run;

/// Who has done what a notice tells of.
#[derive(Clone)]
pub enum By {
    /// The user, with a login or a code.
    User,
    /// Another token of the user, or the token itself.
    Token(Uuid),
    /// A trusted role.
    Operator,
    /// Whoever has reported that token as leaked.
    LeakReport {
        token: Uuid,
        found_at: Option<String>,
    },
}

impl By {
    /// Whoever has the role in force and makes the present request.
    pub fn now() -> Self {
        if rights::is_trusted() {
            return Self::Operator;
        }
        run::with_request(|request| match &request.identity.credential {
            Credential::Token(token) => Self::Token(token.id),
            _ => Self::User,
        })
    }

    /// As the table has it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Token(_) => "token",
            Self::Operator => "operator",
            Self::LeakReport { .. } => "leak report",
        }
    }
}

static NOTED: Local<Option<By>> = Local::new(None);

/// Whoever has been noted, or else has the role in force.
pub fn noted() -> By {
    // SAFETY: the reference is gone at the end of the line.
    let noted = unsafe { NOTED.get() }.clone();
    noted.unwrap_or_else(By::now)
}

/// Runs a statement that revokes tokens, whose triggers are told who the present caller is.
pub fn attributed<R>(revoke: impl FnOnce() -> R) -> R {
    // SAFETY: the reference is gone at the end of the line.
    let is_noted = unsafe { NOTED.get() }.is_some();
    match is_noted || settings::notices() == Kinds::NONE {
        true => revoke(),
        false => noting(By::now(), revoke),
    }
}

/// As [`attributed`] for a report that a token has leaked.
pub fn as_leaked<R>(token: Uuid, found_at: Option<&str>, revoke: impl FnOnce() -> R) -> R {
    let found_at = found_at.map(str::to_owned);
    noting(By::LeakReport { token, found_at }, revoke)
}

fn noting<R>(by: By, revoke: impl FnOnce() -> R) -> R {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { *NOTED.get() = Some(by) };
    let _note = Note;
    revoke()
}

/// Forgets who was noted when it is dropped, after an error too.
struct Note;

impl Drop for Note {
    fn drop(&mut self) {
        // SAFETY: the reference is gone at the end of the line.
        unsafe { *NOTED.get() = None };
    }
}
