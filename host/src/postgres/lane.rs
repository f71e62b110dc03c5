//! Lanes.
//!
//! A lane is one connection with its prepared statements, used by many calls at once: tokio-postgres sends each
//! query as it comes and does not wait for the answers before it, so one connection carries tens of thousands of
//! queries a second. What is slow holds up what is behind it on the same lane, which is why reads, writes and
//! maintenance have lanes of their own.
//!
//! A lane connects when a call first needs it, in a task of its own, so that a caller who gives up does not take the
//! attempt along. All callers that come meanwhile wait for the same attempt, and all get its outcome. After a failure
//! the next attempt waits, each time longer, with jitter: nodes that lost their database together do not return to it
//! together.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cimd_cache_guest::statements;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::{Client, Statement as Prepared};

use super::connect::Connector;
use super::gather::gathering;
use super::{Failure, values};
use crate::bindings::cimd::cache::sql::{Row, Value};
use crate::schema::Schema;

/// The longest pause between two attempts to connect. Short, so that the cache is back within a second of the
/// database; the pauses before it double from [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// How long connecting may take, TLS and login included, to whichever of several hosts. An attempt outlives the
/// callers that wait for it, so this may exceed their deadlines.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Where lanes lead, and how their connections are kept.
pub(super) struct Destination {
    pub(super) connector: Connector,
    /// SQL that every connection begins with.
    pub(super) settings: String,
    pub(super) schema: Schema,
    /// The longest deadline of a call: a connection that leaves everything unanswered for so long is given up.
    pub(super) patience: Duration,
    /// For how long a connection is kept that nobody uses.
    pub(super) idle: Duration,
}

/// One connection, replaced when it fails.
pub(super) struct Lane {
    destination: Arc<Destination>,
    slot: Mutex<Slot>,
    /// How many calls are on it now.
    calls: Arc<AtomicUsize>,
    counts: Arc<Counts>,
}

/// What a lane has done so far. Counted for each lane, because a number that all calls change slows all of them.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    prepared: AtomicU64,
    statements: AtomicU64,
}

/// What lanes have done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Connections that were opened.
    pub(crate) connections: u64,
    /// Statements that were prepared, each in a round trip.
    pub(crate) prepared: u64,
    /// Statements that were sent, each in a round trip.
    pub(crate) statements: u64,
}

enum Slot {
    /// Not connected. `failures` attempts in a row have failed.
    Idle { failures: u32 },
    /// An attempt is under way, or waits for its time.
    Connecting(Attempt),
    /// Connected, as far as is known.
    Open(Arc<Session>),
}

type Attempt = Shared<BoxFuture<'static, Result<Arc<Session>, Failure>>>;

impl Lane {
    pub(super) fn new(destination: Arc<Destination>) -> Self {
        let slot = Mutex::new(Slot::Idle { failures: 0 });
        Self { destination, slot, calls: Arc::default(), counts: Arc::default() }
    }

    pub(super) fn done(&self) -> Done {
        let Counts { connections, prepared, statements } = &*self.counts;
        Done {
            connections: connections.load(Ordering::Relaxed),
            prepared: prepared.load(Ordering::Relaxed),
            statements: statements.load(Ordering::Relaxed),
        }
    }

    /// How many calls are on this lane.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Counts a call for as long as the guard lives.
    pub(super) fn enter(&self) -> impl Drop + use<'_> {
        struct Leave<'a>(&'a AtomicUsize);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        Leave(&self.calls)
    }

    /// The open connection, or the outcome of one attempt to open it.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Arc<Session>, Failure> {
        let attempt = {
            let mut slot = self.slot.lock();
            match &*slot {
                Slot::Open(session) if !session.is_closed() => return Ok(session.clone()),
                // One that never ran, because its runtime has ended, left the slot as it was.
                Slot::Connecting(attempt) if matches!(attempt.peek(), Some(Err(_))) => {
                    self.begin(&mut slot, 0)
                }
                Slot::Connecting(attempt) => attempt.clone(),
                Slot::Open(_) => self.begin(&mut slot, 0),
                &Slot::Idle { failures } => self.begin(&mut slot, failures),
            }
        };
        attempt.await
    }

    fn begin(self: &Arc<Self>, slot: &mut Slot, failures: u32) -> Attempt {
        let lane = self.clone();
        let task = tokio::spawn(async move {
            // Not before the task runs: dropped unpolled, it is dropped under the slot's lock.
            let mut attempt = Attempting { lane, failures, outcome: Err(Failure::Unavailable) };
            if failures > 0 {
                tokio::time::sleep(pause(failures)).await;
            }
            let Destination { connector, settings, .. } = &*attempt.lane.destination;
            let connected = connector.connect(settings, CONNECT_WITHIN).await;
            attempt.outcome = connected.map(|(client, connection)| {
                let connection = tokio::spawn(gathering(connection, attempt.lane.calls.clone()));
                Arc::new(Session::new(&attempt.lane, client, connection))
            });
            if let Ok(session) = &attempt.outcome {
                tokio::spawn(close_when_idle(Arc::downgrade(&attempt.lane), Arc::downgrade(session)));
            }
            attempt.outcome.clone()
        });
        let attempt = task.map(|joined| joined.unwrap_or(Err(Failure::Unavailable))).boxed().shared();
        *slot = Slot::Connecting(attempt.clone());
        attempt
    }

    /// Stops using a connection after a failure, if that is one of the connection: the next call opens another, after
    /// a pause. Calls still on the old one may end there within the longest deadline; then it is closed, whatever
    /// hangs.
    pub(super) fn retire_after(&self, failure: &Failure, session: &Arc<Session>) {
        // One call's time being up says nothing about the connection that many share; long silence does.
        let patience = self.destination.patience;
        let silent = || session.silent_for() >= patience.mul_f64(0.9);
        if !(failure.ends_connection() || matches!(failure, Failure::TimedOut) && silent()) {
            return;
        }
        let mut slot = self.slot.lock();
        if matches!(&*slot, Slot::Open(current) if Arc::ptr_eq(current, session)) {
            tracing::warn!("a database connection is given up");
            *slot = Slot::Idle { failures: 1 };
            // Not the session itself, which ends the connection by itself with the last call on it.
            let connection = session.connection.abort_handle();
            tokio::spawn(async move {
                tokio::time::sleep(patience).await;
                connection.abort();
            });
        }
    }
}

/// Gives a connection up once no call has used it for the lane's idle time, or up to twice that: a node that was busy
/// for a moment does not keep the server's processes for ever.
async fn close_when_idle(lane: Weak<Lane>, session: Weak<Session>) {
    let mut seen = None;
    while let Some(idle) = lane.upgrade().map(|lane| lane.destination.idle) {
        tokio::time::sleep(idle).await;
        let (Some(lane), Some(session)) = (lane.upgrade(), session.upgrade()) else { return };
        let statements = lane.counts.statements.load(Ordering::Relaxed);
        if seen.replace(statements) != Some(statements) || lane.calls() > 0 {
            continue;
        }
        let mut slot = lane.slot.lock();
        if matches!(&*slot, Slot::Open(current) if Arc::ptr_eq(current, &session)) {
            tracing::debug!("an idle database connection is closed");
            // A call that has just taken it keeps it open until it has its answer.
            *slot = Slot::Idle { failures: 0 };
        }
        return;
    }
}

/// An attempt in its task. It leaves its outcome in the lane's slot when it ends, also when it is dropped half-way
/// because its runtime ends: nobody may be waiting any more, and the next caller must not wait for ever.
struct Attempting {
    lane: Arc<Lane>,
    failures: u32,
    outcome: Result<Arc<Session>, Failure>,
}

impl Drop for Attempting {
    fn drop(&mut self) {
        *self.lane.slot.lock() = match &self.outcome {
            Ok(session) => {
                tracing::debug!("connected to the database");
                self.lane.counts.connections.fetch_add(1, Ordering::Relaxed);
                Slot::Open(session.clone())
            }
            Err(error) => {
                let failures = self.failures.saturating_add(1);
                tracing::warn!(%error, failures, "cannot connect to the database");
                Slot::Idle { failures }
            }
        };
    }
}

/// How long to wait before the attempt after so many failures: doubling, and somewhere between half of that and all.
fn pause(failures: u32) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// An open connection and what was prepared on it.
pub(super) struct Session {
    client: Client,
    connection: JoinHandle<()>,
    destination: Arc<Destination>,
    counts: Arc<Counts>,
    prepared: [OnceCell<Prepared>; statements::ALL.len()],
    opened: Instant,
    /// Since when something has been sent and nothing answered, in nanoseconds after it was opened; or [`ANSWERED`].
    unanswered_since: AtomicU64,
}

/// Nothing is waited for.
const ANSWERED: u64 = u64::MAX;

impl Session {
    fn new(lane: &Lane, client: Client, connection: JoinHandle<()>) -> Self {
        Self {
            client,
            connection,
            destination: lane.destination.clone(),
            counts: lane.counts.clone(),
            prepared: Default::default(),
            opened: Instant::now(),
            unanswered_since: AtomicU64::new(ANSWERED),
        }
    }

    fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The connection itself, for what the host asks on its own behalf.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// For how long nothing that was sent has been answered.
    fn silent_for(&self) -> Duration {
        match self.unanswered_since.load(Ordering::Relaxed) {
            ANSWERED => Duration::ZERO,
            since => self.opened.elapsed().saturating_sub(Duration::from_nanos(since)),
        }
    }

    /// Waits for an answer of the connection until `deadline`.
    pub(super) async fn answer<T>(
        &self,
        deadline: Instant,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        if self.unanswered_since.load(Ordering::Relaxed) == ANSWERED {
            // Where two calls are first at once, it does not matter which of them is written down.
            let since = u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(ANSWERED);
            self.unanswered_since.store(since, Ordering::Relaxed);
        }
        let answer = tokio::time::timeout_at(deadline, answer).await.map_err(|_| Failure::TimedOut)?;
        self.unanswered_since.store(ANSWERED, Ordering::Relaxed);
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
            let prepare = async || {
                self.counts.prepared.fetch_add(1, Ordering::Relaxed);
                let sql = self.destination.schema.qualify(statement.sql);
                self.client.prepare_typed(&sql, &values::parameter_types(statement)).await
            };
            let prepared = self.prepared[index].get_or_try_init(prepare).await?;
            self.counts.statements.fetch_add(1, Ordering::Relaxed);
            let rows = self.client.query_raw(prepared, parameters.iter().map(values::Parameter)).await?;
            values::collect(statement, rows).await
        };
        self.answer(deadline, answer).await
    }
}
