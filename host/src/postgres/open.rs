//! Opening a connection, when the database may be away and many workers want one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::connect::ConnectTimeouts;
use super::connection::Connection;
use super::database::Database;
use super::failure::Failure;
use super::liveness::CONNECT_WITHIN;

/// Opens a connection. After a failure there is one attempt at a time, with a pause before each, and all who
/// wait for it share its failure. `purpose` is for the log.
pub(crate) async fn open(
    database: &Arc<Database>,
    purpose: &str,
    replaces_silent: bool,
) -> Result<Connection, Failure> {
    let seen = database.failed.lock().0;
    let permit = if database.backoff.lock().failures() > 0 { Some(database.gate.lock().await) } else { None };
    let (failed, failure) = database.failed.lock().clone();
    if failed > seen {
        return Err(failure);
    }
    let (failures, not_before) = {
        let backoff = database.backoff.lock();
        (backoff.failures(), backoff.not_before())
    };
    tokio::time::sleep_until(not_before).await;
    let began = Instant::now();
    let timeouts = ConnectTimeouts { total: CONNECT_WITHIN, idle: database.liveness.login_silence() };
    let connected = database.connector.connect(&database.settings, timeouts).await;
    match connected {
        Ok(connected) => {
            database.counts.opened.fetch_add(1, Ordering::Relaxed);
            if failures == 0 {
                tracing::debug!(purpose, "connected to the database");
            } else if let Some(suppressed) = database.log.connected.pass() {
                tracing::info!(purpose, failures, suppressed, "connected to the database again");
            }
            drop(permit);
            Ok(Connection::new(database.clone(), connected, replaces_silent))
        }
        Err(failure) => {
            database.backoff.lock().failed(began);
            let mut failed = database.failed.lock();
            *failed = (failed.0 + 1, failure.clone());
            if let Some(suppressed) = database.log.failed.pass() {
                tracing::warn!(purpose, error = %failure, failures = failures + 1, suppressed, "cannot connect to the database");
            }
            Err(failure)
        }
    }
}
