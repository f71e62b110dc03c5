//! What callers ask of workers, and how the answer finds its way back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Span;

use crate::bindings::cimd::cache::sql::{self, Row, Value};
use crate::bindings::exports::cimd::cache::cache::Expiry;
use crate::error::Error;
use crate::postgres::{Connection, Failure};
use crate::types::{Lookup, PutOutcome, SweepOutcome};

/// Any call but a get. Once a worker has begun it, it is finished, whether or not its caller still waits.
pub(crate) struct Request {
    interest: Arc<Interest>,
    /// Whether it goes before others: a revocation must not wait behind a flood of puts, and the host's own
    /// questions decide what becomes of connections.
    pub(super) urgent: bool,
    /// Bytes that it occupies while it waits, besides its place.
    pub(super) bytes: usize,
    task: Task,
}

/// What is to be done, and where the answer goes.
pub(crate) enum Task {
    Put(Put, Reply<Result<PutOutcome, Error>>),
    Delete(String, Reply<Result<bool, Error>>),
    Purge(Reply<Result<(), Error>>),
    Sweep(u32, Reply<Result<SweepOutcome, Error>>),
    /// A statement of the list, by its place there, for a component in another wasmtime.
    Statement(usize, Vec<Value>, Reply<Result<Vec<Row>, sql::Error>>),
    /// Something that the host asks on its own behalf.
    Ask(Question),
}

/// Uses the connection, or learns why there is none, and answers by itself.
type Question = Box<dyn for<'a> FnOnce(Result<&'a mut Connection, Failure>) -> BoxFuture<'a, ()> + Send>;

/// The arguments of a put.
pub(crate) struct Put {
    pub(crate) url: String,
    pub(crate) metadata: String,
    pub(crate) expiry: Expiry,
    pub(crate) ticket: Option<String>,
}

impl Request {
    /// A request, and where its answer will be.
    pub(crate) fn new<T>(
        deadline: Instant,
        urgent: bool,
        bytes: usize,
        task: impl FnOnce(Reply<T>) -> Task,
    ) -> (Self, Pending<T>) {
        let (reply, pending) = reply(deadline);
        let interest = reply.interest.clone();
        (Self { interest, urgent, bytes, task: task(reply) }, pending)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.interest.deadline
    }

    /// Whether anybody waits for it at `now`.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        self.interest.lasts(now)
    }

    /// Begins it: what to do, and the span of the call.
    pub(super) fn begin(self) -> (Task, Span) {
        self.interest.begin(1);
        (self.task, self.interest.span.clone())
    }
}

/// Whether a caller still waits, and whether a worker has begun with the call.
#[derive(Debug)]
struct Interest {
    deadline: Instant,
    /// What is logged while the call is served belongs to it.
    span: Span,
    /// How many calls began together with this one, itself included; 0 before that.
    begun: AtomicUsize,
    gone: AtomicBool,
}

impl Interest {
    fn lasts(&self, now: Instant) -> bool {
        now < self.deadline && !self.gone.load(Ordering::Relaxed)
    }

    /// A worker begins with so many calls at once.
    fn begin(&self, together: usize) {
        self.begun.store(together, Ordering::Relaxed);
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
    let (begun, gone) = (AtomicUsize::new(0), AtomicBool::new(false));
    let interest = Arc::new(Interest { deadline, span: Span::current(), begun, gone });
    (Reply { sender, interest: interest.clone() }, Pending { receiver, interest })
}

impl<T> Reply<T> {
    pub(super) fn deadline(&self) -> Instant {
        self.interest.deadline
    }

    fn is_wanted(&self, now: Instant) -> bool {
        self.interest.lasts(now)
    }

    /// A caller that has left does not get it.
    pub(super) fn send(self, answer: T) {
        let _ = self.sender.send(answer);
    }
}

impl<T> Pending<T> {
    /// The answer, and how many calls were served together with this one.
    pub(super) async fn answer(mut self) -> (Result<T, Missed>, usize) {
        let answer = tokio::time::timeout_at(self.interest.deadline, &mut self.receiver).await;
        let together = self.interest.begun.load(Ordering::Relaxed);
        let answer = match answer {
            Ok(Ok(answer)) => Ok(answer),
            // Dropped without an answer: no worker began it in time, or the runtime has ended.
            _ if together > 0 => Err(Missed::Late),
            _ => Err(Missed::NotBegun),
        };
        (answer, together)
    }
}

/// All callers that wait for the document of one URL. Those that came before the statement began share its
/// answer.
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

    /// A worker begins with so many gets at once.
    pub(super) fn begin(&self, together: usize) {
        self.first.interest.begin(together);
        self.others.iter().for_each(|other| other.interest.begin(together));
    }

    /// The span of the call that came first.
    pub(super) fn span(&self) -> Span {
        self.first.interest.span.clone()
    }

    pub(crate) fn send(self, answer: Result<Lookup, Error>) {
        for other in self.others {
            other.send(answer.clone());
        }
        self.first.send(answer);
    }
}

impl From<Missed> for Error {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::NotBegun => Self::Unavailable,
            Missed::Late => Self::TimedOut,
        }
    }
}

impl From<Missed> for Failure {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::NotBegun => Self::Unavailable,
            Missed::Late => Self::TimedOut,
        }
    }
}

impl From<Missed> for sql::Error {
    fn from(missed: Missed) -> Self {
        Failure::from(missed).into()
    }
}
