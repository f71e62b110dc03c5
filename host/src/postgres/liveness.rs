//! When a connection that does not answer is given up.
//!
//! The server ends a statement itself a little before the deadline, and reports that. A connection that stays
//! silent longer has lost its network or its server; or it waits for a commit, which no Postgres time limit
//! ends while it waits for a standby or a disk. The two look the same from here, and giving up on a commit
//! leaves its process behind on the server. So the server is asked, over another connection, whether it is
//! still working on the statement. While it is, the call waits; if it is not, or does not know the statement,
//! the connection is given up. That question is also the probe without which no connection is replaced: while
//! nothing answers, everything waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long a host may stay silent during a login, and how long a new connection may leave its first
/// statement unanswered if the one before it fell silent. They also decide how late the cache recovers from a
/// network that swallowed everything, so they are short.
const LOGIN_SILENCE: Duration = Duration::from_millis(750);
const FIRST_SILENCE: Duration = Duration::from_millis(500);

/// How long connecting may take, TLS and login included, over all hosts. An attempt outlives the callers that
/// wait for it, so this may exceed their deadlines.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// The pause between two questions about the same statement: while the server works on it, and after a
/// question that nobody answered, which took time by itself.
pub(crate) const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
pub(crate) const TRY_AGAIN_AFTER: Duration = Duration::from_millis(25);

/// How long silence may last, and when a connection last fell silent.
#[derive(Debug)]
pub(crate) struct Liveness {
    /// The longest deadline of a call.
    deadline: Duration,
    began: Instant,
    /// Since when a connection that was given up had not answered, in nanoseconds after `began`.
    silent_since: AtomicU64,
}

impl Liveness {
    pub(super) fn new(deadline: Duration) -> Self {
        Self { deadline, began: Instant::now(), silent_since: AtomicU64::new(0) }
    }

    /// How long the server may work on one statement: a little less than the deadline, so that it gives up
    /// first and reports that.
    pub(crate) fn statement_limit(&self) -> Duration {
        (self.deadline * 9 / 10).max(Duration::from_millis(1))
    }

    /// How long a statement may go unanswered: by then the server has stopped it and reported that, even from
    /// far away.
    pub(crate) fn silence(&self) -> Duration {
        self.deadline + (self.deadline / 10).max(Duration::from_millis(50))
    }

    /// The same, for a login, which is several answers.
    pub(crate) fn login_silence(&self) -> Duration {
        // Longer deadlines stand for a slower network or server.
        LOGIN_SILENCE.max(self.deadline.mul_f64(0.375))
    }

    /// The same, for the first statement on a connection that takes the place of one that was given up.
    pub(crate) fn first_silence(&self) -> Duration {
        FIRST_SILENCE.max(self.deadline / 4)
    }

    /// How long a worker for writes waits before it connects again, after this many connections in a row that
    /// answered nothing at all. Each commit that hangs may leave a process behind on the server, if a pooler
    /// in between hides which process to ask about.
    pub(crate) fn pause(&self, unanswered: u32) -> Duration {
        if unanswered == 0 { Duration::ZERO } else { self.silence() * (1 << unanswered.min(4)) }
    }

    /// Notes that a connection was given up which had not answered since then. Whatever broke it may have
    /// broken others.
    pub(crate) fn given_up(&self, silent_since: Instant) {
        self.silent_since.fetch_max(self.nanos(silent_since), Ordering::Relaxed);
    }

    /// Whether a connection that last answered at that time may be broken too, and must not be used.
    pub(crate) fn is_suspect(&self, last_answer: Instant) -> bool {
        self.nanos(last_answer) < self.silent_since.load(Ordering::Relaxed)
    }

    fn nanos(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_gives_up_first_and_the_host_last() {
        for millis in [1, 50, 100, 2_000, 30_000] {
            let deadline = Duration::from_millis(millis);
            let liveness = Liveness::new(deadline);
            assert!(liveness.statement_limit() <= deadline, "{millis}");
            assert!(liveness.silence() >= deadline + Duration::from_millis(50), "{millis}");
            assert!(liveness.login_silence() >= LOGIN_SILENCE, "{millis}");
            assert!(liveness.first_silence() >= FIRST_SILENCE, "{millis}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_heard_since_another_fell_silent_is_suspect() {
        let liveness = Liveness::new(Duration::from_secs(2));
        let second = Duration::from_secs(1);
        let before = Instant::now();
        tokio::time::advance(second).await;
        let silent_since = Instant::now();
        tokio::time::advance(second).await;
        let after = Instant::now();
        assert!(!liveness.is_suspect(before));
        liveness.given_up(silent_since);
        assert!(
            liveness.is_suspect(before) && !liveness.is_suspect(silent_since) && !liveness.is_suspect(after)
        );
        liveness.given_up(before);
        assert!(liveness.is_suspect(before) && !liveness.is_suspect(silent_since), "the latest counts");
    }

    #[test]
    fn pauses_grow_only_while_nothing_is_answered() {
        let liveness = Liveness::new(Duration::from_secs(2));
        let pauses = [0, 1, 2, 4, 100].map(|unanswered| liveness.pause(unanswered).as_secs_f64());
        assert_eq!(pauses, [0.0, 4.4, 8.8, 35.2, 35.2]);
    }
}
