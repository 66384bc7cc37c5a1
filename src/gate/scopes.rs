//! Whether the scopes of a token allow a request, by its method and its path.

use supabase_pat_core::refusal::Refusal;
use supabase_pat_core::route::{Needed, Route};
use supabase_pat_core::scope::{Scope, Scopes};

use super::Stop;
use crate::request::http::HttpRequest;
use crate::request::identity;

/// Checks the scopes of a token, and makes the transaction of a token that only reads READ ONLY, so that a function
/// cannot write for it either. The one exception is the request by which a token revokes itself.
///
/// Returns the scope without which the token is not shown what it writes, if it lacks that scope.
///
/// # Errors
/// [`Refusal::ScopeMissing`], [`Refusal::UnknownRequest`].
pub fn check(scopes: &Scopes, request: &HttpRequest) -> Result<Option<Scope>, Stop> {
    if let Scopes::Unlimited = scopes {
        return Ok(None);
    }
    let schemas = request.schemas();
    let mut asks_itself = true;
    for schema in &schemas {
        match Needed::of(route(request, schema)) {
            Needed::Nothing => (),
            needed if needed.is_granted_by(scopes) => asks_itself = false,
            Needed::Scope(scope, _) => return Err(Refusal::ScopeMissing(scope.to_string()).into()),
            Needed::Everything => return Err(Refusal::UnknownRequest.into()),
        }
    }
    if !asks_itself && scopes.are_read_only() {
        identity::forbid_writing()?;
    }
    let missing = |schema: &Option<String>| {
        let needed = Needed::to_be_shown(route(request, schema))?;
        match (needed.is_granted_by(scopes), needed) {
            (false, Needed::Scope(scope, _)) => Some(scope),
            _ => None,
        }
    };
    Ok(schemas.iter().find_map(missing))
}

/// What the scopes are checked against: the request, if it goes to that schema.
fn route<'a>(request: &'a HttpRequest, schema: &'a Option<String>) -> Route<'a> {
    Route {
        method: &request.method,
        path: &request.path,
        schema: schema.as_deref(),
    }
}
