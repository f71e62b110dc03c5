//! The rules of cimd-cache, and the component made of them.
//!
//! Everything that decides what the cache answers is here: limits, the checks on a document, tickets, the
//! SQL, and what its rows and errors mean. The rules are plain Rust behind the trait [`sql::Sql`]; their
//! tests run them natively. On `wasm32` the module `component` binds them to the WIT world. That one file is
//! all there is between the rules and a host.
//!
//! ```
//! use cimd_cache_guest::cache::{Cache, Lookup};
//! use cimd_cache_guest::sql::{Row, Sql, SqlError, Value};
//! use cimd_cache_guest::statements::Statement;
//!
//! /// A database in which nothing is ever stored.
//! struct Empty;
//!
//! impl Sql for Empty {
//!     fn query(&mut self, _: &'static Statement, _: Vec<Value>) -> Result<Vec<Row>, SqlError> {
//!         let (now, last_purge) = (Value::Int64(1_795_465_560_000_000), Value::Int64(0));
//!         Ok(vec![vec![now, last_purge, Value::Null, Value::Null]])
//!     }
//! }
//!
//! assert!(matches!(Cache(Empty).get("https://client.example/metadata.json"), Ok(Lookup::Miss(_))));
//! ```

pub mod cache;
pub mod document;
pub mod error;
pub mod limits;
pub mod sql;
pub mod statements;
pub mod ticket;

#[cfg(target_arch = "wasm32")]
mod component;
