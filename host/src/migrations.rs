//! The schema, brought up to date: only when asked to, never by a start.
//!
//! All of it is one transaction on one connection, so it is done whole or not at all, leaves nothing behind on a
//! connection that a pooler lends, and is safe on many nodes at once: a transaction's advisory lock is held around it.
//! Each statement is sent by itself, because Citus takes several at once for one that it cannot plan.

use std::time::Duration;

use refinery::Migration;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use crate::inspect::{self, Found, HISTORY, column, inspect, one_row};
use crate::postgres::{Connected, Connector, DatabaseUrl, DatabaseUrlError, Failure, Patience};
use crate::schema::Schema;

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// SQL for an administrator, who runs it once in each database before the first migration: creates the roles
/// `cimd_cache_owner` and `cimd_cache_app`, in one transaction.
pub const ROLES: &str = include_str!("../../migrations/roles.sql");

/// The role that the migrations grant to, by its name in their text.
const APP_ROLE: &str = "cimd_cache_app";

/// What stands for this schema among a database's advisory locks: "cimd" in ASCII.
const LOCK: i64 = 0x6369_6d64;

/// A migration is in no hurry to connect.
const PATIENCE: Patience = Patience { whole: Duration::from_secs(10), silence: Duration::from_secs(10) };

/// The longest that one statement may take: an index on a table of many millions of rows.
const STATEMENT_WITHIN: Duration = Duration::from_secs(30 * 60);

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

/// Why the schema could not be brought up to date. Nothing was changed. The text is one sentence that names the next
/// step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The database URL was not understood.
    #[error(transparent)]
    DatabaseUrl(#[from] DatabaseUrlError),
    /// The certificates for TLS could not be read.
    #[error("{0:#}")]
    Certificates(anyhow::Error),
    /// The clock tolerance is longer than 10 seconds.
    #[error("the clock tolerance has to be 0 to 10 seconds")]
    ClockTolerance,
    /// No connection, or a login that was refused.
    #[error("{0}")]
    Connection(crate::CheckError),
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
    /// The cache's tables and the record of migrations do not belong together: a dump was restored in part, or by hand.
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
    Rights,
    /// Somebody else held what the migration needed for too long.
    #[error("{}", locked(*.waited, *.process))]
    Locked {
        /// How long it waited.
        waited: Duration,
        /// The process of the server that holds it, if it still did when that was asked.
        process: Option<i32>,
    },
    /// The server refused a statement, with this SQLSTATE.
    #[error("{}", failed(.0.as_deref()))]
    Failed(Option<String>),
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
    let connector = Connector::new(&url).map_err(MigrateError::Certificates)?;
    let connected = connector.connect("", PATIENCE).await;
    let Connected { mut client, connection, .. } =
        connected.map_err(|failure| MigrateError::Connection(failure.into()))?;
    let connection = tokio::spawn(connection);
    let result = match run(&mut client, &settings).await {
        Err(Stopped::Locked) => Err(MigrateError::Locked {
            waited: settings.wait,
            process: holder(&client, &settings.schema).await,
        }),
        Err(Stopped::By(error)) => Err(error),
        Ok(migrated) => Ok(migrated),
    };
    drop(client);
    let _ = connection.await;
    result
}

/// Why a run stopped.
enum Stopped {
    /// It waited too long for somebody else.
    Locked,
    By(MigrateError),
}

impl From<MigrateError> for Stopped {
    fn from(error: MigrateError) -> Self {
        Self::By(error)
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        tracing::error!(error = %failure, "a migration failed");
        match failure.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Self::Locked,
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::By(MigrateError::Rights),
            code => Self::By(MigrateError::Failed(code.map(|code| code.code().to_owned()))),
        }
    }
}

impl From<tokio_postgres::Error> for Stopped {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::from(error).into()
    }
}

async fn run(client: &mut Client, settings: &Settings) -> Result<Migrated, Stopped> {
    let transaction = client.transaction().await?;
    // Names in the migrations must mean Postgres' own objects, whatever others have created in this database. And the
    // connection may be a pooler's, so that nothing is set for longer than the transaction.
    let (lock, statement) = (settings.wait.as_millis().max(1), STATEMENT_WITHIN.as_millis());
    let begin = format!(
        "set local search_path = pg_catalog, pg_temp; set local lock_timeout = {lock}; \
         set local statement_timeout = {statement}; set local row_security = off; \
         set local transaction_isolation = 'read committed'"
    );
    transaction.batch_execute(&begin).await?;
    one_row(
        &transaction,
        "select pg_catalog.pg_advisory_xact_lock($1)::pg_catalog.text",
        &[(&LOCK, Type::INT8)],
    )
    .await?;
    let work = Work { transaction, settings };
    let migrated = work.migrate().await?;
    work.transaction.commit().await?;
    Ok(migrated)
}

/// One run, within its transaction.
struct Work<'a> {
    transaction: Transaction<'a>,
    settings: &'a Settings,
}

impl Work<'_> {
    async fn migrate(&self) -> Result<Migrated, Stopped> {
        let Settings { schema, app_role, .. } = self.settings;
        let role = "select from pg_catalog.pg_roles where rolname operator(pg_catalog.=) $1";
        if self.transaction.query_typed(role, &[(app_role, Type::NAME)]).await?.is_empty() {
            return Err(MigrateError::RolesMissing { role: app_role.clone() }.into());
        }
        self.own_schema().await?;
        if self.settings.recreate {
            self.execute(
                "drop table if exists cimd_cache.client_id_metadata, cimd_cache.purge, cimd_cache.schema_history",
            )
            .await?;
        }
        let (applied, version) = self.apply().await?;
        let repaired = self.repair().await?;
        if let Some(tolerance) = self.settings.clock_tolerance {
            let micros = i64::try_from(tolerance.as_micros()).unwrap_or(i64::MAX);
            self.execute(&format!(
                "update cimd_cache.purge set clock_tolerance = {micros} * interval '1 microsecond'"
            ))
            .await?;
        }
        tracing::debug!(schema = schema.name(), version, "migrated");
        Ok(Migrated { applied, repaired, version })
    }

    /// Makes sure that the schema is there, is the cache's, and is this role's to change.
    async fn own_schema(&self) -> Result<(), Stopped> {
        let Settings { schema, .. } = self.settings;
        let found = self.inspect().await?;
        let Some(owner) = found.owner.clone() else {
            return self.execute(&format!("create schema {}", schema.quoted())).await;
        };
        if found.foreign && found.tables.iter().all(|table| table.owner.is_none()) {
            return Err(MigrateError::Foreign { schema: schema.clone() }.into());
        }
        let belongs =
            |object, owner: &str, role| MigrateError::Owner { object, owner: owner.to_owned(), role };
        let role = inspect::server(&self.transaction).await?.role;
        if !found.owned {
            return Err(belongs(format!("schema {}", schema.quoted()), &owner, role).into());
        }
        for table in &found.tables {
            if let Some(owner) = table.owner.as_deref().filter(|_| !table.owned) {
                let object = format!("table {}.{}", schema.quoted(), table.name);
                return Err(belongs(object, owner, role).into());
            }
        }
        Ok(())
    }

    /// Applies what is missing, and says which and what the version is then. The record is kept as refinery keeps it, which
    /// earlier versions of this program used.
    async fn apply(&self) -> Result<(Vec<String>, u32), Stopped> {
        let damaged = || Stopped::from(MigrateError::Damaged { schema: self.settings.schema.clone() });
        self.execute(
            "create table if not exists cimd_cache.schema_history \
             (version int4 primary key, name varchar(255), applied_on varchar(255), checksum varchar(255))",
        )
        .await?;
        let sql = "select version::bigint, checksum::pg_catalog.text from cimd_cache.schema_history order by version";
        let rows = self.transaction.query_typed(&self.schema().qualify(sql), &[]).await?;
        let mut recorded = Vec::new();
        for row in &rows {
            recorded.push((column::<i64>(row, 0)?, column::<Option<String>>(row, 1)?.unwrap_or_default()));
        }
        if recorded.is_empty()
            && self.inspect().await?.tables.iter().any(|t| t.name != HISTORY && t.owner.is_some())
        {
            return Err(damaged());
        }
        let mut applied = Vec::new();
        for migration in migrations(self.schema()) {
            let (version, checksum) = (i64::from(migration.version()), migration.checksum().to_string());
            match recorded.iter().find(|(recorded, _)| *recorded == version) {
                Some((_, recorded)) if *recorded == checksum => {}
                Some(_) => return Err(damaged()),
                None => {
                    self.execute(migration.sql().unwrap_or_default()).await?;
                    let name = migration.name();
                    self.execute(&format!(
                        "insert into cimd_cache.schema_history (version, name, applied_on, checksum) values ({version}, \
                         '{name}', to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), '{checksum}')"
                    ))
                    .await?;
                    applied.push(migration.to_string());
                    recorded.push((version, checksum));
                }
            }
        }
        // A database that a later version has migrated is in order.
        let version = recorded.iter().map(|(version, _)| *version).max().unwrap_or_default();
        Ok((applied, u32::try_from(version).unwrap_or_default()))
    }

    /// Puts back what a migration made and somebody has lost: a dump may have been restored without its privileges or
    /// indexes, an index may be invalid, the one row of `purge` may have been deleted.
    async fn repair(&self) -> Result<Vec<String>, Stopped> {
        let schema = self.schema();
        let found = self.inspect().await?;
        if found.tables.iter().any(|table| !table.complete) {
            return Err(MigrateError::Damaged { schema: schema.clone() }.into());
        }
        let mut repaired = Vec::new();
        for index in &found.broken {
            let (table, column) = (index.table, index.column);
            let name =
                if index.unique { format!("{table}_{column}_key") } else { format!("{table}_{column}") };
            let unique = if index.unique { "unique " } else { "" };
            // One that is invalid has the name already.
            self.execute(&format!("drop index if exists cimd_cache.{name}")).await?;
            self.execute(&format!("create {unique}index {name} on cimd_cache.{table} ({column})")).await?;
            repaired.push(format!("the index on {table} ({column})"));
        }
        // Later than any purge that a document can have been put after, so none of them counts from now on.
        let insert = "insert into cimd_cache.purge (id, purged_at) \
                      select 1, greatest(now(), max(after_purge) + interval '1 microsecond') \
                      from cimd_cache.client_id_metadata on conflict (id) do nothing returning true";
        let inserted = self.transaction.query_typed(&schema.qualify(insert), &[]).await?;
        // The first migration of all puts it there itself.
        if !inserted.is_empty() {
            repaired.push("the row of purge, so that all documents are purged".to_owned());
        }
        for privilege in &found.lacking {
            let privilege = privilege.sql(schema);
            self.execute(&format!("grant {privilege} to {APP_ROLE}")).await?;
            repaired.push(format!("{privilege} for {}", self.settings.app_role));
        }
        Ok(repaired)
    }

    fn schema(&self) -> &Schema {
        &self.settings.schema
    }

    async fn inspect(&self) -> Result<Found, Stopped> {
        Ok(inspect(&self.transaction, self.schema(), &self.settings.app_role).await?)
    }

    /// Runs SQL that was written for the schema `cimd_cache` and the role `cimd_cache_app`, one statement at a time.
    async fn execute(&self, sql: &str) -> Result<(), Stopped> {
        for statement in statements(sql) {
            let statement = self.schema().qualify(statement);
            let statement = if self.settings.app_role == APP_ROLE {
                statement
            } else {
                statement.replace(APP_ROLE, &quote_identifier(&self.settings.app_role)).into()
            };
            self.transaction.batch_execute(&statement).await?;
        }
        Ok(())
    }
}

/// The migrations, written for a schema.
fn migrations(schema: &Schema) -> Vec<Migration> {
    let embedded = embedded::migrations::runner();
    let migrations = embedded.get_migrations().iter().map(|migration| {
        let sql = migration.sql().unwrap_or_default();
        Migration::unapplied(&migration.to_string(), &schema.qualify(sql))
    });
    let mut migrations: Vec<_> =
        migrations.collect::<Result<_, _>>().expect("the names are those that were embedded");
    migrations.sort_by_key(Migration::version);
    migrations
}

/// The statements of a file: each ends with a semicolon at the end of a line, outside of a body between `$$`.
fn statements(sql: &str) -> Vec<&str> {
    let (mut statements, mut from, mut body) = (Vec::new(), 0, false);
    let mut at = 0;
    for line in sql.split_inclusive('\n') {
        at += line.len();
        body ^= line.matches("$$").count() % 2 == 1;
        if !body && line.trim_end().ends_with(';') {
            statements.push(sql[from..at].trim());
            from = at;
        }
    }
    statements.extend(Some(sql[from..].trim()).filter(|rest| !rest.is_empty()));
    statements
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The process of the server that most likely held up a migration: one that has the lock of another migration, else the
/// one that has held any lock on the cache's tables for the longest.
async fn holder(client: &Client, schema: &Schema) -> Option<i32> {
    let sql = "\
select l.pid
from pg_catalog.pg_locks l
left join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) l.relation
left join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
left join pg_catalog.pg_stat_activity a on a.pid operator(pg_catalog.=) l.pid
where l.granted and l.pid operator(pg_catalog.<>) pg_catalog.pg_backend_pid()
  and l.database operator(pg_catalog.=)
      (select oid from pg_catalog.pg_database where datname operator(pg_catalog.=) pg_catalog.current_database())
  and ((l.locktype operator(pg_catalog.=) 'advisory' and l.classid::bigint operator(pg_catalog.=) 0
        and l.objid::bigint operator(pg_catalog.=) $2 and l.objsubid operator(pg_catalog.=) 1)
       or n.nspname operator(pg_catalog.=) $1)
order by l.locktype, a.xact_start
limit 1";
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&schema.name(), Type::NAME), (&LOCK, Type::INT8)];
    column(&one_row(client, sql, &parameters).await.ok()?, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_apart_into_its_statements() {
        let file = "-- first; really\nselect 1\n  + 1;\ndo $$\nbegin\n  perform 1;\nend\n$$;\n\nselect 2;\n";
        let each =
            ["-- first; really\nselect 1\n  + 1;", "do $$\nbegin\n  perform 1;\nend\n$$;", "select 2;"];
        assert_eq!(statements(file), each);
        assert_eq!(statements("select 1"), ["select 1"]);
        assert_eq!(statements(" \n"), [""; 0]);
    }

    #[test]
    fn what_was_applied_once_has_the_checksum_that_is_recorded_for_it() {
        let checksums: Vec<_> = migrations(&Schema::default()).iter().map(Migration::checksum).collect();
        assert_eq!(checksums[..1], [6_424_859_715_082_178_495]);
    }
}
