//! What all connections to one database share: where it is, what is known of it, and what was counted.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use cimd_cache_guest::statements;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::connect::Connector;
use super::failure::Failure;
use super::liveness::Liveness;
use super::prepared::Prepares;
use super::tls::CertificateError;
use super::url::DatabaseUrl;
use crate::log_limit::LogLimit;

/// How connections are used.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The longest deadline of a call.
    pub(crate) deadline: Duration,
    /// For how long a connection is kept that nobody uses.
    pub(crate) idle: Duration,
    /// Whether statements may be prepared.
    pub(crate) prepare: bool,
}

/// The statements of the list, as this database is to get them: in its schema.
pub(crate) type Statements = [Cow<'static, str>; statements::ALL.len()];

/// A database, and what all connections to it share.
pub(crate) struct Database {
    pub(super) connector: Connector,
    /// SQL that every connection begins with.
    pub(super) settings: String,
    pub(super) statements: Statements,
    pub(crate) idle: Duration,
    pub(crate) liveness: Liveness,
    pub(super) prepares: Prepares,
    pub(super) backoff: Mutex<Backoff>,
    /// Held by whoever connects after a failure: one attempt at a time.
    pub(super) gate: tokio::sync::Mutex<()>,
    /// How many attempts have failed, and how the last one did.
    pub(super) failed: Mutex<(u64, Failure)>,
    pub(crate) counts: Counts,
    pub(super) log: Logs,
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
pub(super) struct Logs {
    lost: LogLimit,
    pub(super) failed: LogLimit,
    pub(super) connected: LogLimit,
}

impl Database {
    /// Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// When the certificates cannot be used.
    pub(crate) fn new(
        url: &DatabaseUrl,
        statements: Statements,
        settings: &Settings,
    ) -> Result<Self, CertificateError> {
        let liveness = Liveness::new(settings.deadline);
        Ok(Self {
            connector: Connector::new(url)?,
            settings: session_settings(liveness.statement_limit()),
            statements,
            prepares: Prepares::new(settings.prepare),
            idle: settings.idle,
            liveness,
            backoff: Mutex::new(Backoff::new()),
            gate: tokio::sync::Mutex::default(),
            failed: Mutex::new((0, Failure::Unavailable)),
            counts: Counts::default(),
            log: Logs { lost: LogLimit::new(), failed: LogLimit::new(), connected: LogLimit::new() },
        })
    }

    /// A connection works that was opened then; whether that shows that connecting works.
    pub(super) fn works(&self, opened: Instant) -> bool {
        self.backoff.lock().works(opened)
    }

    /// A connection that was opened then cannot be used any more.
    pub(crate) fn lost(&self, purpose: &str, opened: Instant, reason: &Failure) {
        self.backoff.lock().ended(opened);
        if let Some(suppressed) = self.log.lost.pass() {
            tracing::warn!(purpose, %reason, suppressed, "the database connection is lost");
        }
    }
}

/// SQL that every connection begins with. A pooler in transaction mode may apply it to a different connection
/// than the one it uses later; then the limits that are set on the login role hold.
///
/// Citus passes times to its workers as text in the session's style, and only ISO always reads back
/// unchanged.
fn session_settings(limit: Duration) -> String {
    let limit = limit.as_millis();
    format!(
        "set statement_timeout = {limit}; set lock_timeout = {limit}; \
         set default_transaction_isolation = 'read committed'; set search_path = pg_catalog, pg_temp; \
         set datestyle = 'ISO'"
    )
}
