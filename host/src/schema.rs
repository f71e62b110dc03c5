//! The tables: the schema they are in, what a database says of them, whether they can be used, and how they
//! are made.

pub(crate) mod check;
mod inspect;
pub mod migrations;
mod name;

pub use self::check::{CheckError, CheckReport};
pub use self::name::{Schema, SchemaError};
