//! Personal access tokens for Supabase and PostgREST.
//!
//! The SQL functions stand in one file a feature, the logic behind them in [`supabase_pat_core`],
//! which knows no Postgres, and the way to Postgres in [`pg`]. Arrows run one way: features use
//! core and pg, pg uses core.

// pgrx recognises an ErrorReport by its type, so it cannot be boxed.
#![allow(clippy::result_large_err)]

use pgrx::prelude::*;

mod administration;
mod events;
mod gate;
mod jwt;
mod passwords;
mod pg;
mod request;
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

// The order of the install script: tables and types, the functions of the modules, and what needs
// both. `pat` is created by CREATE EXTENSION, as the control file says.
extension_sql_file!("../sql/schema.sql", name = "schema", bootstrap);
extension_sql_file!(
    "../sql/policy_functions.sql",
    name = "policy_functions",
    requires = ["schema"]
);
extension_sql_file!(
    "../sql/signing_keys.sql",
    name = "signing_keys",
    requires = ["schema", administration::roles::is_trusted]
);
extension_sql_file!(
    "../sql/reset.sql",
    name = "reset",
    requires = ["schema", administration::roles::is_trusted]
);
extension_sql_file!(
    "../sql/session.sql",
    name = "session",
    requires = ["schema"]
);
extension_sql_file!(
    "../sql/user_settings.sql",
    name = "user_settings",
    requires = [
        "policy_functions",
        request::policy::has_scope,
        request::policy::is_active_session,
        administration::roles::is_trusted
    ]
);
extension_sql_file!(
    "../sql/gate.sql",
    name = "gate",
    requires = ["schema", administration::roles::is_trusted]
);
extension_sql_file!(
    "../sql/status.sql",
    name = "status",
    requires = [
        "schema",
        "signing_keys",
        tokens::mint_pat,
        passwords::reset::reset_code_digits,
        administration::status::server_state,
        administration::status::secret_problem
    ]
);
extension_sql_file!(
    "../sql/auth_schema.sql",
    name = "auth_schema",
    requires = ["schema"]
);
extension_sql_file!(
    "../sql/policies.sql",
    name = "policies",
    requires = [
        "policy_functions",
        request::policy::has_scope,
        request::policy::is_active_session,
        administration::roles::is_trusted
    ]
);
extension_sql_file!(
    "../sql/comments.sql",
    name = "comments",
    requires = [
        "policies",
        "signing_keys",
        "reset",
        "session",
        "gate",
        "status",
        "auth_schema",
        gate::deny::deny_token,
        tokens::mint_pat,
        tokens::rotate_pat,
        tokens::revoke_pat,
        tokens::revoke_pat_and_its_own,
        tokens::revoke_all_pats,
        request::policy::current_api_key_id,
        jwt::sign_jwt,
        jwt::verify_jwt,
        jwt::jwt_status,
        jwt::decode_jwt,
        jwt::jwt_expires_in,
        jwt::bearer_token,
        signing_keys::add_signing_key,
        signing_keys::import_signing_key,
        signing_keys::rotate_signing_key,
        signing_keys::revoke_signing_key,
        signing_keys::jwks,
        signing_keys::jwks_for_verifier,
        signing_keys::take_private_jwk,
        jwt::pgjwt::sign,
        jwt::pgjwt::algorithm_sign,
        jwt::pgjwt::verify,
        jwt::pgjwt::url_encode,
        jwt::pgjwt::url_decode,
        jwt::api_keys::mint_api_key,
        jwt::api_keys::inspect_api_key,
        passwords::reset::request_password_reset,
        passwords::reset::issue_reset_code,
        passwords::reset::verify_reset_code,
        passwords::reset::reset_password,
        passwords::reset::reset_code_digits,
        passwords::reset::take_password_hash,
        administration::roles::record_initial_privileges,
        passwords::mail::claim_messages,
        passwords::mail::message_sent,
        passwords::mail::message_failed,
        sessions::mint_session,
        sessions::refresh_session,
        sessions::sign_out,
        request::policy::is_active_session,
        sessions::session_info,
        sessions::signed_in_user,
        passwords::sign_in::sign_up,
        passwords::sign_in::confirm_sign_up,
        passwords::sign_in::sign_in,
        "user_settings",
        user_settings::define_setting,
        user_settings::drop_setting,
        user_settings::get_settings,
        user_settings::set_settings
    ]
);
extension_sql_file!("../sql/grants.sql", name = "grants", finalize);

#[pg_guard]
#[allow(non_snake_case)]
pub extern "C-unwind" fn _PG_init() {
    pg::error::install_panic_hook();
    request::admitted::define();
    // Nobody defines a setting of ours after this.
    pg::settings::define();
    request::run::install_hook(gate::returned::check);
    if pg::settings::is_preloaded() {
        passwords::attempts::init();
        passwords::throttle::init();
        gate::usage::init();
        gate::worker::register();
    }
}
