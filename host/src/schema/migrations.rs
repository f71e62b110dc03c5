//! Brings the schema up to date: only on request, never at startup.
//!
//! It is one transaction on one connection, so it is done whole or not at all, and leaves nothing behind on a
//! pooler's connection. An advisory lock of the transaction makes it safe on many nodes at once. Each
//! statement is sent by itself, because Citus treats several together as one that it cannot plan.

mod error;
mod files;
mod lock;
mod run;
mod settings;

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::postgres::{ConnectError, Connected, Connector, DatabaseUrl, Failure, LONG_TIMEOUTS};

pub use self::error::MigrateError;
pub use self::files::latest;
use self::lock::holder;
use self::run::{Stopped, run};
pub use self::settings::{Migrated, Settings};

/// SQL for an administrator, who runs it once in each database before the first migration: creates the roles
/// `cimd_cache_owner` and `cimd_cache_app`, in one transaction.
pub const ROLES: &str = include_str!("../../../migrations/roles.sql");

/// The longest clock tolerance. It shortens every ticket and lifetime; clocks that differ by more are broken.
const LONGEST_TOLERANCE: Duration = Duration::from_secs(10);

/// Applies the migrations that are missing, and repairs what is missing of those that were applied. Several
/// nodes may do so at once, even through a pooler.
///
/// # Errors
///
/// [`MigrateError`].
pub async fn migrate(database_url: &str, settings: impl Into<Settings>) -> Result<Migrated, MigrateError> {
    let settings = settings.into();
    if settings.clock_tolerance.is_some_and(|tolerance| tolerance > LONGEST_TOLERANCE) {
        return Err(MigrateError::ClockTolerance);
    }
    let url: DatabaseUrl = database_url.parse()?;
    let connector = Connector::new(&url)?;
    let connected = connector.connect("", LONG_TIMEOUTS).await;
    let Connected { mut client, driver, .. } = connected.map_err(|failure| {
        tracing::warn!(error = %failure, "cannot connect to the database");
        MigrateError::Connection(ConnectError::from(&failure))
    })?;
    let connection = tokio::spawn(driver);
    let result = match run(&mut client, &settings).await {
        Err(Stopped::Failed(failure)) => Err(failed(failure, &client, &settings).await),
        Err(Stopped::By(error)) => Err(error),
        Ok(migrated) => Ok(migrated),
    };
    drop(client);
    let _ = connection.await;
    result
}

async fn failed(failure: Failure, client: &Client, settings: &Settings) -> MigrateError {
    tracing::error!(error = %failure, "a migration failed");
    match failure.code() {
        Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            let process = holder(client, &settings.schema).await;
            MigrateError::Locked { waited: settings.wait, process }
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => MigrateError::Privilege { cause: Box::new(failure) },
        code => {
            let code = code.map(|code| code.code().to_owned());
            MigrateError::Failed { code, cause: Box::new(failure) }
        }
    }
}
