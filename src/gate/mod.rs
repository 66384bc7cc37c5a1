//! The gate refuses each request that should not run, before any query. The [`guard`] asks it in the connections of
//! guarded logins, and `pat.gate()`, for PostgREST's `db-pre-request`, wherever it is called.
//!
//! It checks in this order, and the first check that fails decides the answer:
//!
//! 1. [`deny`]: whether the request carries a denied token. 401.
//! 2. [`token`]: which token it presents, and whether that token is live, and its user there and not banned. 401.
//! 3. [`check_address`]: whether the token may be used from the address that the request comes from. 403.
//! 4. [`scopes`]: whether the scopes of the token allow this method and path. 403.
//! 5. [`rate_limit`]: whether the token has requests left in the windows of its limits. 429, or 503 if they cannot be
//!    counted.
//! 6. [`Token::assume`]: whether the role that the user has is one for tokens. 403.
//!
//! Which tables the statements of a request touch, and what they return of what they write, is checked later, when each
//! of them starts ([`reach`]), and what errors show of it when they are sent ([`row_errors`]).
//!
//! Messages and statuses are in [`supabase_pat_core::refusal`]; how an error gets to the REST server is in [`raise`].

mod coming;
mod current;
pub mod deny;
pub mod guard;
pub mod leaks;
mod lease_table;
pub mod raise;
mod rate_limit;
pub mod reach;
pub mod row_errors;
mod scopes;
mod token;
pub mod usage;
mod usage_summary;
mod uses;
pub mod worker;

use std::net::IpAddr;

use pgrx::prelude::*;
use supabase_pat_core::error::Error;
use supabase_pat_core::refusal::Refusal;
use supabase_pat_core::scope::Scopes;

use crate::pg::settings;
use crate::request::admitted;
use crate::request::http::{self, HttpRequest};
use crate::tokens::lookup::StoredToken;
use guard::When;
use raise::{Decision, Raised};
use token::Token;
use usage::Bearer;

extension_sql_file!(
    "../../sql/gate.sql",
    name = "gate",
    requires = [
        "request",
        current::current_api_key,
        deny::deny_token,
        explain_access,
        leaks::report_leaked_tokens
    ]
);

raise::gate!(pg_finfo_supabase_pat_gate, supabase_pat_gate, decide);

/// Why a request goes no further.
enum Stop {
    /// The request should not run.
    Refused(Refusal),
    /// The gate could not find out whether it should.
    Failed(Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// For `pat.gate()`: after the guard it has nothing to do but to call the next function.
fn decide() -> Result<Decision, Error> {
    if !guard::has_judged() {
        if let Some(refused) = judge(When::InTime)? {
            return Ok(Decision::Refused(refused));
        }
        if guard::is_guarded() {
            guard::note_judged()?;
        }
    }
    let next = match settings::next_pre_request() {
        Some(name) => raise::find_next(&name)?,
        None => pg_sys::InvalidOid,
    };
    Ok(Decision::Admitted(next))
}

/// Judges the present request: the error that refuses it, or none.
fn judge(when: When) -> Result<Option<Raised>, Error> {
    let headers = http::headers();
    let request = HttpRequest::present(headers.as_deref());
    // A call without a method was made by hand, and does not show that a REST server calls the gate.
    if http::has_method() {
        usage::count_request();
    }
    let mut bearer = None;
    match admit(&request, &mut bearer, when) {
        Ok(()) => Ok(None),
        Err(Stop::Refused(refusal)) => {
            usage::count_refusal(refusal.reason(), bearer, request.address());
            Ok(Some(Raised::by(&refusal)))
        }
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Makes all checks. `bearer` becomes the token that the request was made with as soon as it is known, so that a
/// refusal can be counted for it.
fn admit(request: &HttpRequest, bearer: &mut Option<Bearer>, when: When) -> Result<(), Stop> {
    deny::check(request)?;
    // A request with an opaque token is that of its user, whatever else it carries.
    let opaque = match when {
        When::Within => None,
        When::InTime | When::Late => Token::of_headers(request, bearer)?,
    };
    let token = match opaque {
        Some(token) => Some(token),
        None => Token::of_claims(bearer)?,
    };
    let Some(token) = token else {
        // A function that acts for somebody without a token does so within the request of one that was let through: its
        // scopes go on to limit what is touched, and it is still let through when the function ends.
        return match when {
            When::Within => Ok(()),
            _ => Ok(admitted::admit_no_token()?),
        };
    };
    let address = request.address();
    check_address(&token.stored, address)?;
    scopes::check(&token.scopes, request)?;
    rate_limit::count(&token.stored, address)?;
    let has_scopes = matches!(token.scopes, Scopes::Only(_));
    match token.stored.needs_gate() || has_scopes {
        true => admitted::admit(token.stored.id, &token.scopes)?,
        false => admitted::admit_no_token()?,
    }
    if has_scopes {
        reach::watch();
    }
    token.assume(when)
}

/// A token that is for certain addresses is refused where the address of the request is not known.
fn check_address(token: &StoredToken, address: Option<IpAddr>) -> Result<(), Refusal> {
    let Some(networks) = token.allowed_networks() else {
        return Ok(());
    };
    let address = address.ok_or(Refusal::AddressUnknown)?;
    match networks.contain(address) {
        true => Ok(()),
        false => Err(Refusal::AddressNotAllowed(address)),
    }
}
