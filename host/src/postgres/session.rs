//! An open connection, what is prepared on it, and whether it still answers.
//!
//! Only what is hot is prepared: the get and the put. All else is sent unprepared, which takes one round trip too and costs
//! the server some planning. That is not for simplicity. A pooler in transaction mode that does not know prepared
//! statements by client (pgbouncer before 1.21) can hand a connection to one node on which another has prepared a
//! different statement under the same name. The two that are prepared have different numbers of parameters, so the server
//! refuses to run one for the other, and a get can never turn out to be a delete. After such a refusal nothing is prepared
//! any more.
//!
//! The get of another schema is a different statement too, with the same number of parameters: so only caches in the schema
//! `cimd_cache` prepare, unless their builder says that there is no such pooler. And who changes the text of one of the
//! two while nodes of both versions run has to mind it likewise.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cimd_cache_guest::statements::{self, Statement};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;
use tokio_postgres::{Client, Statement as Prepared};

use super::connect::{Connected, Server};
use super::dial::Heard;
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

impl Naming {
    pub(super) fn new(is_used: bool) -> Self {
        Self(AtomicBool::new(is_used))
    }

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
    /// How many attempts had failed before it was opened.
    pub(super) failures: u32,
    heard: Heard,
    /// Whether it has answered any statement.
    answered_once: AtomicBool,
    /// How many in a row before it had not, and were given up.
    pub(super) silences: u32,
    pub(super) server: Server,
    /// How many calls wait for an answer on it.
    waiting: AtomicUsize,
    /// When it was last known to be alive, as [`Destination::time`] has it.
    alive_at: AtomicU64,
    /// Since when an answer is owed, likewise; or [`ANSWERED`]. And how much had been heard by then.
    owing_since: AtomicU64,
    heard_by_then: AtomicU64,
}

/// Nothing is owed.
const ANSWERED: u64 = u64::MAX;

/// The least that an answer has: of an error, or of the messages BindComplete, CommandComplete and ReadyForQuery. What
/// trickles in below that is as good as silence.
const ANSWER_BYTES: u64 = 16;

impl Session {
    pub(super) fn new(
        destination: Arc<Destination>,
        counts: Arc<Counts>,
        Connected { client, connection, heard, server }: Connected<JoinHandle<()>>,
        failures: u32,
        silences: u32,
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
            heard,
            answered_once: AtomicBool::new(false),
            silences,
            server,
            waiting: AtomicUsize::new(0),
            owing_since: AtomicU64::new(ANSWERED),
            heard_by_then: AtomicU64::new(0),
        }
    }

    pub(super) fn closed_by(&self, closer: &JoinHandle<()>) {
        // There is one, set once.
        let _ = self.closer.set(closer.abort_handle());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Whether another connection fell silent, and this one, on which nobody waits, has not been heard of since: what
    /// swallowed that one may have swallowed it too.
    pub(super) fn is_doubtful(&self) -> bool {
        !self.is_waited_for()
            && self.alive_at.load(Ordering::Relaxed) < self.destination.silent_since.load(Ordering::Relaxed)
    }

    /// Since when it has left everything unanswered, if that is for so long.
    pub(super) fn silent_since(&self, so_long: Duration) -> Option<u64> {
        let since = Some(self.owing_since.load(Ordering::Relaxed)).filter(|&since| since != ANSWERED)?;
        let silence = Duration::from_nanos(self.destination.time().saturating_sub(since));
        (!self.was_heard() && silence >= so_long).then_some(since)
    }

    /// Whether an answer, be it to somebody who has gone, came since one is owed.
    fn was_heard(&self) -> bool {
        self.heard.bytes() >= self.heard_by_then.load(Ordering::Relaxed) + ANSWER_BYTES
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered_once.load(Ordering::Relaxed)
    }

    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
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

    /// Waits for an answer of the connection until `deadline`.
    pub(super) async fn answer<T>(
        &self,
        deadline: Instant,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let waiting = Waiting::on(self);
        if self.owing_since.load(Ordering::Relaxed) == ANSWERED || self.was_heard() {
            // Where two calls are first at once, it does not matter which of them is written down.
            self.owe(self.destination.time());
        }
        let answer = tokio::time::timeout_at(deadline, answer).await.map_err(|_| Failure::TimedOut)?;
        let now = self.destination.time();
        self.alive_at.fetch_max(now, Ordering::Relaxed);
        // To the others it owes theirs, from now on. If they have gone meanwhile, it does not.
        self.owe(now);
        drop(waiting);
        if !self.is_waited_for() {
            self.owing_since.store(ANSWERED, Ordering::Relaxed);
        }
        answer
    }

    fn owe(&self, since: u64) {
        self.heard_by_then.store(self.heard.bytes(), Ordering::Relaxed);
        self.owing_since.store(since, Ordering::Relaxed);
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
            // Before it is prepared, which the server has to work on too.
            let number = self.counts.statements.fetch_add(1, Ordering::Relaxed) + 1;
            let rows = async {
                if self.destination.naming.is_used_for(statement) {
                    let prepared = self.prepare(index).await?;
                    Ok::<_, Failure>(self.client.query_raw(&prepared, parameters).await?)
                } else {
                    let sql = self.destination.schema.qualify(statement.sql);
                    let typed = parameters.zip(values::parameter_types(statement));
                    Ok(self.client.query_typed_raw(&sql, typed).await?)
                }
            };
            let result = match rows.await {
                Ok(rows) => values::collect(statement, rows).await,
                Err(failure) => Err(failure),
            };
            self.answered_once.store(true, Ordering::Relaxed);
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

/// A call that waits for an answer, until it is dropped.
struct Waiting<'a> {
    session: &'a Session,
    heard_before: u64,
}

impl<'a> Waiting<'a> {
    fn on(session: &'a Session) -> Self {
        session.waiting.fetch_add(1, Ordering::Relaxed);
        Self { session, heard_before: session.heard.bytes() }
    }
}

impl Drop for Waiting<'_> {
    /// The last who leaves takes the debt along, if anything was heard while he was there: what else is owed is owed to
    /// nobody. One who hears nothing leaves it to those after him, or a dead connection would never be found out by callers
    /// who give up early.
    fn drop(&mut self) {
        let session = self.session;
        let is_last = session.waiting.fetch_sub(1, Ordering::Relaxed) == 1;
        if is_last && session.heard.bytes() >= self.heard_before + ANSWER_BYTES {
            session.owing_since.store(ANSWERED, Ordering::Relaxed);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(closer) = self.closer.get() {
            closer.abort();
        }
        // It would wait for what is owed, and where nothing comes any more, for ever.
        if self.owing_since.load(Ordering::Relaxed) != ANSWERED && !self.was_heard() {
            self.abort.abort();
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
