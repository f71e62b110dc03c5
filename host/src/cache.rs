//! The cache as a Rust program calls it.

use std::sync::Arc;
use std::time::Duration;

use cimd_cache_guest::limits::{METADATA_BYTES, URL_BYTES};
use cimd_cache_guest::statements::Purpose;
use futures_util::FutureExt;
use tokio::time::Instant;

use crate::answer::TICKET_BYTES;
use crate::bindings::exports::cimd::cache::cache as wit;
use crate::builder::Builder;
use crate::check::{CheckError, Readiness};
use crate::error::Error;
use crate::near_cache;
use crate::request::Request;
use crate::sql::Handle;
use crate::types::{Expiry, Lookup, Stats, Stored, Swept, Ticket, unix_seconds};
use crate::workers::Workers;

/// A shared cache of validated Client ID Metadata Documents. Cheap to clone; all clones share the same instances and
/// connections.
///
/// Its connections are opened by calls that need them, and belong to the tokio runtime of those: call it from one.
///
/// A call may be dropped at any time. What a dropped put or delete had sent goes on, and may or may not be applied.
#[derive(Clone)]
pub struct Cache {
    handle: Arc<Handle>,
    deadline: Duration,
}

impl Cache {
    /// Begins to set up a cache.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(workers: Workers) -> Self {
        let deadline = workers.deadline();
        Self { handle: Arc::new(Handle(Arc::new(workers))), deadline }
    }

    fn workers(&self) -> &Arc<Workers> {
        &self.handle.0
    }

    /// The same cache with another deadline for the calls made through it. A longer one than the
    /// [builder](Builder::deadline)'s is cut to that, which the server's own time limit was set by.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline: deadline.min(self.workers().deadline()), ..self.clone() }
    }

    /// Looks up the document of a `client_id` URL, byte for byte as it is given. One round trip to the database, or none
    /// where a [near cache](Builder::near_ttl) has the document. Gets that come at the same time share it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`], [`Error::Storage`].
    pub async fn get(&self, url: &str) -> Result<Lookup, Error> {
        let url = bounded(url, URL_BYTES);
        if let Some(near) = self.workers().near()
            && let Some(entry) = near.hit(url, near_cache::Instant::now())
        {
            return Ok(Lookup::Hit(entry));
        }
        self.workers().get(url, self.until()).await
    }

    /// Stores the document of a `client_id` URL, in place of an earlier one. Give the ticket of the get that came
    /// before the fetch: without one the document counts as fetched now, and an older fetch that was slow replaces a
    /// newer one.
    ///
    /// `metadata` is a JSON object of at most 16 KiB, also with its numbers written out in plain decimal; with no member
    /// name twice in one object, nesting of at most 64, no `\u0000` and no half of a surrogate pair in a string, and no
    /// number beyond the range of a double.
    ///
    /// A refusal changes nothing. The same put with the same ticket may be repeated safely.
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
    ) -> Result<Stored, Error> {
        let expiry = match expiry {
            Expiry::At(time) => wit::Expiry::At(unix_seconds(time)),
            Expiry::After(time) => wit::Expiry::After(time.as_secs()),
        };
        let url = bounded(url, URL_BYTES).to_owned();
        let metadata = bounded(metadata, METADATA_BYTES).to_owned();
        let ticket = ticket.map(|ticket| bounded(ticket.as_str(), TICKET_BYTES).to_owned());
        let bytes = url.len() + metadata.len();
        let put = Request::new(self.until(), false, bytes, move |worker| {
            worker.put(url, metadata, expiry, ticket).boxed()
        });
        self.workers().submit(Purpose::Write, put).await
    }

    /// Removes the document of a `client_id` URL, and says whether there was one that a get would have returned. A put
    /// whose ticket is older is superseded, so a fetch under way does not bring the document back.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`], [`Error::Storage`].
    pub async fn delete(&self, url: &str) -> Result<bool, Error> {
        let url = bounded(url, URL_BYTES).to_owned();
        let delete = Request::new(self.until(), true, url.len(), move |worker| worker.delete(url).boxed());
        self.workers().submit(Purpose::Write, delete).await
    }

    /// Removes all documents, in one write whatever their number. Fetches under way do not bring any back.
    ///
    /// # Errors
    ///
    /// [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`], [`Error::Storage`].
    pub async fn delete_all(&self) -> Result<(), Error> {
        let purge = Request::new(self.until(), true, 0, |worker| worker.delete_all().boxed());
        self.workers().submit(Purpose::Write, purge).await
    }

    /// Removes at most `limit` rows that no get can return any more, and at most 1,000: call again while there are
    /// [more](Swept::more). Answers are right without it; it keeps the table from growing. Any node may run it, also
    /// several at once.
    ///
    /// # Errors
    ///
    /// [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`], [`Error::Storage`].
    pub async fn sweep(&self, limit: u32) -> Result<Swept, Error> {
        let sweep = Request::new(self.until(), false, 0, move |worker| worker.sweep(limit).boxed());
        self.workers().submit(Purpose::Maintenance, sweep).await
    }

    /// Whether the cache can do its work: connected, the schema there and of a version it knows, the role's rights as
    /// they should be. For a readiness probe; reads only.
    ///
    /// # Errors
    ///
    /// [`CheckError`], whose text names the next step.
    pub async fn check(&self) -> Result<Readiness, CheckError> {
        crate::check::check(self.workers(), self.until()).await
    }

    /// What the cache has done since it was built, and what it holds now: for an operator's metrics.
    pub fn stats(&self) -> Stats {
        self.workers().stats()
    }

    fn until(&self) -> Instant {
        Instant::now() + self.deadline
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("configured", &self.workers().database().is_some())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// As much of an argument as the guest needs to see that it is over its limit: what is over is refused whatever it
/// goes on with, and must not fill the sandbox before the rules can look at it.
fn bounded(text: &str, limit: usize) -> &str {
    // The next four bytes hold at least one more character.
    &text[..text.floor_char_boundary(limit + 4)]
}
