//! How an installation stands, and whom it trusts.

mod privileges;
pub mod roles;
pub mod status;
