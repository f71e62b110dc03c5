//! What callers ask of workers, and how the answer finds its way back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::Error;
use crate::types::Lookup;
use crate::worker::Worker;

/// Anything but a get: something to be done by a worker. What is begun is ended, whether or not its caller still waits.
pub(crate) struct Request {
    interest: Arc<Interest>,
    /// Whether it goes before others: a revocation must not stand behind a flood of puts, and what the host asks decides
    /// what becomes of connections.
    pub(crate) urgent: bool,
    /// What it occupies while it waits, beside its place.
    pub(crate) bytes: usize,
    work: Work,
}

type Work = Box<dyn for<'a> FnOnce(&'a mut Worker) -> BoxFuture<'a, ()> + Send>;

impl Request {
    /// A request, and where its answer will be.
    pub(crate) fn new<T: Send + 'static>(
        deadline: Instant,
        urgent: bool,
        bytes: usize,
        work: impl for<'a> FnOnce(&'a mut Worker) -> BoxFuture<'a, T> + Send + 'static,
    ) -> (Self, Pending<T>) {
        let (reply, pending) = reply(deadline);
        let interest = reply.interest.clone();
        let work: Work = Box::new(|worker| {
            let answer = work(worker);
            async move { reply.send(answer.await) }.boxed()
        });
        (Self { interest, urgent, bytes, work }, pending)
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.interest.deadline
    }

    /// Whether anybody waits for it at `now`.
    pub(crate) fn is_wanted(&self, now: Instant) -> bool {
        self.interest.lasts(now)
    }

    /// Has it done.
    pub(crate) async fn run(self, worker: &mut Worker) {
        self.interest.begin();
        (self.work)(worker).await;
    }
}

/// Whether a caller still waits, and whether anything was done for him.
#[derive(Debug)]
struct Interest {
    deadline: Instant,
    begun: AtomicBool,
    gone: AtomicBool,
}

impl Interest {
    fn lasts(&self, now: Instant) -> bool {
        now < self.deadline && !self.gone.load(Ordering::Relaxed)
    }

    /// A worker begins.
    fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }
}

/// Where an answer goes.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    sender: oneshot::Sender<T>,
    interest: Arc<Interest>,
}

/// An answer that a caller waits for until its deadline, or until it is dropped.
#[derive(Debug)]
pub(crate) struct Pending<T> {
    receiver: oneshot::Receiver<T>,
    interest: Arc<Interest>,
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.interest.gone.store(true, Ordering::Relaxed);
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// No worker had begun with it by the deadline.
    NotBegun,
    /// It is still in flight.
    Late,
}

/// A place for an answer that is worth nothing after `deadline`.
pub(crate) fn reply<T>(deadline: Instant) -> (Reply<T>, Pending<T>) {
    let (sender, receiver) = oneshot::channel();
    let interest =
        Arc::new(Interest { deadline, begun: AtomicBool::new(false), gone: AtomicBool::new(false) });
    (Reply { sender, interest: interest.clone() }, Pending { receiver, interest })
}

impl<T> Reply<T> {
    pub(crate) fn deadline(&self) -> Instant {
        self.interest.deadline
    }

    fn is_wanted(&self, now: Instant) -> bool {
        self.interest.lasts(now)
    }

    /// Whoever has gone does not hear it.
    fn send(self, answer: T) {
        let _ = self.sender.send(answer);
    }
}

impl<T> Pending<T> {
    pub(crate) async fn answer(mut self) -> Result<T, Missed> {
        match tokio::time::timeout_at(self.interest.deadline, &mut self.receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            // Dropped unanswered: nobody began with it in time, or the worker's runtime has ended.
            _ if self.interest.begun.load(Ordering::Relaxed) => Err(Missed::Late),
            _ => Err(Missed::NotBegun),
        }
    }
}

/// Everybody who waits for the document of one URL: those who came before the statement began share its answer.
#[derive(Debug)]
pub(crate) struct Get {
    pub(crate) url: Arc<str>,
    first: Reply<Result<Lookup, Error>>,
    others: Vec<Reply<Result<Lookup, Error>>>,
}

impl Get {
    pub(crate) fn new(url: Arc<str>, first: Reply<Result<Lookup, Error>>) -> Self {
        Self { url, first, others: Vec::new() }
    }

    /// How many wait.
    pub(crate) fn callers(&self) -> usize {
        1 + self.others.len()
    }

    /// One more who waits.
    pub(crate) fn join(&mut self, other: Reply<Result<Lookup, Error>>) {
        self.others.push(other);
    }

    pub(crate) fn is_wanted(&self, now: Instant) -> bool {
        self.first.is_wanted(now) || self.others.iter().any(|other| other.is_wanted(now))
    }

    /// Lets go of those who do not wait any more. False if nobody does.
    pub(crate) fn prune(&mut self, now: Instant) -> bool {
        self.others.retain(|other| other.is_wanted(now));
        if !self.first.is_wanted(now) {
            let Some(other) = self.others.pop() else { return false };
            self.first = other;
        }
        true
    }

    pub(crate) fn begin(&self) {
        self.first.interest.begin();
        self.others.iter().for_each(|other| other.interest.begin());
    }

    pub(crate) fn send(self, answer: Result<Lookup, Error>) {
        for other in self.others {
            other.send(answer.clone());
        }
        self.first.send(answer);
    }
}
