//! The cache over HTTP: for authorization servers that are not written in Rust, on a Unix socket beside them.
//!
//! [`serve`] is the whole service: it listens, checks who may call, counts, sweeps, and drains when it stops.
//! `cimd-cache serve` is a thin user of it. [`router()`] is the interface alone, for a program with an axum
//! of its own:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let cache = cimd_cache::Cache::builder().database_url("postgres://cimd_cache_app@localhost/auth").build()?;
//! let router = axum::Router::new().nest("/cache", cimd_cache_service::router(cache));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! axum::serve(listener, router).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The interface is `/v1`, described by [`OPENAPI`] and in `docs/operating.md`. It may change until 1.0.
//!
//! From the bottom: `role`, `stop`, `peer` and `call` are words that several files need; `problem`, `query`,
//! `request` and `answer` are about one request; `calls` makes a call of the library of it; `watched`, `tokens`
//! and `access` decide who may; `health`, `metrics`, `process` and `observe` are what operators see; `router` and
//! `ops` are the routes; `address`, `listen`, `tls` and `connections` are the network; `sweeper` works in the
//! background; `service` is the life of it all, `running` the same in a task of its own, and `signal` when to stop.

mod access;
mod address;
mod answer;
mod call;
mod calls;
mod connections;
mod health;
mod listen;
mod metrics;
mod observe;
mod openapi;
mod ops;
mod peer;
mod problem;
mod process;
mod query;
mod request;
mod role;
mod router;
mod running;
mod service;
mod signal;
mod stop;
mod sweeper;
mod tls;
mod tokens;
mod watched;

pub use crate::address::{Address, AddressError, Listen};
pub use crate::listen::SocketAccess;
pub use crate::openapi::OPENAPI;
pub use crate::role::{Role, RoleError, Roles};
pub use crate::router::router;
pub use crate::running::{Running, start};
pub use crate::service::{ServeError, Settings, serve};
pub use crate::signal::interrupted;
pub use crate::tls::{TlsError, TlsFiles};
pub use crate::tokens::TokenError;
