//! What goes into the cache's calls and comes out of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The answer of [`Cache::get`](crate::Cache::get).
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
    /// When it expires, by the database's clock, rounded down to the second.
    pub expires_at: SystemTime,
    /// How long it stays fresh, counted from when the database read it. A caller that keeps the document must
    /// count from before the get, on a monotonic clock.
    pub fresh_for: Duration,
    /// For the put after a fetch that refreshes the document early.
    pub ticket: Ticket,
    /// Whether it came from the [near cache](crate::Builder::near_ttl), and the database was not asked.
    pub is_near: bool,
}

/// A fencing token for the fetch that follows a get, like memcache's lease token: a get hands it out, the
/// [put](crate::Cache::put) presents it, and a delete or purge in between voids it. It stands for the moment
/// of the get, by the database's clock, and is good for ten minutes.
///
/// It can be kept as text, with [`to_string`](ToString::to_string) and `Ticket::from`.
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

/// When a document expires. Anything over ten years ahead of the database's clock is stored as ten years
/// ahead. A time in the past is stored, and misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// At this time, truncated to whole seconds, in the years 1970 to 9999.
    At(SystemTime),
    /// This long after the ticket, or after now without one; truncated to whole seconds, like `max-age` (RFC
    /// 9111 section 1.2.2).
    After(Duration),
}

/// The outcome of [`Cache::put`](crate::Cache::put).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The document is stored.
    Stored,
    /// Nothing was changed. Either the cache knows something newer (a document with a later ticket, or a
    /// delete or purge after the ticket), or the ticket is over ten minutes old. What was fetched is good for
    /// the request at hand; for the next one, get again.
    Superseded,
}

/// The outcome of [`Cache::sweep`](crate::Cache::sweep).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepOutcome {
    /// How many rows were removed.
    pub removed: u32,
    /// Whether another sweep would remove more rows, even if this one met another sweep and removed none.
    /// Repeat while it is true.
    pub more: bool,
}

/// What a cache has done and what it holds: see [`Cache::stats`](crate::Cache::stats). Totals count since the
/// cache was built, over all clones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Total: statements sent, one round trip each.
    pub statements: u64,
    /// Total: statements prepared, one round trip each, at the first use by a connection.
    pub statements_prepared: u64,
    /// Total: connections opened.
    pub connections_opened: u64,
    /// Total: statements that looked up several documents.
    pub batches: u64,
    /// Total: documents that those statements looked up.
    pub batched_keys: u64,
    /// Total: instances of the component that were discarded because it failed.
    pub instances_discarded: u64,
    /// Total: calls that were rejected at once because they could not have been served in time.
    pub shed: u64,
    /// Total: gets that the near cache answered.
    pub near_hits: u64,
    /// Now: bytes in the near cache.
    pub near_bytes: u64,
    /// Now: calls that wait for a worker.
    pub waiting: usize,
    /// Now: workers that serve calls. Each has a connection and an instance of the component, and does one
    /// thing at a time.
    pub in_flight: usize,
    /// Now: workers.
    pub workers: usize,
    /// Now: connections that are open.
    pub connections: usize,
    /// Now: connections that are being opened.
    pub connecting: usize,
    /// Now: connections on which an answer is overdue.
    pub silent: usize,
    /// Now: the part of gets in these numbers.
    pub reads: PoolStats,
    /// Now: the part of puts, deletes and purges.
    pub writes: PoolStats,
    /// Now: the part of sweeps.
    pub maintenance: PoolStats,
}

/// What the workers for one kind of call do now: see [`Stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Calls that wait for a worker.
    pub waiting: usize,
    /// Workers that serve calls.
    pub in_flight: usize,
    /// Connections that are open.
    pub connections: usize,
    /// Connections that are being opened.
    pub connecting: usize,
}

/// Seconds since 1970, rounded towards the past. A time that does not fit is outside every range that an
/// expiry may have.
pub(crate) fn unix_seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            (-seconds).saturating_sub(i64::from(before.subsec_nanos() > 0))
        }
    }
}
