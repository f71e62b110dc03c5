//! Native code on tokio-postgres with prepared statements, as it would be written with care.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, ensure};
use cimd_cache::statements::{GET, GET_MANY, PUT, Statement, Type};
use cimd_cache::{DatabaseUrl, Schema, Ticket, internals};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_postgres::types::{ToSql, Type as PgType};
use tokio_postgres::{Client, Row, Statement as Prepared};

use crate::contender::{Contender, DEADLINE, LIFETIME};

/// One call, one statement.
#[derive(Clone)]
pub(super) struct Native(Arc<Connections>);

struct Connections {
    reads: Vec<Connection>,
    writes: Vec<Connection>,
    /// Permits for a connection of one's own, and the connections that are free; None if calls are pipelined.
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
        let (client, driver) = internals::connect(url).await?;
        tokio::spawn(gathering(driver, calls.clone()));
        let get = prepare(&client, schema, &GET).await?;
        let put = prepare(&client, schema, &PUT).await?;
        connections.push(Connection { client, get, put, calls });
    }
    Ok(connections)
}

async fn prepare(client: &Client, schema: &Schema, statement: &Statement) -> Result<Prepared> {
    let types: Vec<_> = statement.parameters.iter().map(pg_type).collect();
    Ok(client.prepare_typed(&internals::qualify(schema, statement.sql), &types).await?)
}

/// Drives a connection that calls share. Once woken it lets the tasks that are ready go first, and then sends
/// what they left in one go: answers come in groups, each wakes its caller, and most callers ask again at
/// once.
async fn gathering(connection: impl Future<Output = ()>, calls: Arc<AtomicUsize>) {
    let mut connection = pin!(connection);
    let mut has_waited = false;
    let poll = |context: &mut Context<'_>| -> Poll<()> {
        has_waited = !has_waited && calls.load(Ordering::Relaxed) > 1;
        if has_waited {
            // To the end of the queue of what is ready.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        connection.as_mut().poll(context)
    };
    std::future::poll_fn(poll).await;
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

/// Gets that wait travel together, as the cache's do and with its statement, but without a sandbox; puts go
/// as those of a pool.
#[derive(Clone)]
pub(super) struct Batched {
    gets: mpsc::UnboundedSender<(String, oneshot::Sender<Result<String>>)>,
    pool: Native,
}

/// As many as the cache takes.
const BATCH: usize = 32;

impl Batched {
    pub(super) async fn new(url: &DatabaseUrl, schema: &Schema, reads: usize, writes: usize) -> Result<Self> {
        let (gets, waiting) = mpsc::unbounded_channel();
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        for _ in 0..reads {
            let (client, driver) = internals::connect(url).await?;
            tokio::spawn(driver);
            let get = prepare(&client, schema, &GET).await?;
            let get_many = prepare(&client, schema, &GET_MANY).await?;
            let waiting = waiting.clone();
            tokio::spawn(async move {
                let mut batch = Vec::with_capacity(BATCH);
                while waiting.lock().await.recv_many(&mut batch, BATCH).await > 0 {
                    answer(&client, &get, &get_many, &mut batch).await;
                }
            });
        }
        Ok(Self { gets, pool: Native::pool(url, schema, writes).await? })
    }
}

async fn answer(
    client: &Client,
    get: &Prepared,
    get_many: &Prepared,
    batch: &mut Vec<(String, oneshot::Sender<Result<String>>)>,
) {
    if batch.len() == 1
        && let Some((url, reply)) = batch.pop()
    {
        let row = client.query_one(get, &[&url]).await.map_err(anyhow::Error::from);
        let _ = reply.send(row.and_then(|row| fresh(&row)));
        return;
    }
    let texts: Vec<_> = batch.iter().map(|(url, _)| format!("\"{url}\"")).collect();
    let array = format!("{{{}}}", texts.join(","));
    let rows = client.query(get_many, &[&array, &(batch.len() as i64)]).await;
    let found = rows.and_then(|rows| {
        let document = |row: &Row| {
            let (now, expires_at): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(4)?);
            let (url, document): (Option<String>, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
            Ok(url.zip(document.filter(|_| expires_at > Some(now))))
        };
        rows.iter().map(document).filter_map(Result::transpose).collect::<Result<HashMap<_, _>, _>>()
    });
    let found = found.unwrap_or_default();
    for (url, reply) in batch.drain(..) {
        // A URL that was asked for twice is there once.
        let document = found.get(&url).cloned();
        let _ = reply.send(document.context("native code misses a document that is there"));
    }
}

impl Contender for Batched {
    async fn ticket(&self, url: &str) -> Result<Option<Ticket>> {
        self.pool.ticket(url).await
    }

    async fn get(&self, url: &str) -> Result<usize> {
        let (reply, answer) = oneshot::channel();
        self.gets.send((url.to_owned(), reply)).ok().context("the workers are gone")?;
        Ok(tokio::time::timeout(DEADLINE, answer).await???.len())
    }

    async fn put(&self, url: &str, document: &str, ticket: Option<&Ticket>) -> Result<()> {
        self.pool.put(url, document, ticket).await
    }
}
