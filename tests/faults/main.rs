//! Fault tests: the cache under load from several nodes, on a Postgres of its own that is killed, stopped,
//! filled, cut off or failed over. Every call is recorded, and the record judged by the contract afterwards.
//!
//! One test at a time, because what they look at is how the whole machine behaves: `scene.rs` has what they
//! share.

#![expect(clippy::unwrap_used, reason = "in a test that is how a failure is reported")]

mod load;
mod node;
mod proxy;
mod record;
mod scene;
mod server;
mod watch;

mod callers;
mod clocks;
mod connections;
mod crashes;
mod disk;
mod failover;
mod hanging;
mod network;
mod pooler;
mod services;
mod soak;
