//! Limits how often one kind of event is logged.
//!
//! While a database is away every call fails, tens of thousands a second. An operator needs to see the first
//! failure, that it goes on, and how many there were.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How often one kind of event is written.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets one event a second pass.
#[derive(Debug)]
pub(crate) struct LogLimit {
    made: Instant,
    /// When the next may pass, in nanoseconds after it was made.
    next: AtomicU64,
    suppressed: AtomicU64,
}

impl LogLimit {
    pub(crate) fn new() -> Self {
        Self { made: Instant::now(), next: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// How many were suppressed since the last one that passed, if this one may pass.
    pub(crate) fn pass(&self) -> Option<u64> {
        let now = self.made.elapsed();
        let next = self.next.load(Ordering::Relaxed);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let after = nanos(now + INTERVAL);
        if nanos(now) < next
            || self.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_a_second_passes_and_counts_the_others() {
        let limit = LogLimit::new();
        assert_eq!(limit.pass(), Some(0));
        for _ in 0..7 {
            assert_eq!(limit.pass(), None);
        }
        tokio::time::advance(INTERVAL).await;
        assert_eq!(limit.pass(), Some(7));
        assert_eq!(limit.pass(), None);
    }
}
