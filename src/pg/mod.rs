//! The way to Postgres, which knows nothing of the product.

pub mod clock;
pub mod cluster;
pub mod column;
pub mod composite;
pub mod durability;
pub mod error;
pub mod function;
pub mod guc;
pub mod json;
pub mod kept;
mod local;
pub mod lock;
mod memory;
pub mod net;
pub mod pending;
pub mod random;
pub mod relations;
pub mod rights;
pub mod scan;
pub mod settings;
pub mod statement;
pub mod unguarded;
pub mod uuid;

pub use local::Local;
