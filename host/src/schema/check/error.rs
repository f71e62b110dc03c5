//! What can be wrong with a database, and what to do about each.

use crate::postgres::{ConnectError, Failure};
use crate::schema::name::Schema;

/// Why a database cannot be used. The text is one sentence that names the next step, without credentials and
/// without the server's own message, which the log has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// There is no database URL.
    #[error("no database is configured: give --database-url or set DATABASE_URL")]
    NotConfigured,
    /// There is no connection.
    #[error(transparent)]
    Connection(#[from] ConnectError),
    /// The schema is not there, or nothing was ever migrated in it.
    #[error("there is no cache in the schema {}: run `{}` as its owner", .schema.name(), .schema.migrate_command())]
    SchemaMissing {
        /// The schema.
        schema: Schema,
    },
    /// The schema is older than this program needs.
    #[error(
        "the schema {} is at version {found} and has to be at {needed}: run `{}` as its owner",
        .schema.name(), .schema.migrate_command()
    )]
    SchemaOlder {
        /// The schema.
        schema: Schema,
        /// The database's version.
        found: u32,
        /// The version that this program brings.
        needed: u32,
    },
    /// A table is missing or lacks columns although the schema was migrated: a dump was restored in part.
    #[error(
        "the table {table} of the schema {} is missing or not whole: run `{} --recreate` as its owner, which empties the \
         cache",
        .schema.name(), .schema.migrate_command()
    )]
    Table {
        /// The schema.
        schema: Schema,
        /// The first table that is not as it should be.
        table: &'static str,
    },
    /// An index is missing or invalid. Without the one on the key no write works, without the others a sweep
    /// reads all.
    #[error(
        "the table {table} of the schema {} has no valid index on {column}: run `{}` as its owner",
        .schema.name(), .schema.migrate_command()
    )]
    Index {
        /// The schema.
        schema: Schema,
        /// The table.
        table: &'static str,
        /// The first column whose index is missing.
        column: &'static str,
    },
    /// The role lacks a privilege that the cache's statements need.
    #[error("the role {role} lacks {missing}: run `{command}` as the schema's owner")]
    Privilege {
        /// The role that is logged in.
        role: String,
        /// The first privilege that is missing, as a `grant` would say it.
        missing: String,
        /// The command that grants all that are missing.
        command: String,
    },
    /// Row level security applies to the role: rows that it hides would look like misses, so every call
    /// fails.
    #[error(
        "row level security is on for the role's view of {table}: as its owner run `alter table {table} disable row \
         level security`"
    )]
    RowSecurity {
        /// The first table, with its schema.
        table: String,
    },
    /// The row that says when all was last purged is gone.
    #[error(
        "the one row of the table purge is missing in the schema {}: run `{}` as its owner",
        .schema.name(), .schema.migrate_command()
    )]
    PurgeRow {
        /// The schema.
        schema: Schema,
    },
    /// A statement may run for a minute or more.
    #[error(
        "statement_timeout is not below a minute: set it on the role, as `cimd-cache migrate --roles` shows"
    )]
    StatementTimeout,
    /// The schema is in order, and yet a get fails. On a distributed engine its nodes may not reach each
    /// other, or not log in to each other as this role.
    #[error(
        "the schema is in order and a get fails all the same: the log has what the server said (in the command, --verbose shows it)"
    )]
    Get,
    /// The server refused what the check asked.
    #[error("the database refused the check: the log has what the server said")]
    Storage,
}

impl From<&Failure> for CheckError {
    fn from(failure: &Failure) -> Self {
        match ConnectError::from(failure) {
            ConnectError::Refused => Self::Storage,
            error => Self::Connection(error),
        }
    }
}
