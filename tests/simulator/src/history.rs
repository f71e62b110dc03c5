//! What callers saw: every call with its answer, and when it may have taken effect.
//!
//! A history says nothing about the inside. It can be recorded from a simulated world, where everything is
//! known, and from a real database, where much is known only within bounds: so times are intervals, and a
//! call whose answer was lost may take effect until it has [settled](Call::settled).

use std::fmt;

/// A time of the database's clock, in microseconds since 1970.
pub type Micros = i64;

/// A moment of real time, on a scale that all calls share: the number of a step in a simulation, nanoseconds
/// of a monotonic clock elsewhere. It never goes back, whatever the database's clock does.
pub type Position = u64;

/// All calls of a history, in any order.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The calls. Violations name them by their index.
    pub calls: Vec<Call>,
    /// Each time that the database's clock was set back, in order.
    pub steps_back: Vec<StepBack>,
    /// How much the clocks of the database may differ, as `purge.clock_tolerance` says. 0 for one clock.
    pub clock_tolerance: Micros,
}

/// The database's clock was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepBack {
    /// When. Calls in flight at that moment may be on either side of it.
    pub at: Position,
    /// The latest time the clock had shown by then.
    pub peak: Micros,
}

/// One call of one caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The node that was called. It is shown with the call; no rule depends on it.
    pub node: usize,
    /// When the caller called.
    pub began: Position,
    /// When the caller had the answer, or gave up.
    pub ended: Position,
    /// Until when the call may still take effect: `ended` if the database's answer was received, later if it
    /// was lost, [`Position::MAX`] if that is unknown.
    pub settled: Position,
    /// The bounds of the database's `now()` in the call's statements. If it has several clocks, by the clock
    /// of writes.
    pub now: Between,
    /// What was asked.
    pub request: Request,
    /// What was answered.
    pub answer: Answer,
}

/// A time known to lie between two bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// It is not before this.
    pub earliest: Micros,
    /// It is not after this.
    pub latest: Micros,
}

impl Between {
    /// A time that is known.
    pub fn exactly(time: Micros) -> Self {
        Self { earliest: time, latest: time }
    }

    /// The same, this many seconds later.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        let micros = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Self { earliest: self.earliest.saturating_add(micros), latest: self.latest.saturating_add(micros) }
    }
}

/// What a caller asked for. Keys are numbers that stand for valid URLs, and documents are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Look up a document.
    Get {
        /// The URL.
        key: usize,
    },
    /// Store a document.
    Put {
        /// The URL.
        key: usize,
        /// The document: no other put of the history has the same, so that a hit shows which put it came
        /// from.
        document: u64,
        /// When it expires.
        expiry: Expiry,
        /// The ticket presented.
        ticket: Option<Ticket>,
    },
    /// Remove a document.
    Delete {
        /// The URL.
        key: usize,
    },
    /// Remove all documents.
    Purge,
    /// Tidy up.
    Sweep {
        /// The most rows to remove.
        limit: u32,
    },
}

/// When a document expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// At this many seconds since 1970.
    At(i64),
    /// This many seconds after the ticket, or after now.
    After(u64),
}

/// What a put presents as its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ticket {
    /// The ticket of a get, or a copy with another time.
    Of {
        /// The time it says.
        at: Micros,
        /// The latest time, by the clock of writes, at which its read can have taken place. With one clock,
        /// `at`.
        latest: Micros,
        /// When the get that gave it began.
        read_began: Position,
        /// When that get ended.
        read_ended: Position,
    },
    /// A text that no get ever gave.
    Garbage,
}

/// What a caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The document, and what comes with it.
    Hit {
        /// Which one; [`u64::MAX`] for one that was never put.
        document: u64,
        /// In seconds since 1970.
        expires_at: i64,
        /// In milliseconds.
        fresh_for: u64,
        /// The time of the ticket that came with it.
        ticket_at: Micros,
    },
    /// There is no document.
    Miss {
        /// The time of the ticket that came with it.
        ticket_at: Micros,
    },
    /// A put was stored.
    Stored,
    /// A put was not stored.
    Superseded,
    /// A delete was done; whether there was a document.
    Deleted(bool),
    /// A purge was done.
    Purged,
    /// A sweep was done.
    Swept {
        /// How many rows it says it removed.
        removed: u32,
        /// Whether it says that rows are left.
        more: bool,
    },
    /// The call was found wrong.
    Refused(Refusal),
    /// The call failed.
    Failed(CallFailure),
    /// The caller did not wait for the answer.
    Lost,
}

/// What is wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The URL.
    InvalidUrl,
    /// The document.
    InvalidMetadata,
    /// The expiry.
    InvalidExpiry,
    /// The ticket.
    InvalidTicket,
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// The database cannot be reached.
    Unavailable,
    /// The database did not answer in time.
    TimedOut,
    /// An operator must look.
    Storage,
    /// No database is configured.
    NotConfigured,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, began, ended, settled, now, request, answer } = self;
        write!(f, "node {node}, {began} to {ended}")?;
        if settled > ended {
            write!(f, " (settled {settled})")?;
        }
        if now.earliest == now.latest {
            write!(f, ", now {}: ", now.earliest)?;
        } else {
            write!(f, ", now {} to {}: ", now.earliest, now.latest)?;
        }
        write!(f, "{request:?} -> {answer:?}")
    }
}
