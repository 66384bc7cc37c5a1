//! The roles that the extension trusts.

use pgrx::prelude::*;

use crate::administration::privileges;
use crate::pg::error::{SqlResult, reported};
use crate::pg::rights;

#[pg_extern(stable, parallel_safe, requires = ["schema"])]
fn is_trusted() -> bool {
    rights::is_trusted()
}

/// For `pat.grant_api_roles()`: from now on `pg_dump` takes the present privileges of an object of the extension for
/// those that CREATE EXTENSION gives.
#[pg_extern(requires = ["schema"])]
fn record_initial_privileges(catalog: pg_sys::Oid, object: pg_sys::Oid) -> SqlResult<()> {
    reported(|| {
        rights::require_trusted("record privileges")?;
        rights::require_writable("recording privileges")?;
        privileges::record_as_initial(catalog, object);
        Ok(())
    })
}
