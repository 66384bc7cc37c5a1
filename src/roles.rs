//! Whom the extension trusts.

use pgrx::prelude::*;

use crate::pg::caller;

#[pg_extern(stable, parallel_safe, requires = ["schema"])]
fn is_trusted() -> bool {
    caller::is_trusted()
}
