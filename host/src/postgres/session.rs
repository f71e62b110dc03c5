//! An open connection, and what is prepared on it.
//!
//! Only what is hot is prepared: the get and the put. All else is sent unprepared, which takes one round trip too and
//! costs the server a few dozen microseconds of planning. That is not for simplicity. A pooler in transaction mode that does not
//! know prepared statements by client (pgbouncer before 1.21) can hand a connection to one node on which another has
//! prepared a different statement under the same name. The two that are prepared have different numbers of parameters, so
//! the server refuses to run one for the other, and a get can never turn out to be a delete. After such a refusal nothing
//! is prepared any more.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cimd_cache_guest::statements::{self, Statement};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;
use tokio_postgres::{Client, Statement as Prepared};

use super::lane::{Counts, Destination};
use super::{Failure, values};
use crate::bindings::cimd::cache::sql::{Row, Value};

/// Whether a statement is one of those that are prepared.
pub(super) fn is_hot(statement: &Statement) -> bool {
    [statements::GET.name, statements::PUT.name].contains(&statement.name)
}

/// Whether statements may be prepared on a database's connections. They may until a pooler mixes them up.
#[derive(Debug)]
pub(super) struct Naming(AtomicBool);

impl Default for Naming {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Naming {
    pub(super) fn is_used_for(&self, statement: &Statement) -> bool {
        is_hot(statement) && self.0.load(Ordering::Relaxed)
    }

    pub(super) fn give_up(&self) {
        if self.0.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                "a pooler mixes up prepared statements; from now on none are used, which makes gets slower: \
                 pgbouncer 1.21 or later with max_prepared_statements would do better"
            );
        }
    }
}

/// An open connection.
pub(super) struct Session {
    client: Client,
    /// Taken by whoever replaces it, to wait for its end.
    connection: Mutex<Option<JoinHandle<()>>>,
    abort: AbortHandle,
    /// The task that closes it when nobody uses it, which ends with it.
    closer: OnceLock<AbortHandle>,
    destination: Arc<Destination>,
    counts: Arc<Counts>,
    prepared: [Mutex<Arc<OnceCell<Prepared>>>; statements::ALL.len()],
    opened: Instant,
    /// By when it was alive at the least: when something was sent that has been answered, as [`Destination::time`] has it.
    alive_at: AtomicU64,
    /// How many attempts had failed before it was opened.
    pub(super) failures: u32,
    /// Since when something has been sent and nothing answered, likewise; or [`ANSWERED`].
    unanswered_since: AtomicU64,
}

/// Nothing is waited for.
const ANSWERED: u64 = u64::MAX;

impl Session {
    pub(super) fn new(
        destination: Arc<Destination>,
        counts: Arc<Counts>,
        (client, connection): (Client, JoinHandle<()>),
        failures: u32,
    ) -> Self {
        Self {
            client,
            alive_at: AtomicU64::new(destination.time()),
            abort: connection.abort_handle(),
            connection: Mutex::new(Some(connection)),
            closer: OnceLock::new(),
            destination,
            counts,
            prepared: Default::default(),
            opened: Instant::now(),
            failures,
            unanswered_since: AtomicU64::new(ANSWERED),
        }
    }

    pub(super) fn closed_by(&self, closer: &JoinHandle<()>) {
        // There is one, set once.
        let _ = self.closer.set(closer.abort_handle());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Whether another connection fell silent, and this one has not been heard of since: what swallowed that one may have
    /// swallowed it too, while nobody used it.
    pub(super) fn is_doubtful(&self) -> bool {
        self.alive_at.load(Ordering::Relaxed) < self.destination.silent_since.load(Ordering::Relaxed)
    }

    /// For how long it has been open.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// The connection's task, for the first who asks.
    pub(super) fn take_connection(&self) -> Option<JoinHandle<()>> {
        self.connection.lock().take()
    }

    /// Closes the connection from this side. Calls that wait for an answer on it get an error.
    pub(super) fn abort(&self) {
        self.abort.abort();
    }

    /// The connection itself, for what the host asks on its own behalf.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Since when nothing that was sent has been answered, and for how long.
    pub(super) fn silence(&self) -> Option<(u64, Duration)> {
        let since = Some(self.unanswered_since.load(Ordering::Relaxed)).filter(|&since| since != ANSWERED)?;
        Some((since, Duration::from_nanos(self.destination.time().saturating_sub(since))))
    }

    /// Waits for an answer of the connection until `deadline`.
    pub(super) async fn answer<T>(
        &self,
        deadline: Instant,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        if self.unanswered_since.load(Ordering::Relaxed) == ANSWERED {
            // Where two calls are first at once, it does not matter which of them is written down.
            self.unanswered_since.store(self.destination.time(), Ordering::Relaxed);
        }
        let answer = tokio::time::timeout_at(deadline, answer).await.map_err(|_| Failure::TimedOut)?;
        let since = self.unanswered_since.swap(ANSWERED, Ordering::Relaxed);
        if since != ANSWERED {
            self.alive_at.fetch_max(since, Ordering::Relaxed);
        }
        answer
    }

    /// Runs the statement that stands at `index` of the list, before `deadline`.
    pub(super) async fn run(
        &self,
        index: usize,
        parameters: &[Value],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        let statement = statements::ALL[index];
        let answer = async {
            let parameters = parameters.iter().map(values::Parameter);
            let send = || self.counts.statements.fetch_add(1, Ordering::Relaxed) + 1;
            let (number, rows) = if self.destination.naming.is_used_for(statement) {
                let prepared = self.prepare(index).await?;
                (send(), self.client.query_raw(&prepared, parameters).await)
            } else {
                let sql = self.destination.schema.qualify(statement.sql);
                let typed = parameters.zip(values::parameter_types(statement));
                (send(), self.client.query_typed_raw(&sql, typed).await)
            };
            let result = match rows {
                Ok(rows) => values::collect(statement, rows).await,
                Err(error) => Err(error.into()),
            };
            self.counts.answered.fetch_max(number, Ordering::Relaxed);
            result
        };
        self.answer(deadline, answer).await
    }

    /// The statement as it was prepared on this connection, once for all calls.
    async fn prepare(&self, index: usize) -> Result<Prepared, Failure> {
        let cell = self.prepared[index].lock().clone();
        let prepare = async || {
            self.counts.prepared.fetch_add(1, Ordering::Relaxed);
            let statement = statements::ALL[index];
            let sql = self.destination.schema.qualify(statement.sql);
            self.client.prepare_typed(&sql, &values::parameter_types(statement)).await
        };
        Ok(cell.get_or_try_init(prepare).await?.clone())
    }

    /// Lets the next call prepare the statement anew, because the table was altered.
    pub(super) fn forget(&self, index: usize) {
        *self.prepared[index].lock() = Arc::default();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(closer) = self.closer.get() {
            closer.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_prepared_statements_can_be_run_for_each_other() {
        let mut counts: Vec<_> = statements::ALL
            .iter()
            .filter(|statement| is_hot(statement))
            .map(|statement| statement.parameters.len())
            .collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 6]);
    }
}
