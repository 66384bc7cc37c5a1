//! Which token the gate has let through in this transaction. A token for certain addresses, with a limit or with
//! scopes is valid only in such a transaction.
//!
//! # Where it is kept
//! It is kept in a setting, as SET LOCAL sets it. So it ends with the transaction, or with the savepoint that it was
//! set in, is never there for the next client of a pooled connection, and reaches parallel workers with all other
//! settings. A variable of this library would do none of this by itself.
//!
//! # Who can set it
//! Only the gate can set it. Postgres would let superusers set it, in a session, a database or a configuration file;
//! the check hook refuses each of these, and `RESET ALL` leaves it alone.
//!
//! # What it says
//! It holds the id of the token that was let through. It does not hold the claims: the next pre-request function may
//! add to them, and a restriction belongs to the token. If the token has a list of scopes, these follow the id, each
//! after a space: see [`crate::gate::reach`].
//!
//! Scopes stay in force to the end of the transaction: whoever gets another request judged in it, by changing the
//! claims, gets no more scopes by that. A server has one request in a transaction.

use supabase_pat_core::error::Error;
use supabase_pat_core::scope::Scopes;
use uuid::Uuid;

use crate::pg::guc::OwnSetting;

const ID_LENGTH: usize = 36;

static ADMITTED: OwnSetting = OwnSetting::new(c"supabase_pat.judged_key");

/// Defines the setting. To be called once, from `_PG_init`.
pub fn define() {
    ADMITTED.define(
        c"The token that pat.gate has let through in this transaction. Nobody else can set it.",
    );
}

/// Notes that the gate lets a token through, by its id, and what its scopes are.
///
/// # Errors
/// [`Error::Internal`] for a scope with a NUL in it.
pub fn admit(token: Uuid, scopes: &Scopes) -> Result<(), Error> {
    let scopes = match self::scopes() {
        Some(before) => before.meet(scopes),
        None => scopes.clone(),
    };
    ADMITTED.set(&match scopes.to_claim() {
        None => token.to_string(),
        Some(scopes) => format!("{token} {scopes}"),
    })
}

/// Notes that the gate lets no token through: the request has none, or its token is refused.
pub fn admit_no_token() -> Result<(), Error> {
    match ADMITTED.text() {
        Some(_) if !has_scopes() => ADMITTED.set(""),
        _ => Ok(()),
    }
}

/// Whether the gate has let the token with this id through in this transaction.
pub fn has_admitted(token: Uuid) -> bool {
    ADMITTED.text().is_some_and(|text| {
        text.get(..ID_LENGTH)
            .and_then(|id| Uuid::try_parse(id).ok())
            == Some(token)
    })
}

/// The scopes of the token that the gate has let through. `None` if it has let none through, or one without a list.
pub fn scopes() -> Option<Scopes> {
    Some(Scopes::from_claim(ADMITTED.text()?.get(ID_LENGTH + 1..)?))
}

/// Whether [`scopes`] says anything. It is asked for each statement, and allocates nothing.
#[inline(always)]
pub fn has_scopes() -> bool {
    ADMITTED.is_longer_than(ID_LENGTH)
}
