//! How long to wait before connecting again. The pause grows with each failure, with jitter, so that nodes
//! which lost their database together do not return to it together.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause between the beginnings of two attempts. Short, so that the cache is back within a second
/// of the database; the pauses before it double from [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// A connection that lived for less counts as a failure. Otherwise a server that ends each connection at once
/// would see a new one at once.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// What the next attempt has to know of those before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    failures: u32,
    not_before: Instant,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { failures: 0, not_before: Instant::now() }
    }

    /// How many attempts and brief connections have failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next attempt may begin.
    pub(super) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// An attempt that began then has failed. What it took is part of the pause.
    pub(super) fn failed(&mut self, began: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = self.not_before.max(began + pause(self.failures));
    }

    /// A connection works that was opened then. Whether that is long enough ago to say that connecting works.
    pub(super) fn works(&mut self, opened: Instant) -> bool {
        let settled = opened.elapsed() >= SETTLED_AFTER;
        if settled {
            self.failures = 0;
        }
        settled
    }

    /// A connection has ended that was opened then.
    pub(super) fn ended(&mut self, opened: Instant) {
        self.works(opened);
        self.failed(Instant::now());
    }
}

/// How long to wait after so many failures: doubling, and somewhere between half of that and all.
fn pause(failures: u32) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_differ() {
        for (failures, millis) in [(1, 25), (2, 50), (5, 400), (6, 500), (100, 500), (u32::MAX, 500)] {
            let full = Duration::from_millis(millis);
            let pauses: Vec<_> = (0..100).map(|_| pause(failures)).collect();
            assert!(pauses.iter().all(|pause| (full / 2..=full).contains(pause)), "{failures}: {pauses:?}");
            let spread = *pauses.iter().max().unwrap() - *pauses.iter().min().unwrap();
            assert!(spread > full / 4, "{failures}: nodes would return together");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_connection_that_lives_ends_a_row_of_failures() {
        let mut backoff = Backoff::new();
        for _ in 0..3 {
            backoff.ended(Instant::now());
        }
        assert_eq!(backoff.failures(), 3);
        assert!(backoff.not_before() > Instant::now());
        let opened = Instant::now();
        tokio::time::advance(SETTLED_AFTER - Duration::from_millis(1)).await;
        backoff.works(opened);
        assert_eq!(backoff.failures(), 3);
        tokio::time::advance(Duration::from_millis(1)).await;
        backoff.works(opened);
        assert_eq!(backoff.failures(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_attempt_took_is_part_of_the_pause() {
        let mut backoff = Backoff::new();
        let began = Instant::now();
        tokio::time::advance(LONGEST_PAUSE).await;
        backoff.failed(began);
        assert!(backoff.not_before() <= Instant::now());
    }
}
