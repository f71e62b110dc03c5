//! The queue in front of the workers of one purpose.
//!
//! First come, first served, except that deletes go before puts: a revocation must not wait behind a flood.
//! The queue is bounded in calls and bytes, and rejects calls that could not be served in time. A call whose
//! caller has left, or whose deadline has passed, is not begun.

mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use self::waiting::{Bounds, Work};
use self::waiting::{Waiting, bytes_of, bytes_of_get};
use super::admission::Pace;
use super::request::{Reply, Request};
use crate::error::Error;
use crate::log_limit::LogLimit;
use crate::types::Lookup;

/// A call is rejected: it could not be served in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shed;

/// Which worker will serve a call that was admitted.
pub(crate) enum Next {
    /// One that is busy now.
    Busy,
    /// One that waits for work, and has to be woken.
    Wake(Arc<Notify>),
    /// A new one, which has to be started, with this number.
    Start(usize),
}

pub(crate) struct Queue {
    /// For the log.
    name: &'static str,
    bounds: Bounds,
    state: Mutex<State>,
    /// Told when a worker leaves after the queue was closed.
    left: Notify,
    shed: AtomicU64,
    log: LogLimit,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    /// By their numbers. The first that is free is woken, so that a quiet cache keeps few connections.
    workers: Vec<Worker>,
    /// Of each number, how many connections in a row were given up that had answered nothing, if the last one
    /// was given up.
    unanswered: Vec<Option<u32>>,
    pace: Pace,
    closed: bool,
}

enum Worker {
    Absent,
    /// Without a connection, or about to close it.
    Connecting,
    /// Waits to be woken.
    Idle(Arc<Notify>),
    Woken,
    Busy(Instant),
}

/// How many workers there are, and what they are at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) waiting: usize,
    pub(crate) workers: usize,
    pub(crate) connecting: usize,
    pub(crate) busy: usize,
}

impl Queue {
    pub(crate) fn new(name: &'static str, bounds: Bounds) -> Self {
        let workers = std::iter::repeat_with(|| Worker::Absent).take(bounds.workers).collect();
        let state = State { workers, unanswered: vec![None; bounds.workers], ..State::default() };
        Self {
            name,
            bounds,
            state: Mutex::new(state),
            left: Notify::new(),
            shed: AtomicU64::new(0),
            log: LogLimit::new(),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// How many calls were refused so far.
    pub(crate) fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self) -> Count {
        let state = self.state.lock();
        let of = |which: fn(&Worker) -> bool| state.workers.iter().filter(|worker| which(worker)).count();
        Count {
            waiting: state.waiting.callers(),
            workers: of(|worker| !matches!(worker, Worker::Absent)),
            connecting: of(|worker| matches!(worker, Worker::Connecting)),
            busy: of(|worker| matches!(worker, Worker::Busy(_))),
        }
    }

    /// Admits a get. It shares the place of gets that wait for the same URL, but not the answer of one in
    /// flight, which began earlier and may be older than what this caller knows.
    pub(crate) fn push_get(&self, url: &str, reply: Reply<Result<Lookup, Error>>) -> Result<Next, Shed> {
        let mut state = self.state.lock();
        let next = self.admit(&mut state, reply.deadline(), bytes_of_get(url), false)?;
        state.waiting.push_get(url, reply);
        Ok(next)
    }

    /// Admits any other call.
    pub(crate) fn push(&self, request: Request) -> Result<Next, Shed> {
        let mut state = self.state.lock();
        let next = self.admit(&mut state, request.deadline(), bytes_of(&request), request.urgent)?;
        state.waiting.push(request);
        Ok(next)
    }

    /// Who serves a call, if it can be served by `deadline` and there is room for it.
    fn admit(&self, state: &mut State, deadline: Instant, bytes: usize, urgent: bool) -> Result<Next, Shed> {
        let now = Instant::now();
        state.waiting.prune(state.waiting.is_full(urgent, bytes, &self.bounds), now);
        if !state.closed && !state.waiting.is_full(urgent, bytes, &self.bounds) {
            if let Some(next) = state.free_worker() {
                return Ok(next);
            }
            let ahead = state.waiting.ahead(urgent, self.bounds.batch);
            let wait = || state.pace.wait(ahead, self.bounds.workers, state.busy_for(now));
            // The next in line is served as soon as any worker is free, however long others took.
            if ahead == 0 || now + wait() <= deadline {
                return Ok(Next::Busy);
            }
        }
        self.shed.fetch_add(1, Ordering::Relaxed);
        if let Some(suppressed) = self.log.pass() {
            let (queue, waiting) = (self.name, state.waiting.callers());
            tracing::warn!(queue, waiting, suppressed, "a call is shed: it could not be served in time");
        }
        Err(Shed)
    }

    /// The next work for a connected worker. If there is none, the worker is idle until `wake` is notified.
    pub(crate) fn take(&self, number: usize, wake: &Arc<Notify>) -> Option<Work> {
        let mut state = self.state.lock();
        let now = Instant::now();
        if let Worker::Busy(since) = state.workers[number] {
            state.pace.took(now - since);
        }
        let work = state.waiting.next(&self.bounds, now);
        state.workers[number] = if work.is_some() { Worker::Busy(now) } else { Worker::Idle(wake.clone()) };
        work
    }

    /// A worker has no connection. False if there is no work either: the worker then ends.
    pub(crate) fn connects(&self, number: usize) -> bool {
        let mut state = self.state.lock();
        // After the queue was closed too: what it has admitted is served.
        let needed = !state.waiting.is_empty();
        if needed {
            state.workers[number] = Worker::Connecting;
        } else {
            self.leave(&mut state, number);
        }
        needed
    }

    /// A worker could not connect. Returns all work that waits, or None if there are other workers, which
    /// will serve it: this one then ends.
    pub(crate) fn take_unservable(&self, number: usize) -> Option<Vec<Work>> {
        let mut state = self.state.lock();
        let is_other =
            |(other, worker): (usize, &Worker)| other != number && !matches!(worker, Worker::Absent);
        if state.workers.iter().enumerate().any(is_other) {
            self.leave(&mut state, number);
            return None;
        }
        state.workers[number] = Worker::Connecting;
        let now = Instant::now();
        Some(std::iter::from_fn(|| state.waiting.next(&self.bounds, now)).collect())
    }

    /// An idle worker wants to close its connection. False if it was given work meanwhile.
    pub(crate) fn retires(&self, number: usize) -> bool {
        let mut state = self.state.lock();
        let is_idle = matches!(state.workers[number], Worker::Idle(_));
        if is_idle {
            state.workers[number] = Worker::Connecting;
        }
        is_idle
    }

    /// A worker has ended, whatever it was doing.
    pub(crate) fn left(&self, number: usize) {
        self.leave(&mut self.state.lock(), number);
    }

    fn leave(&self, state: &mut State, number: usize) {
        state.workers[number] = Worker::Absent;
        if state.closed {
            self.left.notify_waiters();
        }
    }

    /// Returns when there is no worker any more, once the queue is closed.
    pub(crate) async fn ended(&self) {
        loop {
            // Before it looks, or it could miss the last one's leaving.
            let left = self.left.notified();
            if self.count().workers == 0 {
                return;
            }
            left.await;
        }
    }

    /// How many connections of this worker in a row were given up without ever having answered. None if the
    /// last one was not given up.
    pub(crate) fn unanswered(&self, number: usize) -> Option<u32> {
        self.state.lock().unanswered[number]
    }

    pub(crate) fn set_unanswered(&self, number: usize, unanswered: Option<u32>) {
        self.state.lock().unanswered[number] = unanswered;
    }

    /// Admits no more calls, and wakes idle workers so that they end.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        while let Some(Next::Wake(wake)) = state.idle_worker() {
            wake.notify_one();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

impl State {
    /// For how long each worker has been busy at the least.
    fn busy_for(&self, now: Instant) -> Duration {
        let busy_for = |worker: &Worker| match worker {
            Worker::Busy(since) => now.saturating_duration_since(*since),
            Worker::Absent | Worker::Connecting | Worker::Idle(_) | Worker::Woken => Duration::ZERO,
        };
        self.workers.iter().map(busy_for).min().unwrap_or_default()
    }

    fn free_worker(&mut self) -> Option<Next> {
        self.idle_worker().or_else(|| {
            let number = self.workers.iter().position(|worker| matches!(worker, Worker::Absent))?;
            self.workers[number] = Worker::Connecting;
            Some(Next::Start(number))
        })
    }

    fn idle_worker(&mut self) -> Option<Next> {
        self.workers.iter_mut().find_map(|worker| {
            let Worker::Idle(wake) = worker else { return None };
            let next = Next::Wake(wake.clone());
            *worker = Worker::Woken;
            Some(next)
        })
    }
}

#[cfg(test)]
mod tests;
