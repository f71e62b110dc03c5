//! What calls take and return, as in the WIT.

use crate::ticket::Ticket;

/// A document that is fresh: the WIT `entry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The document as JSON.
    pub metadata: String,
    /// When it expires, in seconds since 1970, rounded down.
    pub expires_at: i64,
    /// For how many milliseconds it stays fresh, rounded down.
    pub fresh_for: u64,
    /// The moment of the read.
    pub ticket: Ticket,
}

/// The answer of a get: the WIT `lookup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// There is a fresh document.
    Hit(Entry),
    /// There is none.
    Miss(Ticket),
}

/// When a document expires: the WIT `expiry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// At this many seconds since 1970.
    At(i64),
    /// This many seconds after the ticket, or after now.
    After(u64),
}

/// The outcome of a put: the WIT `put-outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The document is stored.
    Stored,
    /// Something newer is known; nothing was changed.
    Superseded,
}

/// The outcome of a sweep: the WIT `sweep-outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepOutcome {
    /// How many rows were removed.
    pub removed: u32,
    /// Whether there are rows left that another sweep would remove.
    pub more: bool,
}
