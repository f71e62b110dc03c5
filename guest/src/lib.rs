//! The rules of cimd-cache, and the component made of them.
//!
//! Everything that decides what the cache answers is here: limits, the checks on a document, tickets, the SQL, and
//! what its rows and errors mean. The rules are plain Rust behind the trait [`sql::Sql`], and run natively under
//! their tests. On `wasm32` the module `component` binds them to the WIT world; that one file is all there is
//! between the rules and a host.

pub mod cache;
pub mod error;
pub mod limits;
pub mod metadata;
pub mod sql;
pub mod statements;
pub mod ticket;

#[cfg(target_arch = "wasm32")]
mod component;
