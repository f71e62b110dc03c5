//! What all workers of a cache share: the queues in front of them, the database, the near cache, what is
//! counted and logged. It can have a worker started, and does not know what one is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cimd_cache_guest::statements::{self, Purpose};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::queue::{Bounds, Next, Queue, Shed};
use super::request::{Missed, Pending, Request, Task, reply};
use crate::bindings::cimd::cache::sql;
use crate::error::Error;
use crate::log_limit::LogLimit;
use crate::near_cache::NearCache;
use crate::postgres::{Connection, Database, Failure};
use crate::types::{Lookup, PoolStats, Stats};

/// A role can see what its own processes are doing, but not those of other roles.
const IS_AT_WORK: &str = "\
select exists (
  select true from pg_catalog.pg_stat_activity
  where pid operator(pg_catalog.=) $1 and state operator(pg_catalog.=) 'active'
)";

/// How many workers there may be, and what may wait for them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) read_connections: usize,
    pub(crate) write_connections: usize,
    pub(crate) batch: usize,
    pub(crate) waiting: usize,
    pub(crate) deadline: Duration,
}

/// Starts the worker of a number, for calls of a purpose.
pub(super) type Start = Box<dyn Fn(&Arc<Shared>, Purpose, usize) + Send + Sync>;

/// What all workers of a cache share.
pub(crate) struct Shared {
    database: Option<Arc<Database>>,
    near: Option<NearCache>,
    limits: Limits,
    start: Start,
    queues: [Queue; 3],
    is_closed: AtomicBool,
    pub(crate) batches: AtomicU64,
    pub(crate) batched_keys: AtomicU64,
    pub(crate) instances_discarded: AtomicU64,
    logs: Logs,
}

/// One for each kind of line.
struct Logs {
    /// One for each statement: what goes wrong with one must not hide what goes wrong with another.
    failed: [LogLimit; statements::ALL.len()],
    refused: LogLimit,
    broken: LogLimit,
}

impl Shared {
    pub(super) fn new(
        database: Option<Database>,
        near: Option<NearCache>,
        limits: Limits,
        start: Start,
    ) -> Self {
        let queue = |name, workers| {
            Queue::new(name, Bounds { workers, batch: limits.batch, waiting: limits.waiting })
        };
        Self {
            database: database.map(Arc::new),
            near,
            limits,
            start,
            queues: [
                queue("reads", limits.read_connections),
                queue("writes", limits.write_connections),
                queue("maintenance", 1),
            ],
            is_closed: AtomicBool::new(false),
            batches: AtomicU64::new(0),
            batched_keys: AtomicU64::new(0),
            instances_discarded: AtomicU64::new(0),
            logs: Logs {
                failed: std::array::from_fn(|_| LogLimit::new()),
                refused: LogLimit::new(),
                broken: LogLimit::new(),
            },
        }
    }

    pub(crate) fn database(&self) -> Option<&Arc<Database>> {
        self.database.as_ref()
    }

    pub(crate) fn near(&self) -> Option<&NearCache> {
        self.near.as_ref()
    }

    /// The longest deadline of a call.
    pub(crate) fn deadline(&self) -> Duration {
        self.limits.deadline
    }

    pub(crate) fn queue(&self, purpose: Purpose) -> &Queue {
        match purpose {
            Purpose::Read => &self.queues[0],
            Purpose::Write => &self.queues[1],
            Purpose::Maintenance => &self.queues[2],
        }
    }

    /// Looks a document up. Returns when there is an answer, or at the deadline.
    pub(crate) async fn get(self: &Arc<Self>, url: &str, deadline: Instant) -> Result<Lookup, Error> {
        let (reply, pending) = reply(deadline);
        let next = self.queue(Purpose::Read).push_get(url, reply);
        let (answer, together) = self.answer(Purpose::Read, next, pending).await;
        tracing::Span::current().record("keys", together);
        answer
    }

    /// Has a worker do something. Returns when there is an answer, or at the deadline.
    pub(crate) async fn submit<T, E: From<Missed>>(
        self: &Arc<Self>,
        purpose: Purpose,
        (request, pending): (Request, Pending<Result<T, E>>),
    ) -> Result<T, E> {
        let next = self.queue(purpose).push(request);
        self.answer(purpose, next, pending).await.0
    }

    /// Asks something on the host's own behalf, over the connection of a worker.
    pub(crate) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        purpose: Purpose,
        deadline: Instant,
        urgent: bool,
        question: impl for<'a> FnOnce(&'a mut Connection) -> BoxFuture<'a, Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let request = Request::new(deadline, urgent, 0, |reply| {
            Task::Ask(Box::new(|connection| {
                async move {
                    reply.send(match connection {
                        Ok(connection) => question(connection).await,
                        Err(failure) => Err(failure),
                    });
                }
                .boxed()
            }))
        });
        self.submit(purpose, request).await
    }

    /// Wakes or starts the worker that serves a call, if it was admitted, and waits for the answer. Also
    /// returns how many calls were served together.
    async fn answer<T, E: From<Missed>>(
        self: &Arc<Self>,
        purpose: Purpose,
        next: Result<Next, Shed>,
        pending: Pending<Result<T, E>>,
    ) -> (Result<T, E>, usize) {
        match next {
            Err(Shed) => return (Err(Missed::NotBegun.into()), 0),
            Ok(Next::Busy) => {}
            Ok(Next::Wake(wake)) => wake.notify_one(),
            Ok(Next::Start(number)) => (self.start)(self, purpose, number),
        }
        let (answer, together) = pending.answer().await;
        (answer.map_err(E::from).flatten(), together)
    }

    /// Whether the server process of a connection is still working on its statement. None if the server
    /// cannot be asked. The maintenance connection asks about the others, and a connection for gets asks
    /// about that one.
    pub(crate) async fn is_at_work(self: &Arc<Self>, process: i32, purpose: Purpose) -> Option<bool> {
        let over = match purpose {
            Purpose::Read | Purpose::Write => Purpose::Maintenance,
            Purpose::Maintenance => Purpose::Read,
        };
        let deadline = Instant::now() + self.limits.deadline;
        let is_at_work = async move |client: &Client| {
            let rows = client.query_typed(IS_AT_WORK, &[(&process, Type::INT4)]).await?;
            Ok::<bool, Failure>(rows.first().ok_or(Failure::NoRow)?.try_get(0)?)
        };
        let answer = self.ask(over, deadline, true, move |connection| {
            let patience = connection.silence();
            connection.ask(patience, is_at_work).boxed()
        });
        answer.await.ok()
    }

    /// Where a statement stands in the list.
    pub(crate) fn index_of(&self, sql: &str) -> Result<usize, sql::Error> {
        let index = statements::ALL.iter().position(|statement| statement.sql == sql);
        index.ok_or_else(|| {
            if let Some(suppressed) = self.logs.refused.pass() {
                tracing::error!(suppressed, "a statement that is not on the list was refused");
            }
            sql::Error::NotAllowed
        })
    }

    pub(crate) fn log_failed(&self, index: usize, failure: &Failure) {
        if let Some(suppressed) = self.logs.failed[index].pass() {
            let statement = statements::ALL[index].name;
            tracing::warn!(statement, error = %failure, suppressed, "a statement failed");
        }
    }

    pub(crate) fn log_broken(&self, error: &wasmtime::Error, message: &'static str) {
        if let Some(suppressed) = self.logs.broken.pass() {
            tracing::error!(error = format!("{error:#}"), suppressed, "{message}");
        }
    }

    pub(crate) fn gave_up(&self, silent_since: Instant) {
        if let Some(database) = &self.database {
            database.liveness.given_up(silent_since);
        }
    }

    /// Whether no more calls are admitted.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Admits no more calls. Workers serve what was admitted, close their connections, and end.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.queues.iter().for_each(Queue::close);
    }

    /// Returns when the last worker has ended, after [`close`](Self::close).
    pub(crate) async fn ended(&self) {
        for queue in &self.queues {
            queue.ended().await;
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut stats = Stats {
            batches: of(&self.batches),
            batched_keys: of(&self.batched_keys),
            instances_discarded: of(&self.instances_discarded),
            ..Stats::default()
        };
        if let Some(database) = &self.database {
            let counts = &database.counts;
            stats.statements = of(&counts.statements);
            stats.statements_prepared = of(&counts.prepared);
            stats.connections_opened = of(&counts.opened);
            stats.silent = counts.silent.load(Ordering::Relaxed);
        }
        if let Some(near) = &self.near {
            (stats.near_hits, stats.near_bytes) = (near.hits(), near.bytes());
        }
        let [reads, writes, maintenance] = &self.queues;
        for (queue, pool) in
            [(reads, &mut stats.reads), (writes, &mut stats.writes), (maintenance, &mut stats.maintenance)]
        {
            let count = queue.count();
            *pool = PoolStats {
                waiting: count.waiting,
                in_flight: count.busy,
                connections: count.workers - count.connecting,
                connecting: count.connecting,
            };
            stats.shed += queue.shed();
            stats.waiting += count.waiting;
            stats.in_flight += count.busy;
            stats.workers += count.workers;
            stats.connecting += count.connecting;
        }
        stats.connections = stats.workers - stats.connecting;
        stats
    }
}
