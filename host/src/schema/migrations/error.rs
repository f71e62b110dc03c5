//! Why a schema could not be brought up to date, and what to do about each.

use std::time::Duration;

use crate::postgres::{CertificateError, ConnectError, DatabaseUrlError};
use crate::schema::name::Schema;

/// Why the schema could not be brought up to date. Nothing was changed. The text is one sentence that names
/// the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The database URL was not understood.
    #[error(transparent)]
    DatabaseUrl(#[from] DatabaseUrlError),
    /// The certificates for TLS could not be read.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// The clock tolerance is longer than 10 seconds.
    #[error("the clock tolerance has to be 0 to 10 seconds")]
    ClockTolerance,
    /// No connection, or a login that was refused.
    #[error(transparent)]
    Connection(#[from] ConnectError),
    /// The app role does not exist.
    #[error(
        "the role {role} does not exist: let an administrator run `cimd-cache migrate --roles | psql`, or name the role \
         that auth servers connect as with --app-role"
    )]
    RolesMissing {
        /// The role that privileges were to be granted to.
        role: String,
    },
    /// The schema, or a table in it, belongs to a role whose member this one is not.
    #[error(
        "{object} belongs to the role {owner} and not to {role}: connect as {owner}, or let it run `alter {object} owner to {role}`"
    )]
    Owner {
        /// `schema` or `table`, and its name.
        object: String,
        /// The role it belongs to.
        owner: String,
        /// The role that is logged in.
        role: String,
    },
    /// The schema has tables of something else, and no cache was ever migrated in it.
    #[error("the schema {} holds what is not the cache's: name another one with --schema", .schema.name())]
    Foreign {
        /// The schema.
        schema: Schema,
    },
    /// The cache's tables and the record of migrations do not belong together: a dump was restored in part,
    /// or by hand.
    #[error(
        "the cache's tables in the schema {} are not those that its migrations made: run `{} --recreate`, which empties \
         the cache", .schema.name(), .schema.migrate_command()
    )]
    Damaged {
        /// The schema.
        schema: Schema,
    },
    /// The role that is logged in may not create the schema.
    #[error(
        "this role may not change the database: connect as cimd_cache_owner, or let an administrator grant it create on the database"
    )]
    Privilege {
        /// What the server said.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody else held what the migration needed for too long.
    #[error("{}", locked(*.waited, *.process))]
    Locked {
        /// How long it waited.
        waited: Duration,
        /// The process of the server that holds it, if it still did when that was asked.
        process: Option<i32>,
    },
    /// The server refused a statement, or the connection was lost.
    #[error("{}", failed(.code.as_deref()))]
    Failed {
        /// Its SQLSTATE. None if the connection was lost.
        code: Option<String>,
        /// What the server said.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn locked(waited: Duration, process: Option<i32>) -> String {
    match process {
        Some(process) => format!(
            "the process {process} of the server has held a lock that the migration needs for over {waited:?}: wait for it, \
             or end it with `select pg_terminate_backend({process})`, and run this again"
        ),
        None => format!(
            "another session held a lock that the migration needs for over {waited:?}, and has let go of it since: run this \
             again"
        ),
    }
}

/// One cause, for those that an operator meets.
fn failed(code: Option<&str>) -> String {
    match code {
        Some("25006") => "the database is read-only: name the primary in the URL".to_owned(),
        Some("53100") => "the server's disk is full: make room there, and run this again".to_owned(),
        Some("57014") => {
            "a statement was cancelled, or took half an hour: look at the server's load".to_owned()
        }
        Some("58P01") => {
            "the server misses a file of its own, as after an upgrade without a restart: restart it"
                .to_owned()
        }
        Some(code) => format!(
            "the server refused the migration with SQLSTATE {code}, and nothing was changed: its log has the message"
        ),
        None => "the connection was lost, and what the migration had begun is rolled back: run this again"
            .to_owned(),
    }
}
