//! The database of a case, and what can be done to it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use cimd_cache::{Schema, migrations};
use cimd_cache_private_postgres::PrivatePostgres;
use rustix::process::{Pid, Signal, kill_process};
use support::Database;
use tokio_postgres::{Client, NoTls};

use crate::case::Fault;

/// Where a case is played.
pub(crate) struct Stage {
    url: String,
    admin_url: String,
    admin: Option<Client>,
    /// A connection that holds locks, while it does.
    holder: Option<Client>,
    noted: Option<String>,
    /// A server of its own, for cases that stop it.
    server: Option<PrivatePostgres>,
}

const ROWS: &str = "select coalesce(string_agg(m.xmin::text || m::text, ' ' order by url), '') \
                    from cimd_cache.client_id_metadata m";

impl Stage {
    /// A database on the server that all cases share.
    pub(crate) async fn shared() -> Result<Self> {
        let database = Database::new().await;
        Self::new(database.app_url(), database.url("postgres"), None).await
    }

    /// A server of its own.
    pub(crate) async fn own() -> Result<Self> {
        let server = tokio::task::spawn_blocking(PrivatePostgres::start).await??;
        let admin_url = server.url("postgres", "postgres");
        connect(&admin_url).await?.batch_execute(migrations::ROLES).await?;
        migrations::migrate(&server.url("cimd_cache_owner", "postgres"), &Schema::default()).await?;
        Self::new(server.url("cimd_cache_app", "postgres"), admin_url, Some(server)).await
    }

    async fn new(url: String, admin_url: String, server: Option<PrivatePostgres>) -> Result<Self> {
        let admin = Some(connect(&admin_url).await?);
        Ok(Self { url, admin_url, admin, holder: None, noted: None, server })
    }

    /// For the ways in.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn admin(&self) -> Result<&Client> {
        self.admin.as_ref().context("the server is stopped")
    }

    pub(crate) async fn fault(&mut self, fault: Fault, client_id: Option<&str>) -> Result<()> {
        let admin = self.admin.as_ref();
        let sql = async |sql: &str| {
            admin.context("the server is stopped")?.batch_execute(sql).await.map_err(anyhow::Error::from)
        };
        match fault {
            Fault::LockTable => {
                self.hold("lock table cimd_cache.client_id_metadata in access exclusive mode", None).await?
            }
            Fault::LockRow => {
                let client_id = client_id.context("lock-row needs a client_id")?;
                self.hold(
                    "select 1 from cimd_cache.client_id_metadata where url = $1 for update",
                    Some(client_id),
                )
                .await?;
            }
            Fault::Release => {
                let holder = self.holder.take().context("nothing is locked")?;
                holder.batch_execute("rollback").await?;
            }
            Fault::Revoke => {
                sql("revoke select on cimd_cache.client_id_metadata from cimd_cache_app").await?
            }
            Fault::Grant => sql("grant select on cimd_cache.client_id_metadata to cimd_cache_app").await?,
            Fault::RenameTable => sql("alter table cimd_cache.client_id_metadata rename to gone").await?,
            Fault::RenameBack => sql("alter table cimd_cache.gone rename to client_id_metadata").await?,
            Fault::Terminate => self.terminate().await?,
            Fault::ReadOnly | Fault::ReadWrite => {
                let on = if fault == Fault::ReadOnly { "on" } else { "off" };
                sql(&format!("alter system set default_transaction_read_only = {on}")).await?;
                sql("select pg_reload_conf()").await?;
                self.terminate().await?;
            }
            Fault::Stop => {
                self.signal(Signal::INT)?;
                self.admin = None;
                let process = self.server.as_ref().context("the case needs own-server")?;
                while process.process().is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Fault::Start => {
                let server = self.server.as_mut().context("the case needs own-server")?;
                tokio::task::block_in_place(|| server.start_again())?;
                self.admin = Some(connect(&self.admin_url).await?);
            }
            Fault::Freeze => self.signal_all(Signal::STOP)?,
            Fault::Thaw => self.signal_all(Signal::CONT)?,
        }
        Ok(())
    }

    /// Ends the connections of the ways in.
    async fn terminate(&self) -> Result<()> {
        let all = "select pg_terminate_backend(pid, 10000) from pg_stat_activity \
                   where usename = 'cimd_cache_app' and datname = current_database()";
        self.admin()?.query(all, &[]).await?;
        Ok(())
    }

    async fn hold(&mut self, sql: &str, client_id: Option<&str>) -> Result<()> {
        let holder = connect(&self.admin_url).await?;
        holder.batch_execute("begin").await?;
        match client_id {
            None => holder.batch_execute(sql).await?,
            Some(client_id) => {
                if holder.query(sql, &[&client_id]).await?.is_empty() {
                    bail!("there is no row of {client_id} to lock");
                }
            }
        }
        self.holder = Some(holder);
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let server = self.server.as_ref().context("the case needs own-server")?;
        let process = Pid::from_raw(server.process()?.cast_signed()).context("no process")?;
        Ok(kill_process(process, signal)?)
    }

    /// The server and the processes that serve connections: each is a child of it.
    fn signal_all(&self, signal: Signal) -> Result<()> {
        let server = self.server.as_ref().context("the case needs own-server")?;
        let main = server.process()?;
        let children = std::fs::read_to_string(format!("/proc/{main}/task/{main}/children"))?;
        let children = children.split_whitespace().filter_map(|process| process.parse().ok());
        for process in std::iter::once(main.cast_signed()).chain(children) {
            // One may have ended meanwhile.
            let _ = kill_process(Pid::from_raw(process).context("no process")?, signal);
        }
        Ok(())
    }

    /// Makes a row older, as if so many seconds had passed.
    pub(crate) async fn age(&self, client_id: &str, seconds: u32) -> Result<()> {
        let sql = format!(
            "update cimd_cache.client_id_metadata set fetched_at = fetched_at - interval '{seconds} seconds', \
             expires_at = expires_at - interval '{seconds} seconds', inserted_at = inserted_at - interval '{seconds} seconds' \
             where url = $1"
        );
        let changed = self.admin()?.execute(&sql, &[&client_id]).await?;
        if changed == 1 { Ok(()) } else { bail!("there is no row of {client_id}") }
    }

    pub(crate) async fn note(&mut self) -> Result<()> {
        self.noted = Some(self.rows().await?);
        Ok(())
    }

    pub(crate) async fn is_unchanged(&self) -> Result<bool> {
        Ok(self.rows().await? == *self.noted.as_ref().context("the rows were not noted")?)
    }

    pub(crate) async fn count(&self) -> Result<i64> {
        let row = self.admin()?.query_one("select count(*) from cimd_cache.client_id_metadata", &[]).await?;
        Ok(row.try_get(0)?)
    }

    async fn rows(&self) -> Result<String> {
        Ok(self.admin()?.query_one(ROWS, &[]).await?.try_get(0)?)
    }

    /// Ends what the case has left.
    pub(crate) async fn end(self) {
        if let Some(server) = self.server {
            // What is frozen could not be told to stop.
            let _ = tokio::task::spawn_blocking(move || server.stop()).await;
        }
    }
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
