//! The schema, brought up to date: only when asked to, never by a start.
//!
//! All of it is one transaction on one connection, so it is done whole or not at all, leaves nothing behind on a
//! connection that a pooler lends, and is safe on many nodes at once: a transaction's advisory lock is held around it.
//! Each statement is sent by itself, because Citus takes several at once for one that it cannot plan.

mod error;
mod lock;
mod run;

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::name::Schema;
use crate::postgres::{ConnectError, Connected, Connector, DatabaseUrl, Failure, LONG_PATIENCE};

pub use self::error::MigrateError;
use self::lock::holder;
use self::run::{Stopped, run};

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// SQL for an administrator, who runs it once in each database before the first migration: creates the roles
/// `cimd_cache_owner` and `cimd_cache_app`, in one transaction.
pub const ROLES: &str = include_str!("../../../migrations/roles.sql");

/// The role that the migrations grant to, by its name in their text.
const APP_ROLE: &str = "cimd_cache_app";

/// The longest clock tolerance. It comes off every ticket and lifetime; clocks that differ by more are broken.
const LONGEST_TOLERANCE: Duration = Duration::from_secs(10);

/// What a migration is to bring about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The schema, which is created if need be.
    pub schema: Schema,
    /// The role that auth servers connect as, which is granted what the cache's statements need: `cimd_cache_app` by
    /// default. Where a database has one role only, it is that one.
    pub app_role: String,
    /// The most by which two clocks of the database may differ, at most 10 seconds; none leaves it as it is, which is 0
    /// unless it was set. Postgres has one clock. A distributed engine has one on each node, and takes the time of a get and
    /// that of a put or delete from different nodes; with a difference that is not allowed for, a document that was deleted
    /// can be brought back by a fetch that began before. Tickets are then handed out that much earlier, and documents are
    /// fresh for that much less.
    pub clock_tolerance: Option<Duration>,
    /// Whether the cache's tables are dropped first, with all documents.
    pub recreate: bool,
    /// The longest that it waits for another migration, or for whoever holds a lock on the tables: 30 seconds by default.
    pub wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self::from(&Schema::default())
    }
}

impl From<&Schema> for Settings {
    fn from(schema: &Schema) -> Self {
        Self {
            schema: schema.clone(),
            app_role: APP_ROLE.to_owned(),
            clock_tolerance: None,
            recreate: false,
            wait: Duration::from_secs(30),
        }
    }
}

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The migrations that were missing and now are not, such as `V1__documents`.
    pub applied: Vec<String>,
    /// What was missing although it had been migrated, and now is not: an index, the row of `purge`, a privilege.
    pub repaired: Vec<String>,
    /// The version of the schema now.
    pub version: u32,
}

/// The version that this program brings a schema to.
pub fn latest() -> u32 {
    let runner = embedded::migrations::runner();
    let versions = runner.get_migrations().iter().map(|migration| migration.version());
    versions.max().and_then(|version| u32::try_from(version).ok()).unwrap_or_default()
}

/// Applies the migrations that are missing, and repairs what is missing of those that were applied. Several nodes may do
/// so at once, also through a pooler.
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
    let connected = connector.connect("", LONG_PATIENCE).await;
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
