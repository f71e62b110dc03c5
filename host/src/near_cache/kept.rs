//! A document that is kept: how long it is good for, and what it answers later.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cimd_cache_guest::ticket::Ticket;
use quick_cache::Weighter;

use crate::types::Entry;

/// A time of a clock that never goes back and that goes on while the machine sleeps: a document must not stay
/// fresh because a laptop was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Self {
        // On other systems than Linux the monotonic clock counts sleep, or no clock does.
        #[cfg(target_os = "linux")]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(CLOCK);
        Self(Duration::try_from(time).unwrap_or_default())
    }

    pub(super) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A document, with what is needed to answer from it later.
pub(super) struct Kept {
    metadata: String,
    expires_at: SystemTime,
    fresh_for: Duration,
    ticket: Ticket,
    /// Before the query was sent: freshness is counted from here.
    asked: Instant,
    /// After the answer came: the database's clock was at the ticket's time before this, so it is ahead of
    /// that by at least the time since.
    answered: Instant,
    until: Instant,
}

impl Kept {
    /// None if it need not be kept, because it is good for no longer.
    pub(super) fn new(entry: &Entry, asked: Instant, answered: Instant, ttl: Duration) -> Option<Self> {
        let until = asked.after(ttl);
        let kept = Self {
            metadata: entry.metadata.clone(),
            expires_at: entry.expires_at,
            fresh_for: entry.fresh_for,
            ticket: Ticket::parse(entry.ticket.as_str())?,
            asked,
            answered,
            until,
        };
        kept.fresh_at(answered).filter(|_| answered < until)?;
        Some(kept)
    }

    /// Whether it was asked for before another.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        self.asked <= other.asked
    }

    /// The answer at `now`, if it is still good.
    pub(super) fn entry(&self, now: Instant) -> Option<Entry> {
        if now >= self.until {
            return None;
        }
        Some(Entry {
            metadata: self.metadata.clone(),
            expires_at: self.expires_at,
            fresh_for: self.fresh_at(now)?,
            ticket: self.ticket.later(now.since(self.answered)).to_string().into(),
            is_near: true,
        })
    }

    /// How long it stays fresh after `now`, or None if it may have expired. A thousandth is added to what
    /// this machine's clock has counted, in case it runs slow; tickets have the same margin, which names its
    /// source.
    fn fresh_at(&self, now: Instant) -> Option<Duration> {
        let elapsed = now.since(self.asked);
        let elapsed = elapsed.saturating_add(elapsed / 1_000);
        self.fresh_for.checked_sub(elapsed).filter(|left| !left.is_zero())
    }
}

/// Bytes that a kept document occupies besides its key and text: the struct, two allocations' headers, and
/// its places in the map, rounded up.
const OVERHEAD_BYTES: usize = 384;

#[derive(Clone)]
pub(super) struct Bytes;

impl Weighter<Box<str>, Arc<Kept>> for Bytes {
    fn weight(&self, url: &Box<str>, kept: &Arc<Kept>) -> u64 {
        (OVERHEAD_BYTES + url.len() + kept.metadata.capacity()) as u64
    }
}
