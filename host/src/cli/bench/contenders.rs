//! Who is measured: the cache, and what a team would use or write instead. All get the same calls on the same rows, and
//! give every call the same deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::population::Population;
use anyhow::{Context, Result, ensure};
use cimd_cache::statements::{GET, PUT, Statement, Type};
use cimd_cache::{Cache, DatabaseUrl, Expiry, Lookup, Schema, Stored, Ticket};
use parking_lot::Mutex;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::sync::Semaphore;
use tokio_postgres::types::{ToSql, Type as PgType};
use tokio_postgres::{Client, Row, Statement as Prepared};

/// How long a document that is put stays fresh.
const LIFETIME: Duration = Duration::from_secs(86_400);

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
        ensure!(stored == Stored::Stored, "the cache superseded a put of now");
        Ok(())
    }
}

/// Native code on tokio-postgres with prepared statements, as it would be written with care.
#[derive(Clone)]
pub(super) struct Native(Arc<Connections>);

struct Connections {
    reads: Vec<Connection>,
    writes: Vec<Connection>,
    /// Who may have a connection for himself, and which are free; none in a pipelined one.
    pool: Option<(Semaphore, Mutex<Vec<usize>>)>,
}

struct Connection {
    client: Client,
    get: Prepared,
    put: Prepared,
    calls: Arc<AtomicUsize>,
}

impl Native {
    /// Calls share connections, and queries on one overlap.
    pub(super) async fn pipelined(
        url: &DatabaseUrl,
        schema: &Schema,
        reads: usize,
        writes: usize,
    ) -> Result<Self> {
        let reads = connect(url, schema, reads).await?;
        let writes = connect(url, schema, writes).await?;
        Ok(Self(Arc::new(Connections { reads, writes, pool: None })))
    }

    /// A call has a connection for itself, and waits for one to be free.
    pub(super) async fn pool(url: &DatabaseUrl, schema: &Schema, size: usize) -> Result<Self> {
        let reads = connect(url, schema, size).await?;
        let pool = Some((Semaphore::new(size), Mutex::new((0..size).collect())));
        Ok(Self(Arc::new(Connections { reads, writes: Vec::new(), pool })))
    }

    async fn run<T: Send>(
        &self,
        write: bool,
        run: impl AsyncFnOnce(&Connection) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        let Connections { reads, writes, pool } = &*self.0;
        Ok(match pool {
            None => {
                let connections = if write { writes } else { reads };
                let connection =
                    connections.iter().min_by_key(|connection| connection.calls.load(Ordering::Relaxed));
                let connection = connection.context("there are no connections")?;
                connection.calls.fetch_add(1, Ordering::Relaxed);
                let result = tokio::time::timeout(DEADLINE, run(connection)).await;
                connection.calls.fetch_sub(1, Ordering::Relaxed);
                result??
            }
            Some((turns, free)) => {
                let work = async {
                    let _turn = turns.acquire().await?;
                    let index = free.lock().pop().context("a turn without a connection")?;
                    let result = run(&reads[index]).await;
                    free.lock().push(index);
                    Ok::<_, anyhow::Error>(result?)
                };
                tokio::time::timeout(DEADLINE, work).await??
            }
        })
    }
}

async fn connect(url: &DatabaseUrl, schema: &Schema, count: usize) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let calls = Arc::<AtomicUsize>::default();
        let client = url.connect(calls.clone()).await?;
        let prepare = async |statement: &Statement| {
            let types: Vec<_> = statement.parameters.iter().map(pg_type).collect();
            client.prepare_typed(&schema.qualify(statement.sql), &types).await
        };
        let (get, put) = (prepare(&GET).await?, prepare(&PUT).await?);
        connections.push(Connection { client, get, put, calls });
    }
    Ok(connections)
}

fn pg_type(of: &Type) -> PgType {
    match of {
        Type::Boolean => PgType::BOOL,
        Type::Int64 => PgType::INT8,
        Type::Text => PgType::TEXT,
    }
}

/// What the rules make of a row: the document, if it is fresh.
fn fresh(row: &Row) -> Result<String> {
    let (now, expires_at): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(3)?);
    let document: Option<String> = row.try_get(2)?;
    document.filter(|_| expires_at > Some(now)).context("native code misses a document that is there")
}

impl Contender for Native {
    async fn ticket(&self, url: &str) -> Result<Option<Ticket>> {
        let row = self.run(false, async |on| on.client.query_one(&on.get, &[&url]).await).await?;
        let (now, purged_at): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Some(format!("{now:016x}-{purged_at:016x}").into()))
    }

    async fn get(&self, url: &str) -> Result<usize> {
        let row = self.run(false, async |on| on.client.query_one(&on.get, &[&url]).await).await?;
        Ok(fresh(&row)?.len())
    }

    async fn put(&self, url: &str, document: &str, ticket: Option<&Ticket>) -> Result<()> {
        let ticket = ticket.context("native code has a ticket")?.to_string();
        let (read_at, purged_at) = ticket.split_once('-').context("a ticket has two times")?;
        let (read_at, purged_at) = (i64::from_str_radix(read_at, 16)?, i64::from_str_radix(purged_at, 16)?);
        let (at, after) = (None::<i64>, LIFETIME.as_secs().cast_signed());
        let parameters: [&(dyn ToSql + Sync); 6] = [&url, &document, &at, &after, &read_at, &purged_at];
        let rows = self.run(true, async |on| on.client.query(&on.put, &parameters).await).await?;
        ensure!(rows.len() == 1, "native code superseded a put of now");
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
    pub(super) async fn fill(&self, population: &Population) -> Result<()> {
        for number in 0..population.live {
            self.put(&population.url(number), population.any().1, None).await?;
        }
        Ok(())
    }

    /// Removes it.
    pub(super) async fn clear(&self, population: &Population) -> Result<()> {
        for number in 0..population.live {
            let _: () = self.connection.clone().del(self.key(&population.url(number))).await?;
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
