//! The database that the import `sql` is bound to: what is known of it, and how connections to it are made.

mod backoff;
mod connect;
mod connection;
mod dial;
mod failure;
mod liveness;
mod password;
mod prepared;
mod tls;
mod url;
pub(crate) mod values;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::backoff::Backoff;
use self::liveness::CONNECT_WITHIN;
use self::prepared::Prepares;
use crate::log_limit::LogLimit;
use crate::schema::Schema;

pub(crate) use self::connect::{Connected, Connector, LONG_PATIENCE, Patience};
pub(crate) use self::connection::Connection;
pub(crate) use self::failure::{Failure, TlsFailure};
pub(crate) use self::liveness::{ASK_AGAIN_AFTER, Liveness, TRY_AGAIN_AFTER};
pub use self::url::{DatabaseUrl, DatabaseUrlError};

/// How connections are used.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The longest deadline of a call.
    pub(crate) deadline: Duration,
    /// For how long a connection is kept that nobody uses.
    pub(crate) idle: Duration,
    /// Whether no pooler that mixes up prepared statements can be in between.
    pub(crate) direct: bool,
}

/// A database, and what all connections to it share.
pub(crate) struct Database {
    connector: Connector,
    /// SQL that every connection begins with.
    settings: String,
    pub(crate) schema: Schema,
    pub(crate) idle: Duration,
    pub(crate) liveness: Liveness,
    prepares: Prepares,
    backoff: Mutex<Backoff>,
    /// Held by whoever connects after a failure: one attempt at a time.
    gate: tokio::sync::Mutex<()>,
    /// How many attempts have failed, and how the last one did.
    failed: Mutex<(u64, Failure)>,
    pub(crate) counts: Counts,
    log: Logs,
}

/// What has been done over all connections so far, and how many there are now.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) statements: AtomicU64,
    pub(crate) prepared: AtomicU64,
    pub(crate) opened: AtomicU64,
    /// Connections on which an answer is overdue.
    pub(crate) silent: AtomicUsize,
}

/// One for each kind of line: one kind must not hide another.
struct Logs {
    lost: LogLimit,
    failed: LogLimit,
    connected: LogLimit,
}

impl Database {
    /// Connects to nothing yet.
    pub(crate) fn new(url: &DatabaseUrl, schema: &Schema, settings: &Settings) -> Result<Self> {
        let liveness = Liveness::new(settings.deadline);
        Ok(Self {
            connector: Connector::new(url)?,
            settings: session_settings(liveness.statement_limit()),
            prepares: Prepares::new(settings.direct || *schema == Schema::default()),
            schema: schema.clone(),
            idle: settings.idle,
            liveness,
            backoff: Mutex::new(Backoff::new()),
            gate: tokio::sync::Mutex::default(),
            failed: Mutex::new((0, Failure::Unavailable)),
            counts: Counts::default(),
            log: Logs { lost: LogLimit::new(), failed: LogLimit::new(), connected: LogLimit::new() },
        })
    }

    /// Opens a connection. After a failure there is one attempt at a time, a pause before each, and whoever waits for one
    /// gets its failure. `purpose` is for the log.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        purpose: &str,
        replaces_silent: bool,
    ) -> Result<Connection, Failure> {
        let seen = self.failed.lock().0;
        let turn = if self.backoff.lock().failures() > 0 { Some(self.gate.lock().await) } else { None };
        let (failed, failure) = self.failed.lock().clone();
        if failed > seen {
            return Err(failure);
        }
        let (failures, not_before) = {
            let backoff = self.backoff.lock();
            (backoff.failures(), backoff.not_before())
        };
        tokio::time::sleep_until(not_before).await;
        let began = Instant::now();
        let patience = Patience { whole: CONNECT_WITHIN, silence: self.liveness.login_silence() };
        let connected = self.connector.connect(&self.settings, patience).await;
        match connected {
            Ok(connected) => {
                self.counts.opened.fetch_add(1, Ordering::Relaxed);
                if failures == 0 {
                    tracing::debug!(purpose, "connected to the database");
                } else if let Some(suppressed) = self.log.connected.pass() {
                    tracing::info!(purpose, failures, suppressed, "connected to the database again");
                }
                drop(turn);
                Ok(Connection::new(self.clone(), connected, replaces_silent))
            }
            Err(failure) => {
                self.backoff.lock().failed(began);
                let mut failed = self.failed.lock();
                *failed = (failed.0 + 1, failure.clone());
                if let Some(suppressed) = self.log.failed.pass() {
                    tracing::warn!(purpose, error = %failure, failures = failures + 1, suppressed, "cannot connect to the database");
                }
                Err(failure)
            }
        }
    }

    /// A connection works that was opened then; whether that shows that connecting works.
    fn works(&self, opened: Instant) -> bool {
        self.backoff.lock().works(opened)
    }

    /// A connection cannot be used any more.
    pub(crate) fn lost(&self, purpose: &str, connection: &Connection, reason: &dyn std::fmt::Display) {
        self.backoff.lock().ended(connection.opened());
        if let Some(suppressed) = self.log.lost.pass() {
            tracing::warn!(purpose, %reason, suppressed, "the database connection is lost");
        }
    }
}

/// What every connection begins with. A pooler in transaction mode may apply it to another connection than it will use:
/// then those limits hold that are set on the role that logs in.
///
/// Citus passes times on to its workers as text in the session's style, of which only ISO always reads back as it was.
fn session_settings(limit: Duration) -> String {
    let limit = limit.as_millis();
    format!(
        "set statement_timeout = {limit}; set lock_timeout = {limit}; \
         set default_transaction_isolation = 'read committed'; set search_path = pg_catalog, pg_temp; \
         set datestyle = 'ISO'"
    )
}
