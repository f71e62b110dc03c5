//! The cache as a Rust program calls it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cimd_cache_guest::limits::{METADATA_BYTES, URL_BYTES};
use tokio::time::Instant;
use wasmtime::Store;

use crate::bindings::CimdCache;
use crate::bindings::exports::cimd::cache::cache as wit;
use crate::builder::Builder;
use crate::check::{CheckError, Readiness};
use crate::error::Error;
use crate::instances::{Instances, State};
use crate::sql::Sql;

/// The most that a ticket has, according to the WIT package.
const TICKET_BYTES: usize = 64;

/// A shared cache of validated Client ID Metadata Documents. Cheap to clone; all clones share the same instances and
/// connections.
///
/// It belongs to the tokio runtime in which it is first called, and its connections end with that.
///
/// A call may be dropped at any time. What a dropped put or delete had sent may or may not have been applied.
#[derive(Clone)]
pub struct Cache {
    instances: Arc<Instances>,
    sql: Sql,
    deadline: Duration,
}

/// The answer of [`Cache::get`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// There is a document, and it has not expired.
    Hit(Entry),
    /// There is none. Fetch it, and put it with this ticket.
    Miss(Ticket),
}

/// A document that is fresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The document, equal as a JSON value to what was put.
    pub metadata: String,
    /// When it expires by the database's clock, rounded down to the second.
    pub expires_at: SystemTime,
    /// For how long it stays fresh, counted from when the database read it. Who keeps the document has to count from
    /// before the get.
    pub fresh_for: Duration,
    /// For the put after a fetch that refreshes the document ahead of time.
    pub ticket: Ticket,
}

/// The moment of a get by the database's clock: the start of the fetch that follows. Present it to the
/// [put](Cache::put). Good for ten minutes.
///
/// It may be kept as text in between, by [`to_string`](ToString::to_string) and `Ticket::from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket(String);

impl From<String> for Ticket {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Ticket {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::fmt::Display for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// When a document expires. At most ten years ahead of the database's clock; in the past is allowed, and misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// At this time, in whole seconds, truncated; the years 1970 to 9999.
    At(SystemTime),
    /// This long after the ticket, or after now if there is none, in whole seconds, truncated, as `max-age` is
    /// (RFC 9111 section 1.2.2).
    After(Duration),
}

/// The outcome of [`Cache::put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The document is stored.
    Stored,
    /// Nothing was changed, because something newer is known: a document with a later ticket, or a delete after the
    /// ticket; or the ticket is over ten minutes old. Get again, and fetch again if it misses.
    Superseded,
}

/// The outcome of [`Cache::sweep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// How many rows were removed.
    pub removed: u32,
    /// Whether more may remain. If not, this call found no more; rows that another sweep had at that moment may yet be
    /// there.
    pub more: bool,
}

impl Cache {
    /// Begins to set up a cache.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(sql: Sql, instances: Instances, deadline: Duration) -> Self {
        Self { instances: Arc::new(instances), sql, deadline }
    }

    /// The same cache with another deadline for the calls made through it. Only shortens: a longer one than the
    /// [builder](Builder::deadline)'s is cut to that, which the server's own time limit was set by.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline: deadline.min(self.deadline), ..self.clone() }
    }

    /// Looks up the document of a `client_id` URL, byte for byte as it is given. One round trip to the database.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`], [`Error::Storage`].
    pub async fn get(&self, url: &str) -> Result<Lookup, Error> {
        let url = bounded(url, URL_BYTES);
        let lookup =
            self.call(async |guest, store| guest.cimd_cache_cache().call_get(store, url).await).await??;
        Ok(match lookup {
            wit::Lookup::Hit(entry) => Lookup::Hit(Entry {
                metadata: entry.metadata,
                // The rules allow no expiry before 1970.
                expires_at: UNIX_EPOCH + Duration::from_secs(entry.expires_at.max(0).unsigned_abs()),
                fresh_for: Duration::from_millis(entry.fresh_for),
                ticket: Ticket(entry.ticket),
            }),
            wit::Lookup::Miss(ticket) => Lookup::Miss(Ticket(ticket)),
        })
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
        let (url, metadata) = (bounded(url, URL_BYTES), bounded(metadata, METADATA_BYTES));
        let ticket = ticket.map(|ticket| bounded(&ticket.0, TICKET_BYTES).to_owned());
        let ticket = ticket.as_ref();
        let call = async |guest: &CimdCache, store: &mut Store<State>| {
            guest.cimd_cache_cache().call_put(store, url, metadata, expiry, ticket).await
        };
        Ok(match self.call(call).await?? {
            wit::Stored::Stored => Stored::Stored,
            wit::Stored::Superseded => Stored::Superseded,
        })
    }

    /// Removes the document of a `client_id` URL, and says whether there was one that a get would have returned. A put
    /// whose ticket is older is superseded, so a fetch under way does not bring the document back.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`], [`Error::Storage`].
    pub async fn delete(&self, url: &str) -> Result<bool, Error> {
        let url = bounded(url, URL_BYTES);
        Ok(self.call(async |guest, store| guest.cimd_cache_cache().call_delete(store, url).await).await??)
    }

    /// Removes all documents, in one write whatever their number. Fetches under way do not bring any back.
    ///
    /// # Errors
    ///
    /// [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`], [`Error::Storage`].
    pub async fn delete_all(&self) -> Result<(), Error> {
        Ok(self.call(async |guest, store| guest.cimd_cache_cache().call_delete_all(store).await).await??)
    }

    /// Removes at most `limit` rows that no get can return any more, and at most 1,000: call again while there are
    /// [more](Swept::more). Answers are right without it; it keeps the table from growing. Any node may run it, also
    /// several at once.
    ///
    /// # Errors
    ///
    /// [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`], [`Error::Storage`].
    pub async fn sweep(&self, limit: u32) -> Result<Swept, Error> {
        let call = async |guest: &CimdCache, store: &mut Store<State>| {
            guest.cimd_cache_maintenance().call_sweep(store, limit).await
        };
        let swept = self.call(call).await??;
        Ok(Swept { removed: swept.removed, more: swept.more })
    }

    /// Whether the cache can do its work: connected, the schema there and of a version it knows, the role's rights as
    /// they should be. For a readiness probe; reads only.
    ///
    /// # Errors
    ///
    /// [`CheckError`], whose text names the next step.
    pub async fn check(&self) -> Result<Readiness, CheckError> {
        crate::check::check(&self.sql, Instant::now() + self.deadline).await
    }

    async fn call<R>(
        &self,
        call: impl AsyncFnOnce(&CimdCache, &mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Error> {
        self.instances.call(Instant::now() + self.deadline, call).await
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("sql", &self.sql)
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

/// Seconds since 1970, towards the past. What does not fit is out of every range that an expiry may have.
fn unix_seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            (-seconds).saturating_sub(i64::from(before.subsec_nanos() > 0))
        }
    }
}
