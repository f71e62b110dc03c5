//! The room of Postgres: how a database is named, reached and spoken to.
//!
//! From the bottom: `failure` says why a statement gave no rows, `connect_error` what an operator can do
//! about a connection that cannot be had; `url`, `pgpass`, `tls` say where the database is and how to log in;
//! `target` and `socket` lead there, and `connect` logs in. `backoff`, `liveness` and `prepared` are
//! decisions without any network. `database` is what all connections to one database share, `connection` is
//! one of them, and `open` makes one.

mod backoff;
mod connect;
mod connect_error;
mod connection;
mod database;
mod failure;
mod liveness;
mod open;
mod pgpass;
mod prepared;
mod socket;
mod target;
mod tls;
mod url;
pub(crate) mod values;

pub(crate) use self::connect::{Connected, Connector, LONG_TIMEOUTS};
pub use self::connect_error::ConnectError;
pub(crate) use self::connection::Connection;
pub(crate) use self::database::{Database, Settings};
pub(crate) use self::failure::Failure;
pub(crate) use self::liveness::{ASK_AGAIN_AFTER, TRY_AGAIN_AFTER};
pub(crate) use self::open::open;
pub use self::tls::CertificateError;
pub use self::url::{DatabaseUrl, DatabaseUrlError};
