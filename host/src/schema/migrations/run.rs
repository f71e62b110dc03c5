//! One run of the migrations, in one transaction.

use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use super::error::MigrateError;
use super::files::{migrations, statements};
use super::lock;
use super::settings::{APP_ROLE, Migrated, Settings};
use crate::postgres::Failure;
use crate::schema::inspect::{self, Found, HISTORY, column, inspect};
use crate::schema::name::Schema;

/// The longest that one statement may take: an index on a table of many millions of rows.
const STATEMENT_WITHIN: Duration = Duration::from_secs(30 * 60);

/// Why a run stopped.
pub(super) enum Stopped {
    /// A statement failed.
    Failed(Failure),
    /// What was found does not allow it.
    By(MigrateError),
}

impl From<MigrateError> for Stopped {
    fn from(error: MigrateError) -> Self {
        Self::By(error)
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<tokio_postgres::Error> for Stopped {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::from(error).into()
    }
}

/// Brings the schema to what the settings ask for.
pub(super) async fn run(client: &mut Client, settings: &Settings) -> Result<Migrated, Stopped> {
    let transaction = client.transaction().await?;
    // Names in the migrations must mean Postgres' own objects, whatever others have created in this database.
    // The connection may be a pooler's, so nothing is set for longer than the transaction.
    let (lock, statement) = (settings.wait.as_millis().max(1), STATEMENT_WITHIN.as_millis());
    let begin = format!(
        "set local search_path = pg_catalog, pg_temp; set local lock_timeout = {lock}; \
         set local statement_timeout = {statement}; set local row_security = off; \
         set local transaction_isolation = 'read committed'"
    );
    transaction.batch_execute(&begin).await?;
    lock::take(&transaction).await?;
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

    /// Applies what is missing. Returns what was applied and the resulting version. The record has refinery's
    /// form, which earlier versions of this program used.
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
        // A later version of this program may have migrated further; that is in order.
        let version = recorded.iter().map(|(version, _)| *version).max().unwrap_or_default();
        Ok((applied, u32::try_from(version).unwrap_or_default()))
    }

    /// Restores what a migration made and somebody lost: a dump may have been restored without privileges or
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
            // An invalid index already has the name.
            self.execute(&format!("drop index if exists cimd_cache.{name}")).await?;
            self.execute(&format!("create {unique}index {name} on cimd_cache.{table} ({column})")).await?;
            repaired.push(format!("the index on {table} ({column})"));
        }
        // Later than any purge that a stored document can have seen, so that no document counts from now on.
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

    /// Runs SQL that was written for the schema `cimd_cache` and the role `cimd_cache_app`, one statement at
    /// a time.
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

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
