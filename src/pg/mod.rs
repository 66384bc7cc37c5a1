//! The way to Postgres. Nothing here knows of tokens, sessions or users, only the settings and which tables and roles
//! are the extension's.

pub mod changes;
pub mod clock;
pub mod cluster;
pub mod column;
pub mod composite;
mod created;
pub mod durability;
pub mod error;
pub mod function;
pub mod guc;
pub mod hooks;
pub mod json;
pub mod kept;
pub mod known_rows;
mod local;
pub mod lock;
pub mod memory;
pub mod net;
pub mod own_locks;
pub mod predicate;
pub mod random;
pub mod relations;
pub mod rights;
pub mod safe_view;
pub mod scan;
pub mod secret_argument;
pub mod settings;
pub mod statement;
pub mod unguarded;
pub mod uuid;

pub use local::Local;
