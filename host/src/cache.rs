//! The cache as a Rust program calls it.

use std::sync::Arc;
use std::time::Duration;

use cimd_cache_guest::limits::{METADATA_BYTES, TICKET_BYTES, URL_BYTES};
use cimd_cache_guest::statements::Purpose;
use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::bindings::exports::cimd::cache::cache as wit;
use crate::error::Error;
use crate::near_cache;
use crate::schema::Schema;
use crate::schema::check::{self, CheckError, CheckReport};
use crate::span::{self, call_span};
use crate::types::{Expiry, Lookup, PutOutcome, Stats, SweepOutcome, Ticket, unix_seconds};
use crate::workers::{Put, Request, Task, Workers};

/// A shared cache of validated Client ID Metadata Documents. Cheap to clone; all clones share the same
/// instances and connections.
///
/// Calls open connections when they need them, on their tokio runtime: use a cache from one runtime.
///
/// A call can be dropped at any time. A put or delete that was already sent goes on, and may or may not be
/// applied.
#[derive(Clone)]
pub struct Cache {
    workers: Arc<Workers>,
    schema: Schema,
    deadline: Duration,
}

impl Cache {
    pub(crate) fn new(workers: Workers, schema: Schema) -> Self {
        let deadline = workers.deadline();
        Self { workers: Arc::new(workers), schema, deadline }
    }

    /// The same cache with a shorter deadline for the calls made through it. A deadline longer than the
    /// [builder](crate::Builder::deadline)'s is cut to that one, because the server's time limits follow from
    /// it.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline: deadline.min(self.workers.deadline()), ..self.clone() }
    }

    /// Looks up the document of a `client_id` URL, which is compared byte by byte. One round trip to the
    /// database, or none if the [near cache](crate::Builder::near_ttl) has the document. Gets that arrive
    /// together share a round trip.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`],
    /// [`Error::Storage`].
    pub async fn get(&self, url: &str) -> Result<Lookup, Error> {
        let url = bounded(url, URL_BYTES);
        let span = call_span!("get", keys);
        if let Some(near) = self.workers.near()
            && !self.workers.is_closed()
            && let Some(entry) = near.hit(url, near_cache::Instant::now())
        {
            span.record("outcome", "near_hit");
            return Ok(Lookup::Hit(entry));
        }
        let outcome = |lookup: &Lookup| match lookup {
            Lookup::Hit(_) => "hit",
            Lookup::Miss(_) => "miss",
        };
        span::within(span, self.workers.get(url, self.until()), outcome, Error::code).await
    }

    /// Stores the document of a `client_id` URL, replacing any earlier one. Present the ticket of the get
    /// that came before the fetch. Without one the cache takes the document as fetched now: a slow, older
    /// fetch could then replace a newer document, or bring back one that was deleted meanwhile.
    ///
    /// `metadata` is a JSON object of at most 16 KiB, measured again with every number in plain decimal;
    /// nested at most 64 deep, with no duplicate member names, no `\u0000`, no lone surrogate, and no number
    /// outside the range of a double.
    ///
    /// A refusal changes nothing. Repeating a put with the same ticket is safe.
    ///
    /// # Errors
    ///
    /// All of [`Error`].
    pub async fn put(
        &self,
        url: &str,
        metadata: &str,
        expiry: Expiry,
        ticket: Option<&Ticket>,
    ) -> Result<PutOutcome, Error> {
        let expiry = match expiry {
            Expiry::At(time) => wit::Expiry::At(unix_seconds(time)),
            Expiry::After(time) => wit::Expiry::After(time.as_secs()),
        };
        let url = bounded(url, URL_BYTES).to_owned();
        let metadata = bounded(metadata, METADATA_BYTES).to_owned();
        let ticket = ticket.map(|ticket| bounded(ticket.as_str(), TICKET_BYTES).to_owned());
        let bytes = url.len() + metadata.len();
        let put = Put { url, metadata, expiry, ticket };
        let outcome = |outcome: &PutOutcome| match outcome {
            PutOutcome::Stored => "stored",
            PutOutcome::Superseded => "superseded",
        };
        let call = async {
            let request = Request::new(self.until(), false, bytes, |reply| Task::Put(put, reply));
            self.workers.submit(Purpose::Write, request).await
        };
        span::within(call_span!("put"), call, outcome, Error::code).await
    }

    /// Removes the document of a `client_id` URL. Returns whether a get would have hit. A put with an older
    /// ticket is superseded, so an in-flight fetch does not bring the document back.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`],
    /// [`Error::Storage`].
    pub async fn delete(&self, url: &str) -> Result<bool, Error> {
        let url = bounded(url, URL_BYTES).to_owned();
        let call = async {
            let bytes = url.len();
            let request = Request::new(self.until(), true, bytes, |reply| Task::Delete(url, reply));
            self.workers.submit(Purpose::Write, request).await
        };
        let outcome = |had_document: &bool| if *had_document { "deleted" } else { "absent" };
        span::within(call_span!("delete"), call, outcome, Error::code).await
    }

    /// Removes all documents, in one write however many there are. In-flight fetches do not bring any back.
    ///
    /// # Errors
    ///
    /// [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`], [`Error::Storage`].
    pub async fn purge(&self) -> Result<(), Error> {
        let call = async {
            let request = Request::new(self.until(), true, 0, Task::Purge);
            self.workers.submit(Purpose::Write, request).await
        };
        span::within(call_span!("purge"), call, |()| "purged", Error::code).await
    }

    /// Removes at most `limit` rows that no get can return any more, and at most 1,000: repeat while there
    /// are [more](SweepOutcome::more). Sweeping is not needed for correctness, only to keep the table small.
    /// Any node can sweep, even several at once.
    ///
    /// # Errors
    ///
    /// [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`], [`Error::Storage`].
    pub async fn sweep(&self, limit: u32) -> Result<SweepOutcome, Error> {
        let call = async {
            let request = Request::new(self.until(), false, 0, |reply| Task::Sweep(limit, reply));
            self.workers.submit(Purpose::Maintenance, request).await
        };
        span::within(call_span!("sweep"), call, |_| "swept", Error::code).await
    }

    /// Checks that the cache can work: it can connect, the schema is there and recent enough, and the role
    /// has the privileges it needs. For a readiness probe. It only reads.
    ///
    /// # Errors
    ///
    /// [`CheckError`], whose text names the next step.
    pub async fn check(&self) -> Result<CheckReport, CheckError> {
        span::within(call_span!("check"), self.look(), |_| "ready", |_| "not_ready").await
    }

    async fn look(&self) -> Result<CheckReport, CheckError> {
        let database = self.workers.database().ok_or(CheckError::NotConfigured)?;
        // It takes some ten round trips, and the database may be far away.
        let patience = 2 * database.liveness.silence();
        let schema = self.schema.clone();
        let look = async move |client: &Client| check::check(client, &schema).await;
        let found = self.workers.ask(Purpose::Read, self.until(), false, move |connection| {
            connection.ask(patience, look).boxed()
        });
        let found = found.await;
        found.map_err(|failure| {
            tracing::warn!(error = %failure, "the check failed");
            CheckError::from(&failure)
        })?
    }

    /// Accepts no more calls, serves those that are in flight or waiting, and then closes the connections in
    /// an orderly way. Returns when that is done, or after the deadline at the latest. Later calls, on any
    /// clone, fail with
    /// [`Error::Unavailable`].
    ///
    /// Dropping the last clone does the same, but nobody waits for it.
    pub async fn close(&self) {
        self.workers.close();
        let _ = tokio::time::timeout(self.deadline, self.workers.ended()).await;
    }

    /// What the cache has done since it was built, and what it holds now, for metrics.
    pub fn stats(&self) -> Stats {
        self.workers.stats()
    }

    fn until(&self) -> Instant {
        Instant::now() + self.deadline
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("configured", &self.workers.database().is_some())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// Cuts an argument a little past its limit. The guest refuses anything longer than the limit, however it
/// continues, and a huge argument must not fill the sandbox before the rules can look at it.
fn bounded(text: &str, limit: usize) -> &str {
    // The next four bytes hold at least one more character.
    &text[..text.floor_char_boundary(limit + 4)]
}
