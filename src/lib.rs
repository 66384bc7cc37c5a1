//! Personal access tokens for Supabase and PostgREST.
//!
//! Each capability has a folder, which holds its SQL functions and what they do in the database. The rules behind them
//! are in [`supabase_pat_core`], which knows no Postgres. The way to Postgres is in `pg`, which knows nothing of tokens,
//! sessions or users, only the settings and which tables and roles are the extension's. CONTRIBUTING.md says which
//! module may use which.

// pgrx recognises an ErrorReport by its type, so it cannot be boxed.
#![allow(clippy::result_large_err)]

use pgrx::prelude::*;

mod administration;
mod events;
mod gate;
mod introspection;
mod jwt;
mod notices;
mod passwords;
mod pg;
mod request;
mod service_accounts;
mod sessions;
mod signing_keys;
mod tokens;
mod user_settings;
mod users;

::pgrx::pg_module_magic!(name, version);

/// The schema of the client API. It is there in every database; the declaration lets functions be
/// put into it.
#[pg_schema]
mod public {}

// What the install script begins and ends with. The SQL of a capability stands in its module, and says what it comes
// after. CREATE EXTENSION creates `pat`, as the control file says.
extension_sql_file!("../sql/schema.sql", name = "schema", bootstrap);
extension_sql_file!("../sql/grants.sql", name = "grants", finalize);

#[pg_guard]
#[allow(non_snake_case)]
pub extern "C-unwind" fn _PG_init() {
    pg::error::install_panic_hook();
    pg::guc::install();
    request::admitted::define();
    gate::guard::define();
    // Nobody defines a setting of ours after this.
    pg::settings::define();
    let is_preloaded = pg::settings::is_preloaded();
    request::run::install_hook(is_preloaded.then_some(gate::guard::AROUND));
    // Each is called before those that stand above it: the guard judges the request first.
    pg::own_locks::install();
    request::auth_functions::install();
    gate::reach::install();
    gate::row_errors::install();
    if is_preloaded {
        gate::guard::install();
        passwords::attempts::init();
        passwords::throttle::init();
        gate::usage::init();
        gate::leaks::init();
        gate::worker::register();
    }
}
