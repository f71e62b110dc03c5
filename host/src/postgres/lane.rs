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

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::CancelToken;

use super::Failure;
use super::connect::{Connected, Connector, Patience, Server};
use super::gather::gathering;
use super::session::{Naming, Session};
use crate::schema::Schema;

/// The longest pause between two attempts to connect. Short, so that the cache is back within a second of the
/// database; the pauses before it double from [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// How long connecting may take, TLS and login included, to whichever of several hosts. An attempt outlives the
/// callers that wait for it, so this may exceed their deadlines.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long a host may leave a login without a word. It is also how late the cache may come back after a network that
/// swallowed everything, so it is short; a host that needs longer would not answer calls in time either.
const CONNECT_SILENCE: Duration = Duration::from_millis(750);

/// A connection that lived for less counts as one more failure: else a server that ends each at once would see a new one
/// at once.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// How long the replacement of a connection waits for the server to have ended the one before, so that a lane does not
/// take two of the server's connections.
const END_WITHIN: Duration = Duration::from_millis(250);

/// Where lanes lead, and how their connections are kept.
pub(super) struct Destination {
    pub(super) connector: Connector,
    /// SQL that every connection begins with.
    pub(super) settings: String,
    pub(super) schema: Schema,
    pub(super) naming: Naming,
    /// What [`time`](Self::time) counts from.
    pub(super) began: Instant,
    /// The latest time since when a connection that fell silent had been so; 0 for none.
    pub(super) silent_since: AtomicU64,
    /// The longest deadline of a call.
    pub(super) patience: Duration,
    /// For how long a connection is kept that nobody uses.
    pub(super) idle: Duration,
}

impl Destination {
    /// Now, in nanoseconds.
    pub(super) fn time(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX - 1)
    }

    /// A connection that leaves everything unanswered for so long is given up: by then the server has stopped a statement
    /// and said so, also from afar.
    fn longest_silence(&self) -> Duration {
        self.patience + (self.patience / 10).max(Duration::from_millis(50))
    }

    /// The same, for one on which a call has just waited for all of its time.
    fn silence_of_a_call(&self) -> Duration {
        self.patience.mul_f64(0.95)
    }

    fn connect_patience(&self) -> Patience {
        // Who has longer deadlines, has a slower network or server.
        let silence = CONNECT_SILENCE.max(self.patience.mul_f64(0.375));
        Patience { whole: CONNECT_WITHIN, silence }
    }
}

/// One connection, replaced when it fails.
pub(super) struct Lane {
    /// What it is for, and which of its kind: for the log.
    name: String,
    destination: Arc<Destination>,
    slot: Mutex<Slot>,
    /// How many calls are on it now.
    calls: Arc<AtomicUsize>,
    counts: Arc<Counts>,
}

/// What a lane has done so far. Counted for each lane, because a number that all calls change slows all of them.
#[derive(Debug, Default)]
pub(super) struct Counts {
    connections: AtomicU64,
    pub(super) prepared: AtomicU64,
    pub(super) statements: AtomicU64,
    /// Which of the statements is the last that was answered, and with it, because answers come in the order of the
    /// questions, all before it.
    pub(super) answered: AtomicU64,
}

/// Dropped when a connection ends, also when it is aborted: what is open on it will not be answered any more.
struct Ending(Arc<Counts>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.answered.fetch_max(self.0.statements.load(Ordering::Relaxed), Ordering::Relaxed);
    }
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
    /// Not connected.
    Idle(Rest),
    /// An attempt is under way, or waits for its time.
    Connecting(Attempt),
    /// Connected, as far as is known.
    Open(Arc<Session>),
}

/// What the next attempt to connect has to know of those before.
struct Rest {
    /// How many in a row have failed.
    failures: u32,
    not_before: Instant,
    /// How many connections in a row were given up that let us in and then answered no statement.
    silences: u32,
    /// A connection that is at its end: its task.
    previous: Option<JoinHandle<()>>,
    /// What the server may still be at work on, though nobody waits for it.
    hung: Option<Box<(CancelToken, Server)>>,
}

impl Rest {
    fn new() -> Self {
        Self { failures: 0, not_before: Instant::now(), silences: 0, previous: None, hung: None }
    }

    /// After one more failure of an attempt or connection that began at `began`: what it took is part of the pause.
    fn after(failures: u32, silences: u32, began: Instant) -> Self {
        let failures = failures.saturating_add(1);
        Self { failures, not_before: began + pause(failures), silences, previous: None, hung: None }
    }

    /// After the end of an open connection.
    fn after_end(session: &Session) -> Self {
        let failures = if session.age() < SETTLED_AFTER { session.failures } else { 0 };
        Self { previous: session.take_connection(), ..Self::after(failures, 0, Instant::now()) }
    }

    /// After a connection fell silent. No time limit of the server ends a commit that waits for a standby or a disk: it is
    /// asked to stop what it is at, and if statement after statement hangs, asked for more less and less often, or each
    /// connection given up would leave one of its processes behind.
    fn after_silence(session: &Session, longest_silence: Duration) -> Self {
        let silences = if session.has_answered() { 0 } else { session.silences.saturating_add(1) };
        let mut rest = Self::after_end(session);
        if silences > 0 {
            rest.not_before += longest_silence * (1 << silences.min(4));
        }
        let hung = Box::new((session.client().cancel_token(), session.server.clone()));
        Self { silences, hung: Some(hung), ..rest }
    }
}

type Attempt = Shared<BoxFuture<'static, Result<Arc<Session>, Failure>>>;

impl Lane {
    pub(super) fn new(name: String, destination: Arc<Destination>) -> Self {
        let slot = Mutex::new(Slot::Idle(Rest::new()));
        Self { name, destination, slot, calls: Arc::default(), counts: Arc::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn done(&self) -> Done {
        let Counts { connections, prepared, statements, .. } = &*self.counts;
        Done {
            connections: connections.load(Ordering::Relaxed),
            prepared: prepared.load(Ordering::Relaxed),
            statements: statements.load(Ordering::Relaxed),
        }
    }

    /// How much is to be done on this lane: calls, or statements without an answer if there are more of them, because
    /// callers have given up and the server has not.
    pub(super) fn load(&self) -> usize {
        self.calls.load(Ordering::Relaxed).max(self.backlog())
    }

    /// How many statements were sent and not answered. An answer to a caller who has gone is counted with the next one that
    /// somebody waits for.
    pub(super) fn backlog(&self) -> usize {
        let Counts { statements, answered, .. } = &*self.counts;
        let backlog = statements.load(Ordering::Relaxed).saturating_sub(answered.load(Ordering::Relaxed));
        usize::try_from(backlog).unwrap_or(usize::MAX)
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

    /// Whether a call would find it connected.
    pub(super) fn is_open(&self) -> bool {
        matches!(&*self.slot.lock(), Slot::Open(session) if lost(session, &self.destination).is_none())
    }

    /// The open connection, or the outcome of one attempt to open it.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Arc<Session>, Failure> {
        match self.open() {
            Ok(session) => Ok(session),
            Err(attempt) => attempt.await,
        }
    }

    /// The open connection, or the attempt to open it, which is begun if there is none.
    pub(super) fn open(self: &Arc<Self>) -> Result<Arc<Session>, Attempt> {
        let mut slot = self.slot.lock();
        let mut reason = None;
        let rest = match &mut *slot {
            Slot::Open(session) => {
                reason = lost(session, &self.destination);
                if reason.is_none() {
                    return Ok(session.clone());
                }
                self.give_up(session)
            }
            // One that never ran, because its runtime has ended, left the slot as it was.
            Slot::Connecting(attempt) if matches!(attempt.peek(), Some(Err(_))) => Rest::new(),
            Slot::Connecting(attempt) => return Err(attempt.clone()),
            Slot::Idle(rest) => std::mem::replace(rest, Rest::new()),
        };
        let attempt = self.begin(&mut slot, rest);
        drop(slot);
        // Not under the lock: a log may be slow.
        if let Some(reason) = reason {
            tracing::warn!(lane = self.name, reason, "the database connection is lost");
        }
        Err(attempt)
    }

    fn begin(self: &Arc<Self>, slot: &mut Slot, rest: Rest) -> Attempt {
        let lane = self.clone();
        let task = tokio::spawn(async move {
            let Rest { failures, silences, not_before, previous, hung } = rest;
            // Not before the task runs: dropped unpolled, it is dropped under the slot's lock.
            let mut attempt = Attempting {
                lane,
                failures,
                silences,
                began: Instant::now(),
                outcome: Err(Failure::Unavailable),
            };
            let Destination { connector, settings, .. } = &*attempt.lane.destination.clone();
            if let Some(hung) = hung {
                let (token, server) = *hung;
                connector.cancel(token, server, END_WITHIN).await;
            }
            if let Some(mut previous) = previous
                && tokio::time::timeout(END_WITHIN, &mut previous).await.is_err()
            {
                previous.abort();
            }
            tokio::time::sleep_until(not_before).await;
            attempt.began = Instant::now();
            let patience = attempt.lane.destination.connect_patience();
            attempt.outcome = connector.connect(settings, patience).await.map(|connected| {
                let Lane { destination, counts, calls, .. } = &*attempt.lane;
                let Connected { client, connection, heard, server } = connected;
                let ending = Ending(counts.clone());
                let connection =
                    tokio::spawn(gathering(connection, calls.clone()).inspect(move |()| drop(ending)));
                let connected = Connected { client, connection, heard, server };
                Arc::new(Session::new(destination.clone(), counts.clone(), connected, failures, silences))
            });
            if let Ok(session) = &attempt.outcome {
                let closer = close_when_idle(Arc::downgrade(&attempt.lane), Arc::downgrade(session));
                session.closed_by(&tokio::spawn(closer));
            }
            attempt.outcome.clone()
        });
        let attempt = task.map(|joined| joined.unwrap_or(Err(Failure::Unavailable))).boxed().shared();
        *slot = Slot::Connecting(attempt.clone());
        attempt
    }

    /// Stops using a connection after a failure, if that is one of the connection: the next call opens another, after
    /// a pause.
    pub(super) fn retire_after(&self, failure: &Failure, session: &Arc<Session>) {
        let silence = self.destination.silence_of_a_call();
        let fell_silent = matches!(failure, Failure::TimedOut) && session.silent_since(silence).is_some();
        if !fell_silent && !failure.ends_connection() {
            return;
        }
        let mut slot = self.slot.lock();
        if matches!(&*slot, Slot::Open(current) if Arc::ptr_eq(current, session)) {
            *slot = Slot::Idle(self.give_up(session));
            drop(slot);
            tracing::warn!(lane = self.name, reason = %failure, "the database connection is lost");
        }
    }

    /// What is to be known of a connection that is not used any more.
    fn give_up(&self, session: &Session) -> Rest {
        if let Some(since) = session.silent_since(self.destination.silence_of_a_call()) {
            self.destination.silent_since.fetch_max(since, Ordering::Relaxed);
            // Whoever else waits on it would wait in vain.
            session.abort();
            return Rest::after_silence(session, self.destination.longest_silence());
        }
        if session.is_doubtful() {
            session.abort();
        }
        Rest::after_end(session)
    }
}

/// Why a connection is of no use, if it is not.
fn lost(session: &Session, destination: &Destination) -> Option<&'static str> {
    if session.is_closed() {
        Some("it was closed")
    } else if session.silent_since(destination.longest_silence()).is_some() {
        Some("it answers nothing")
    } else if session.is_doubtful() {
        Some("another one fell silent, and nobody has used this one since")
    } else {
        None
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
        if seen.replace(statements) != Some(statements) || lane.calls.load(Ordering::Relaxed) > 0 {
            continue;
        }
        let mut slot = lane.slot.lock();
        if matches!(&*slot, Slot::Open(current) if Arc::ptr_eq(current, &session)) {
            tracing::debug!(lane = lane.name, "an idle database connection is closed");
            // A call that has just taken it keeps it open until it has its answer.
            *slot = Slot::Idle(Rest::new());
        }
        return;
    }
}

/// An attempt in its task. It leaves its outcome in the lane's slot when it ends, also when it is dropped half-way
/// because its runtime ends: nobody may be waiting any more, and the next caller must not wait for ever.
struct Attempting {
    lane: Arc<Lane>,
    failures: u32,
    silences: u32,
    began: Instant,
    outcome: Result<Arc<Session>, Failure>,
}

impl Drop for Attempting {
    fn drop(&mut self) {
        let Self { lane, failures, silences, .. } = self;
        *lane.slot.lock() = match &self.outcome {
            Ok(session) => {
                lane.counts.connections.fetch_add(1, Ordering::Relaxed);
                if *failures > 0 {
                    tracing::info!(lane = lane.name, failures, "connected to the database again");
                } else {
                    tracing::debug!(lane = lane.name, "connected to the database");
                }
                Slot::Open(session.clone())
            }
            Err(error) => {
                let rest = Rest::after(*failures, *silences, self.began);
                tracing::warn!(lane = lane.name, %error, failures = rest.failures, "cannot connect to the database");
                Slot::Idle(rest)
            }
        };
    }
}

/// How long to wait before the attempt after so many failures: doubling, and somewhere between half of that and all.
fn pause(failures: u32) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << (failures.saturating_sub(1)).min(10)).min(LONGEST_PAUSE);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_differ() {
        for (failures, millis) in [(1, 25), (2, 50), (5, 400), (6, 500), (100, 500), (u32::MAX, 500)] {
            let full = Duration::from_millis(millis);
            let pauses: Vec<_> = (0..100).map(|_| pause(failures)).collect();
            assert!(pauses.iter().all(|pause| (full / 2..=full).contains(pause)), "{failures}: {pauses:?}");
            let spread = *pauses.iter().max().unwrap() - *pauses.iter().min().unwrap();
            assert!(spread > full / 4, "{failures}: nodes would return together");
        }
    }
}
