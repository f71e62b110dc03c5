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
    /// When it expires by the database's clock, rounded down to the second.
    pub expires_at: SystemTime,
    /// For how long it stays fresh, counted from when the database read it. A caller that keeps the document must count
    /// from before the get.
    pub fresh_for: Duration,
    /// For the put after a fetch that refreshes the document ahead of time.
    pub ticket: Ticket,
}

/// The moment of a get by the database's clock: the start of the fetch that follows. Present it to the
/// [put](crate::Cache::put). Good for ten minutes.
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

/// The outcome of [`Cache::put`](crate::Cache::put).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The document is stored.
    Stored,
    /// Nothing was changed, because something newer is known: a document with a later ticket, or a delete after the
    /// ticket; or the ticket is over ten minutes old. Get again, and fetch again if it misses.
    Superseded,
}

/// The outcome of [`Cache::sweep`](crate::Cache::sweep).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepOutcome {
    /// How many rows were removed.
    pub removed: u32,
    /// Whether rows are left that another sweep would remove, even if this one met another and removed none. Go on while
    /// there are.
    pub more: bool,
}

/// What a cache has done and holds: see [`Cache::stats`](crate::Cache::stats). Totals count from when it was built, over
/// all clones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Statements that were sent: one round trip each.
    pub statements: u64,
    /// Statements that were prepared, on the first use by a connection: one round trip each.
    pub statements_prepared: u64,
    /// Connections that were opened.
    pub connections_opened: u64,
    /// Statements that looked up several documents at once, and how many documents those were.
    pub batches: u64,
    /// See [`batches`](Self::batches).
    pub batched_keys: u64,
    /// Instances of the component that were discarded because it failed.
    pub instances_discarded: u64,
    /// Calls that were refused at once, because they could not have been served in time.
    pub shed: u64,
    /// Gets that the near cache answered.
    pub near_hits: u64,
    /// What the near cache holds now, in bytes.
    pub near_bytes: u64,
    /// Calls that wait for a worker now.
    pub waiting: usize,
    /// Workers that serve calls now: each has a connection and an instance of the component, and does one thing at a time.
    pub in_flight: usize,
    /// Workers that exist now.
    pub workers: usize,
    /// Connections that are open now.
    pub connections: usize,
    /// Connections that are being opened now.
    pub connecting: usize,
    /// Connections on which an answer is overdue now.
    pub silent: usize,
}

/// Seconds since 1970, towards the past. What does not fit is out of every range that an expiry may have.
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
