//! Where a benchmark runs: a Postgres of its own, or a schema of its own in a database that was named.

use std::time::Duration;

use anyhow::{Context, Result};
use cimd_cache::{Builder, Cache, DatabaseUrl, Schema, internals, migrations};
use cimd_cache_private_postgres::PrivatePostgres;
use tokio_postgres::Client;

use crate::contender::DEADLINE;

/// A database with an empty cache in it, which [`Environment::clear`] leaves as it was.
pub(super) struct Environment {
    pub(super) url: String,
    pub(super) parsed: DatabaseUrl,
    pub(super) schema: Schema,
    pub(super) admin: Client,
    private: Option<PrivatePostgres>,
}

impl Environment {
    pub(super) async fn open(url: Option<&str>) -> Result<Self> {
        let Some(url) = url else { return Self::private().await };
        let parsed: DatabaseUrl = url.parse()?;
        let (admin, driver) = internals::connect(&parsed).await.context("the database cannot be reached")?;
        tokio::spawn(driver);
        let schema: Schema = format!("cimd_cache_bench_{:08x}", fastrand::u32(..)).parse()?;
        let environment = Self { url: url.to_owned(), parsed, schema, admin, private: None };
        environment.set_up().await
    }

    async fn private() -> Result<Self> {
        let private = tokio::task::spawn_blocking(PrivatePostgres::start).await??;
        let url = private.url("postgres", "postgres");
        let parsed: DatabaseUrl = url.parse()?;
        let (admin, driver) =
            internals::connect(&parsed).await.context("the private Postgres cannot be reached")?;
        tokio::spawn(driver);
        admin.batch_execute(migrations::ROLES).await?;
        Self { url, parsed, schema: Schema::default(), admin, private: Some(private) }.set_up().await
    }

    async fn set_up(self) -> Result<Self> {
        // Filling and vacuuming a large table takes as long as it takes.
        self.admin.batch_execute("set statement_timeout = 0").await?;
        match migrations::migrate(&self.url, &self.schema).await {
            Ok(_) => Ok(self),
            Err(error) => {
                let error = anyhow::Error::from(error);
                self.clear().await?;
                Err(error)
            }
        }
    }

    /// Removes what the benchmark has made.
    pub(super) async fn clear(self) -> Result<()> {
        match self.private {
            Some(private) => private.stop(),
            None => {
                let drop = format!("drop schema if exists \"{}\" cascade", self.schema.name());
                let removed = self.admin.batch_execute(&drop).await;
                removed.with_context(|| format!("the schema {} could not be dropped", self.schema.name()))?;
            }
        }
        Ok(())
    }

    /// Begins to set up a cache on it.
    pub(super) fn builder(&self) -> Builder {
        Cache::builder()
            .database_url(&self.url)
            .schema(self.schema.clone())
            .prepare_statements(true)
            .deadline(DEADLINE)
    }

    /// Processor time that the processes which serve this database have had so far. None where they run
    /// elsewhere.
    pub(super) async fn server_cpu(&self) -> Option<Duration> {
        let processes = "select pid from pg_stat_activity where datname = current_database()";
        let rows = self.admin.query(processes, &[]).await.ok()?;
        let nanos = |row: &tokio_postgres::Row| {
            let path = format!("/proc/{}/schedstat", row.try_get::<_, i32>(0).ok()?);
            std::fs::read_to_string(path).ok()?.split(' ').next()?.parse::<u64>().ok()
        };
        rows.iter().map(nanos).sum::<Option<u64>>().map(Duration::from_nanos)
    }

    /// What runs there, for the report.
    pub(super) async fn server(&self) -> Result<String> {
        let row = self
            .admin
            .query_one("select current_setting('server_version'), inet_server_addr() is null", &[])
            .await?;
        let (version, local): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
        let whose = if self.private.is_some() { "a private one" } else { "the given one" };
        Ok(format!("Postgres {version}, {whose}, over {}", if local { "a Unix socket" } else { "TCP" }))
    }
}
