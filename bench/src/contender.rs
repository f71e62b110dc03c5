//! The contenders: the cache, and what a team would use or write instead. All get the same calls on the same
//! rows, and give every call the same deadline.

use std::sync::Arc;
use std::time::Duration;

use crate::dataset::Dataset;
use anyhow::{Context, Result, ensure};
use cimd_cache::{Cache, Expiry, Lookup, PutOutcome, Ticket};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;

/// How long a document that is put stays fresh.
pub(super) const LIFETIME: Duration = Duration::from_secs(86_400);

pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// Something that keeps documents.
pub(super) trait Contender: Clone + Send + Sync + 'static {
    /// What a put presents, of now.
    fn ticket(&self, url: &str) -> impl Future<Output = Result<Option<Ticket>>> + Send;
    /// Reads a document, which has to be there, and says how long it is.
    fn get(&self, url: &str) -> impl Future<Output = Result<usize>> + Send;
    /// Replaces a document.
    fn put(
        &self,
        url: &str,
        document: &str,
        ticket: Option<&Ticket>,
    ) -> impl Future<Output = Result<()>> + Send;
}

impl Contender for Cache {
    async fn ticket(&self, url: &str) -> Result<Option<Ticket>> {
        Ok(Some(match self.get(url).await? {
            Lookup::Hit(entry) => entry.ticket,
            Lookup::Miss(ticket) => ticket,
        }))
    }

    async fn get(&self, url: &str) -> Result<usize> {
        match self.get(url).await? {
            Lookup::Hit(entry) => Ok(entry.metadata.len()),
            Lookup::Miss(_) => anyhow::bail!("the cache misses a document that is there"),
        }
    }

    async fn put(&self, url: &str, document: &str, ticket: Option<&Ticket>) -> Result<()> {
        // A later put of the same document by another caller does not make this one fail.
        let stored = self.put(url, document, Expiry::After(LIFETIME), ticket).await?;
        ensure!(stored == PutOutcome::Stored, "the cache superseded a put of now");
        Ok(())
    }
}

/// Redis, over one connection on which calls overlap, as its driver recommends.
#[derive(Clone)]
pub(super) struct Redis {
    connection: MultiplexedConnection,
    /// What its keys begin with.
    prefix: Arc<str>,
}

impl Redis {
    pub(super) async fn connect(url: &str, prefix: &str) -> Result<Self> {
        let client = redis::Client::open(url).context("the URL of Redis cannot be read")?;
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(DEADLINE));
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        Ok(Self { connection: connection.context("Redis cannot be reached")?, prefix: prefix.into() })
    }

    fn key(&self, url: &str) -> String {
        format!("{}:{url}", self.prefix)
    }

    /// Stores what the table has.
    pub(super) async fn fill(&self, dataset: &Dataset) -> Result<()> {
        for number in 0..dataset.live {
            self.put(&dataset.url(number), dataset.any().1, None).await?;
        }
        Ok(())
    }

    /// Removes it.
    pub(super) async fn clear(&self, dataset: &Dataset) -> Result<()> {
        for number in 0..dataset.live {
            let _: () = self.connection.clone().del(self.key(&dataset.url(number))).await?;
        }
        Ok(())
    }
}

impl Contender for Redis {
    async fn ticket(&self, _: &str) -> Result<Option<Ticket>> {
        Ok(None)
    }

    async fn get(&self, url: &str) -> Result<usize> {
        let document: Option<String> = self.connection.clone().get(self.key(url)).await?;
        Ok(document.context("Redis misses a document that is there")?.len())
    }

    async fn put(&self, url: &str, document: &str, _: Option<&Ticket>) -> Result<()> {
        Ok(self.connection.clone().set_ex(self.key(url), document, LIFETIME.as_secs()).await?)
    }
}
