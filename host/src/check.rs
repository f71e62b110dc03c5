//! Whether a database is one that the cache can work on: for readiness probes, and to say what is wrong with it in
//! words that help.
//!
//! What is asked here the host asks on its own behalf; the component has no part in it.

use cimd_cache_guest::error as rules;
use cimd_cache_guest::sql::SqlError;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::migrations;
use crate::postgres::Failure;
use crate::schema::Schema;
use crate::sql::Sql;

/// What a check found on a database that is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The server's version, as it says it.
    pub server_version: String,
    /// The version of the schema. One newer than this program knows is in order too: migrations leave the
    /// statements of the version before them working.
    pub schema_version: u32,
    /// The role that is logged in.
    pub role: String,
    /// Whether the role has more rights than the cache needs.
    pub privileged: bool,
}

/// Why a database cannot be used. The text is one sentence that names the next step, without credentials and without
/// the server's own message, which the log has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// There is no database URL.
    #[error("no database is configured: give --database-url or set DATABASE_URL")]
    NotConfigured,
    /// No connection.
    #[error(
        "the database cannot be reached: check that it runs, and the host, port and TLS options of its URL"
    )]
    Unavailable,
    /// No answer in time.
    #[error("the database did not answer in time: try again, and look at its load")]
    TimedOut,
    /// The server refused the user or password, or there is no password.
    #[error(
        "the database refused the login: check the user of its URL, the password there, in PGPASSWORD or in the password \
         file, and the server's pg_hba.conf"
    )]
    Login,
    /// The server has no such database.
    #[error("the database named in the URL does not exist: create it, or correct the URL")]
    NoDatabase,
    /// The schema is not there.
    #[error("the database does not have the cache's schema: run `cimd-cache migrate` as its owner")]
    SchemaMissing,
    /// The schema is older than this program needs.
    #[error(
        "the schema is at version {found} and has to be at {needed}: run `cimd-cache migrate` as its owner"
    )]
    SchemaOlder {
        /// The database's version.
        found: u32,
        /// The version that this program brings.
        needed: u32,
    },
    /// The role may not do what the cache's statements do.
    #[error("the role {role} lacks {missing}: connect as cimd_cache_app, or grant that to the role")]
    Rights {
        /// The role that is logged in.
        role: String,
        /// The first right that is missing.
        missing: &'static str,
    },
    /// The server is a standby, or the session is read-only.
    #[error(
        "the database is read-only: name the primary in its URL, or all hosts, of which the primary is then used"
    )]
    ReadOnly,
    /// The row that says when all was last purged is gone.
    #[error(
        "the row of the table purge is missing: as its owner insert (1, now()), after emptying client_id_metadata"
    )]
    PurgeRow,
    /// A statement may run for a minute or more.
    #[error(
        "statement_timeout is not below a minute: set it on the role, as `cimd-cache migrate --roles` shows"
    )]
    StatementTimeout,
    /// The server refused what the check asked.
    #[error("the database refused the check: an operator has to look at the log")]
    Storage,
}

impl From<Failure> for CheckError {
    fn from(failure: Failure) -> Self {
        tracing::warn!(error = %failure, "the check failed");
        match &failure {
            Failure::TimedOut => Self::TimedOut,
            Failure::NoPassword => Self::Login,
            Failure::ReadOnly => Self::ReadOnly,
            Failure::Database(error) => match failure.code() {
                Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                    Self::Login
                }
                Some(&SqlState::INVALID_CATALOG_NAME) => Self::NoDatabase,
                // All others mean what they mean to a call.
                _ => match rules::Error::from(SqlError::Database(error.code().code().to_owned())) {
                    rules::Error::TimedOut => Self::TimedOut,
                    rules::Error::Unavailable => Self::Unavailable,
                    _ => Self::Storage,
                },
            },
            _ => Self::Unavailable,
        }
    }
}

/// The server, and what can be known of the schema by a role without any rights on it: catalogs are open to all.
const SERVER: &str = "\
select current_setting('server_version'),
       current_user::text,
       pg_is_in_recovery() or current_setting('transaction_read_only')::boolean,
       (select setting::bigint from pg_settings where name = 'statement_timeout'),
       h.oid is not null,
       has_schema_privilege(n.oid, 'usage'),
       has_table_privilege(h.oid, 'select')
from (select 1) one
left join pg_namespace n on n.nspname = $1
left join pg_class h on h.relnamespace = n.oid and h.relname = 'schema_history'";

const VERSION: &str = "select coalesce(max(version), 0)::bigint from cimd_cache.schema_history";

/// What the statements need, and whether there is more: a role that may empty the purge table is an owner.
const RIGHTS: &str = "\
select has_table_privilege('cimd_cache.client_id_metadata', 'select')
         and has_table_privilege('cimd_cache.client_id_metadata', 'insert')
         and has_table_privilege('cimd_cache.client_id_metadata', 'update')
         and has_table_privilege('cimd_cache.client_id_metadata', 'delete'),
       has_table_privilege('cimd_cache.purge', 'select')
         and has_column_privilege('cimd_cache.purge', 'purged_at', 'update'),
       has_table_privilege('cimd_cache.purge', 'delete')";

const PURGE: &str = "select count(*) = 1 from cimd_cache.purge where id = 1";

/// A statement that runs for a minute sees a row stored meanwhile as one from the future, and replaces it.
const MINUTE: i64 = 60_000;

/// Asks for everything, and reports the first thing that is not right.
pub(crate) async fn check(sql: &Sql, deadline: Instant) -> Result<Readiness, CheckError> {
    let postgres = sql.postgres().ok_or(CheckError::NotConfigured)?;
    postgres.ask(deadline, async |client| look_at(client, postgres.schema()).await).await?
}

/// The outer error is the connection's, the inner one is what was found.
async fn look_at(client: &Client, schema: &Schema) -> Result<Result<Readiness, CheckError>, Failure> {
    let server = ask(client, SERVER, &[(&schema.name(), Type::TEXT)]).await?;
    let ask = async |sql| ask(client, &schema.qualify(sql), &[]).await;
    let role: String = column(&server, 1)?;
    let lacks = |missing| Ok(Err(CheckError::Rights { role: role.clone(), missing }));
    if !column::<bool>(&server, 4)? {
        return Ok(Err(CheckError::SchemaMissing));
    }
    if !column::<bool>(&server, 5)? {
        return lacks("usage of the schema");
    }
    if !column::<bool>(&server, 6)? {
        return lacks("select on schema_history");
    }
    let version: i64 = column(&ask(VERSION).await?, 0)?;
    let (found, needed) = (u32::try_from(version).unwrap_or_default(), migrations::latest());
    if found < needed {
        return Ok(Err(CheckError::SchemaOlder { found, needed }));
    }
    let rights = ask(RIGHTS).await?;
    if !column::<bool>(&rights, 0)? {
        return lacks("select, insert, update or delete on client_id_metadata");
    }
    if !column::<bool>(&rights, 1)? {
        return lacks("select or update (purged_at) on purge");
    }
    if !column::<bool>(&ask(PURGE).await?, 0)? {
        return Ok(Err(CheckError::PurgeRow));
    }
    if column::<bool>(&server, 2)? {
        return Ok(Err(CheckError::ReadOnly));
    }
    if !(1..MINUTE).contains(&column::<i64>(&server, 3)?) {
        return Ok(Err(CheckError::StatementTimeout));
    }
    Ok(Ok(Readiness {
        server_version: column(&server, 0)?,
        schema_version: found,
        role,
        privileged: column(&rights, 2)?,
    }))
}

/// One row, in one round trip: a statement with types need not be prepared first.
async fn ask(client: &Client, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Row, Failure> {
    let rows = client.query_typed(sql, parameters).await?;
    // Each of the statements returns one whatever is there.
    rows.into_iter().next().ok_or(Failure::TooLarge)
}

fn column<T: for<'a> FromSql<'a>>(row: &Row, at: usize) -> Result<T, Failure> {
    Ok(row.try_get(at)?)
}
