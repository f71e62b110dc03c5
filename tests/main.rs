//! Black-box tests of the whole: the real component, in the real host, on a real Postgres.
//!
//! Numbers in the tests' comments are those of the contract in ARCHITECTURE.md.

#![expect(clippy::unwrap_used, reason = "in a test that is how a failure is reported")]

mod program;

mod address_space;
mod answers;
mod callers;
mod command_errors;
mod command_line;
mod component;
mod connections;
mod delete;
mod demo;
mod errors;
mod events;
mod executable_memory;
mod fuzzed;
mod get;
mod names;
mod near;
mod pages;
mod private_postgres;
mod put;
mod races;
mod reconnect;
mod refusals;
mod repair;
mod role;
mod sandbox;
mod schema;
mod service;
mod simulated;
mod sweep;
mod transport;
