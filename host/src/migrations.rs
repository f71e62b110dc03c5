//! The schema, brought up to date: only when asked to, never by a start.
//!
//! refinery applies what is missing, each migration in a transaction of its own. It takes no lock, and of several nodes
//! that migrate an empty database at once all but one would fail; so an advisory lock is held around it.

use std::time::Duration;

use refinery::{Migration, Runner};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::FromSql;

use crate::postgres::{Connected, Connector, DatabaseUrl, DatabaseUrlError, Failure, Patience};
use crate::schema::Schema;

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// SQL for an administrator, who runs it once in each database before the first migration: creates the roles
/// `cimd_cache_owner` and `cimd_cache_app`.
pub const ROLES: &str = include_str!("../../migrations/roles.sql");

/// Where it is recorded what has been applied.
const HISTORY: &str = "cimd_cache.schema_history";

/// What stands for this schema among a database's advisory locks: "cimd" in ASCII.
const LOCK: i64 = 0x6369_6d64;

/// A migration is in no hurry.
const PATIENCE: Patience = Patience { whole: Duration::from_secs(10), silence: Duration::from_secs(10) };

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The migrations that were missing and now are not, such as `V1__documents`.
    pub applied: Vec<String>,
    /// The version of the schema now.
    pub version: u32,
}

/// Why the schema could not be brought up to date. What was applied before stays applied. The text is one sentence
/// that names the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The database URL was not understood.
    #[error(transparent)]
    DatabaseUrl(#[from] DatabaseUrlError),
    /// The certificates for TLS could not be read.
    #[error("{0:#}")]
    Certificates(anyhow::Error),
    /// No connection, or a login that was refused.
    #[error("{0}")]
    Connection(crate::CheckError),
    /// The app role does not exist.
    #[error(
        "the role cimd_cache_app does not exist: let an administrator run the SQL of `cimd-cache migrate --roles`"
    )]
    RolesMissing,
    /// The role that is logged in may not create or change the schema.
    #[error("this role may not change the schema: connect as cimd_cache_owner")]
    Rights,
    /// A migration failed, or one that was applied earlier is not the same as the one this program has.
    #[error(
        "a migration failed, and what it had begun was rolled back: run with --verbose for the server's message"
    )]
    Failed,
}

/// The version that this program brings a schema to.
pub fn latest() -> u32 {
    let runner = embedded::migrations::runner();
    let versions = runner.get_migrations().iter().map(|migration| migration.version());
    versions.max().and_then(|version| u32::try_from(version).ok()).unwrap_or_default()
}

/// Applies the migrations that are missing, in a schema that is created if need be. Several nodes may do so at once. It
/// needs a connection of its own to the server, not one through a pooler in transaction mode.
///
/// # Errors
///
/// [`MigrateError`].
pub async fn migrate(database_url: &str, schema: &Schema) -> Result<Migrated, MigrateError> {
    let url: DatabaseUrl = database_url.parse()?;
    let connector = Connector::new(&url).map_err(MigrateError::Certificates)?;
    // The owner's own time limit is for other work; a migration may wait for a lock and take as long as it must.
    let connected = connector.connect("set statement_timeout = 0", PATIENCE).await;
    let Connected { mut client, connection, .. } =
        connected.map_err(|failure| MigrateError::Connection(failure.into()))?;
    let connection = tokio::spawn(connection);
    let result = locked(&mut client, schema).await;
    drop(client);
    // The lock is the session's, and is free only when the server has seen its end.
    let _ = connection.await;
    result
}

async fn locked(client: &mut tokio_postgres::Client, schema: &Schema) -> Result<Migrated, MigrateError> {
    let sql = |error: tokio_postgres::Error| failed(error.into());
    client.execute("select pg_advisory_lock($1)", &[&LOCK]).await.map_err(sql)?;
    if !ask::<bool>(client, "select exists (select from pg_roles where rolname = 'cimd_cache_app')").await? {
        return Err(MigrateError::RolesMissing);
    }
    let name = schema.name();
    if !ask::<bool>(client, &format!("select exists (select from pg_namespace where nspname = '{name}')"))
        .await?
    {
        client.batch_execute(&format!("create schema \"{name}\"")).await.map_err(sql)?;
    }
    let mut runner = runner(schema);
    runner.set_migration_table_name(schema.qualify(HISTORY));
    // A database that a later version has migrated is in order.
    let report = runner.set_abort_missing(false).run_async(client).await.map_err(|error| {
        let server = std::error::Error::source(error.kind()).and_then(|source| source.downcast_ref());
        match server.and_then(tokio_postgres::Error::as_db_error) {
            Some(server) => failed(Failure::Database(server.clone().into())),
            None => {
                tracing::error!(%error, "a migration failed");
                MigrateError::Failed
            }
        }
    })?;
    let applied = report.applied_migrations().iter().map(ToString::to_string).collect();
    let version = schema.qualify("select max(version) from cimd_cache.schema_history");
    let version: i32 = ask(client, &version).await?;
    Ok(Migrated { applied, version: version.unsigned_abs() })
}

/// The migrations, written for a schema.
fn runner(schema: &Schema) -> Runner {
    let embedded = embedded::migrations::runner();
    let migrations = embedded.get_migrations().iter().map(|migration| {
        let sql = migration.sql().unwrap_or_default();
        Migration::unapplied(&migration.to_string(), &schema.qualify(sql))
    });
    Runner::new(&migrations.collect::<Result<Vec<_>, _>>().expect("the names are those that were embedded"))
}

/// The one value that a query returns.
async fn ask<T: for<'a> FromSql<'a>>(client: &tokio_postgres::Client, sql: &str) -> Result<T, MigrateError> {
    let row = client.query_one(sql, &[]).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| failed(error.into()))
}

fn failed(failure: Failure) -> MigrateError {
    tracing::error!(error = %failure, "a migration failed");
    match failure.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => MigrateError::Rights,
        _ => MigrateError::Failed,
    }
}
