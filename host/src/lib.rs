//! A shared cache for OAuth Client ID Metadata Documents, for authorization servers and gateways.
//!
//! An OAuth client that identifies itself by a URL (Client ID Metadata Documents,
//! draft-ietf-oauth-client-id-metadata-document) is known by the JSON behind that URL. The server fetches and
//! validates it, and must not do so again for every request. This crate keeps the validated documents in
//! Postgres, for all nodes: never served past their expiry, never an older one over a newer one, never a
//! silent no-op.
//!
//! The rules run in a WebAssembly component, sandboxed by wasmtime; its only way out is a list of SQL
//! statements that this crate sends for it.
//!
//! # Example
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use cimd_cache::{Cache, Expiry, Lookup};
//!
//! # async fn fetch_and_validate(url: &str) -> anyhow::Result<(String, Duration)> { anyhow::bail!("{url}") }
//! /// The metadata of a client, from the cache or from its origin.
//! async fn client(cache: &Cache, client_id: &str) -> anyhow::Result<String> {
//!     // A miss comes with a ticket, which says when the fetch that follows began.
//!     let ticket = match cache.get(client_id).await? {
//!         Lookup::Hit(entry) => return Ok(entry.metadata),
//!         Lookup::Miss(ticket) => ticket,
//!     };
//!     // Yours: fetch it, validate it, and take the lifetime from the response. A failure is not stored.
//!     let (metadata, lifetime) = fetch_and_validate(client_id).await?;
//!     cache.put(client_id, &metadata, Expiry::After(lifetime), Some(&ticket)).await?;
//!     Ok(metadata)
//! }
//!
//! #[tokio::main]
//! async fn main() -> anyhow::Result<()> {
//!     let cache = Cache::builder().database_url("postgres://cimd_cache_app@localhost/auth").build()?;
//!     // Reports what is missing, if anything: the server, the schema, a privilege.
//!     cache.check().await?;
//!     println!("{}", client(&cache, "https://client.example.com/client-metadata.json").await?);
//!     Ok(())
//! }
//! ```
//!
//! # What goes over which connection
//!
//! A [`Cache`] opens connections when it first needs them and keeps them for a while: a few for gets, some
//! for puts and deletes, one for sweeps. Each does one thing at a time, and gets that wait for one travel
//! together: one statement looks up to 32 documents up. It replaces connections that fail.
//!
//! # Programs with a wasmtime of their own
//!
//! [`COMPONENT`] is the component, [`sql`] what it imports, as something to add to a linker.

mod bindings;
mod builder;
mod cache;
mod error;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod log_limit;
mod near_cache;
mod postgres;
mod sandbox;
mod schema;
mod span;
pub mod sql;
mod types;
mod workers;

pub use crate::builder::{BuildError, Builder};
pub use crate::cache::Cache;
pub use crate::error::Error;
pub use crate::postgres::{CertificateError, ConnectError, DatabaseUrl, DatabaseUrlError};
pub use crate::sandbox::COMPONENT;
pub use crate::schema::{CheckError, CheckReport, Schema, SchemaError, migrations};
pub use crate::types::{Entry, Expiry, Lookup, PoolStats, PutOutcome, Stats, SweepOutcome, Ticket};
pub use cimd_cache_guest::statements;

/// The front page's example.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct FrontPage;
