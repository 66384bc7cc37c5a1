//! The state of an installation, and the roles that it trusts.

mod metrics;
mod privileges;
pub mod roles;
pub mod status;

use pgrx::extension_sql_file;

extension_sql_file!(
    "../../sql/administration.sql",
    name = "administration",
    requires = [
        "signing_keys",
        "tokens",
        "jwt",
        "sessions",
        "passwords",
        "gate",
        "service_accounts",
        status::server_state,
        status::secret_problem,
        metrics::metrics,
        roles::record_initial_privileges
    ]
);
extension_sql_file!("../../sql/auth_schema.sql", name = "auth_schema");
