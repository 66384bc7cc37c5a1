//! What must hold of the core for any input, one function a fuzz target. Each takes the bytes of an
//! input, and panics where something does not hold. Neither clock nor configuration is read, so that
//! an input that fails once fails again; only what AWS-LC draws by itself differs from run to run.

mod api_key;
mod attributes;
mod claims;
mod gate;
mod input;
mod introspection;
mod json;
mod json_schema;
mod jwk;
mod jwt;
mod keys;
mod merge_patch;
mod notices;
mod pgjwt;
mod presented;
mod rate_headers;
mod reset_code;
mod restrictions;
mod scope;
mod token;
mod user_settings;

pub use api_key::api_key;
pub use attributes::attributes;
pub use claims::claims;
pub use gate::gate;
pub use introspection::introspection;
pub use json_schema::json_schema;
pub use jwk::jwk;
pub use jwt::jwt;
pub use merge_patch::merge_patch;
pub use notices::notices;
pub use pgjwt::pgjwt;
pub use presented::presented;
pub use rate_headers::rate_headers;
pub use reset_code::reset_code;
pub use restrictions::restrictions;
pub use scope::scope;
pub use token::token;
pub use user_settings::user_settings;

pub type Property = fn(&[u8]);

/// By the names of the binaries and of the folders under `corpus`.
pub const PROPERTIES: [(&str, Property); 18] = [
    ("api_key", api_key),
    ("attributes", attributes),
    ("claims", claims),
    ("gate", gate),
    ("introspection", introspection),
    ("json_schema", json_schema),
    ("jwk", jwk),
    ("jwt", jwt),
    ("merge_patch", merge_patch),
    ("notices", notices),
    ("pgjwt", pgjwt),
    ("presented", presented),
    ("rate_headers", rate_headers),
    ("reset_code", reset_code),
    ("restrictions", restrictions),
    ("scope", scope),
    ("token", token),
    ("user_settings", user_settings),
];
