//! Whether the scopes of a token allow a request, by its method and its path.

use supabase_pat_core::refusal::Refusal;
use supabase_pat_core::route::{Needed, Route};
use supabase_pat_core::scope::Scopes;

use super::Stop;
use crate::request::http::HttpRequest;
use crate::request::identity;

/// Checks the scopes of a token, and makes the transaction of a token that only reads READ ONLY, so that a function
/// cannot write for it either. The one exception is the request by which a token revokes itself. What the statements of
/// the request touch is checked when they start ([`super::reach`]).
///
/// # Errors
/// [`Refusal::ScopeMissing`], [`Refusal::UnknownRequest`].
pub fn check(scopes: &Scopes, request: &HttpRequest) -> Result<(), Stop> {
    if let Scopes::Unlimited = scopes {
        return Ok(());
    }
    let (method, path) = (request.method(), request.path());
    let schemas = request.schemas(&method);
    let mut asks_itself = true;
    for schema in &schemas {
        // What the scopes are checked against: the request, if it goes to that schema.
        let route = Route {
            method: &method,
            path: &path,
            schema: schema.as_deref(),
        };
        match Needed::of(route) {
            Needed::Nothing { writes } => asks_itself &= writes,
            needed if needed.is_granted_by(scopes) => asks_itself = false,
            Needed::Scope(scope, _) => {
                let scope = scope.to_string();
                return Err(Refusal::ScopeMissing { scope, done: None }.into());
            }
            Needed::Everything => return Err(Refusal::UnknownRequest.into()),
        }
    }
    if !asks_itself && scopes.are_read_only() {
        identity::forbid_writing()?;
    }
    Ok(())
}
