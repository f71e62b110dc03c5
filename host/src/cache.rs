//! The cache as a Rust program calls it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cimd_cache_guest::limits::{METADATA_BYTES, URL_BYTES};
use futures_util::FutureExt;
use tokio::time::Instant;
use wasmtime::Store;

use crate::answer::{self, TICKET_BYTES};
use crate::bindings::CimdCache;
use crate::bindings::exports::cimd::cache::cache as wit;
use crate::builder::Builder;
use crate::check::{CheckError, Readiness};
use crate::error::Error;
use crate::instances::{GRACE, Instances, State};
use crate::near::{Moment, Near};
use crate::postgres::Postgres;
use crate::sql::Sql;

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
    near: Option<Arc<Near>>,
    /// The builder's, and this clone's.
    longest_deadline: Duration,
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

impl Ticket {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

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

/// When a document expires. Over ten years ahead of the database's clock it is kept as ten years ahead; in the past is
/// allowed, and misses.
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
    /// Whether rows are left that another sweep would remove, also if this one met another and removed none. Go on while
    /// there are.
    pub more: bool,
}

/// What a cache has done and holds: see [`Cache::stats`]. Totals count from when it was built, over all clones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Statements that were sent: one round trip each.
    pub statements: u64,
    /// Statements that were prepared, on the first use by a connection: one round trip each.
    pub prepared: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// Instances of the component that exist now, in use or kept for the next call.
    pub instances: usize,
    /// Calls that have an instance now.
    pub calls: usize,
    /// Instances that were discarded, because the component failed or a caller gave up half-way.
    pub discarded: u64,
    /// Calls that found too many others under way, and got `unavailable`.
    pub shed: u64,
    /// Gets that the near tier answered.
    pub near_hits: u64,
    /// What the near tier holds now, in bytes.
    pub near_bytes: u64,
}

impl Cache {
    /// Begins to set up a cache.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(sql: Sql, instances: Instances, near: Option<Near>, deadline: Duration) -> Self {
        let (instances, near) = (Arc::new(instances), near.map(Arc::new));
        Self { instances, sql, near, longest_deadline: deadline, deadline }
    }

    /// The same cache with another deadline for the calls made through it. A longer one than the
    /// [builder](Builder::deadline)'s is cut to that, which the server's own time limit was set by.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline: deadline.min(self.longest_deadline), ..self.clone() }
    }

    /// Looks up the document of a `client_id` URL, byte for byte as it is given. One round trip to the database, or none
    /// where a [near tier](Builder::near_ttl) has the document.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`], [`Error::Storage`].
    pub async fn get(&self, url: &str) -> Result<Lookup, Error> {
        let url = bounded(url, URL_BYTES);
        let Some(near) = &self.near else { return self.ask(url).await };
        if let Some(entry) = near.hit(url, Moment::now()) {
            return Ok(Lookup::Hit(entry));
        }
        // The query that many may wait for is nobody's: it has the longest deadline, and each who waits his own.
        let query = || {
            let cache = Self { near: None, deadline: self.longest_deadline, ..self.clone() };
            let url = url.to_owned();
            async move { cache.ask(&url).await }.boxed()
        };
        let answer = tokio::time::timeout(self.deadline + GRACE, near.ask(url, query)).await;
        answer.unwrap_or(Err(Error::TimedOut))
    }

    /// Looks a document up in the database.
    async fn ask(&self, url: &str) -> Result<Lookup, Error> {
        let call = async |guest: &CimdCache, store: &mut Store<State>| {
            answer::checked(guest.cimd_cache_cache().call_get(store, url).await?, answer::lookup)
        };
        self.call(call).await?
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
            let answer = guest.cimd_cache_cache().call_put(store, url, metadata, expiry, ticket).await?;
            answer::checked(answer, |stored| Ok(stored.into()))
        };
        self.write(Some(url), self.call(call)).await
    }

    /// Removes the document of a `client_id` URL, and says whether there was one that a get would have returned. A put
    /// whose ticket is older is superseded, so a fetch under way does not bring the document back.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`], [`Error::Storage`].
    pub async fn delete(&self, url: &str) -> Result<bool, Error> {
        let url = bounded(url, URL_BYTES);
        let call = async |guest: &CimdCache, store: &mut Store<State>| {
            answer::checked(guest.cimd_cache_cache().call_delete(store, url).await?, Ok)
        };
        self.write(Some(url), self.call(call)).await
    }

    /// Removes all documents, in one write whatever their number. Fetches under way do not bring any back.
    ///
    /// # Errors
    ///
    /// [`Error::NotConfigured`], [`Error::Unavailable`], [`Error::TimedOut`], [`Error::Storage`].
    pub async fn delete_all(&self) -> Result<(), Error> {
        let call = async |guest: &CimdCache, store: &mut Store<State>| {
            answer::checked(guest.cimd_cache_cache().call_delete_all(store).await?, Ok)
        };
        self.write(None, self.call(call)).await
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
            let answer = guest.cimd_cache_maintenance().call_sweep(store, limit).await?;
            answer::checked(answer, |swept| answer::swept(&swept, limit))
        };
        self.call(call).await?
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

    /// What the cache has done since it was built, and what it holds now: for an operator's metrics.
    pub fn stats(&self) -> Stats {
        let done = self.sql.postgres().map(Postgres::done).unwrap_or_default();
        let instances = self.instances.count();
        Stats {
            statements: done.statements,
            prepared: done.prepared,
            connections: done.connections,
            instances: instances.existing,
            calls: instances.in_use,
            discarded: instances.discarded,
            shed: instances.shed + self.sql.postgres().map_or(0, Postgres::shed),
            near_hits: self.near.as_ref().map_or(0, |near| near.hits()),
            near_bytes: self.near.as_ref().map_or(0, |near| near.bytes()),
        }
    }

    /// A put or delete of a key, or of all, of which the near tier is told how it ended.
    async fn write<T>(
        &self,
        url: Option<&str>,
        call: impl Future<Output = Result<Result<T, Error>, Error>>,
    ) -> Result<T, Error> {
        let writing = self.near.as_ref().map(|near| near.writing(url));
        let outcome = call.await.flatten();
        if let Some(writing) = writing {
            writing.ended(&outcome);
        }
        outcome
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
