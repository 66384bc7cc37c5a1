//! Personal access tokens for Supabase and PostgREST.
//!
//! The SQL functions stand in one file a feature, the logic behind them in [`supabase_pat_core`],
//! which knows no Postgres, and the way to Postgres in [`pg`]. Arrows run one way: features use
//! core and pg, pg uses core.

// pgrx recognises an ErrorReport by its type, so it cannot be boxed.
#![allow(clippy::result_large_err)]

use pgrx::prelude::*;

mod api_key;
mod codes;
mod gate;
mod jwt;
mod outbox;
mod pat;
mod pg;
mod pgjwt;
mod random;
mod reset;
mod roles;
mod session;
mod sign_in;
mod signing_keys;
mod status;
mod user_settings;

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
    requires = ["schema", roles::is_trusted]
);
extension_sql_file!(
    "../sql/reset.sql",
    name = "reset",
    requires = ["schema", roles::is_trusted]
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
        pat::has_scope,
        session::is_active_session,
        roles::is_trusted
    ]
);
extension_sql_file!(
    "../sql/gate.sql",
    name = "gate",
    requires = ["schema", roles::is_trusted]
);
extension_sql_file!(
    "../sql/status.sql",
    name = "status",
    requires = [
        "schema",
        "signing_keys",
        pat::mint_pat,
        reset::reset_code_digits,
        status::server_state,
        status::secret_problem
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
        pat::has_scope,
        session::is_active_session,
        roles::is_trusted
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
        gate::deny_token,
        pat::mint_pat,
        pat::rotate_pat,
        pat::revoke_pat,
        pat::revoke_pat_and_its_own,
        pat::revoke_all_pats,
        pat::current_api_key_id,
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
        pgjwt::sign,
        pgjwt::algorithm_sign,
        pgjwt::verify,
        pgjwt::url_encode,
        pgjwt::url_decode,
        api_key::mint_api_key,
        api_key::inspect_api_key,
        reset::request_password_reset,
        reset::issue_reset_code,
        reset::verify_reset_code,
        reset::reset_password,
        reset::reset_code_digits,
        reset::take_password_hash,
        roles::record_initial_privileges,
        outbox::claim_messages,
        outbox::message_sent,
        outbox::message_failed,
        session::mint_session,
        session::refresh_session,
        session::sign_out,
        session::is_active_session,
        session::session_info,
        session::signed_in_user,
        sign_in::sign_up,
        sign_in::confirm_sign_up,
        sign_in::sign_in,
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
    pg::init();
}
