//! When a connection that does not answer is given up.
//!
//! The server ends a statement itself a little before the deadline, and says so. What is silent for some time longer has
//! lost its network, or its server; or it is a commit, which no time limit of Postgres' ends while it waits for a standby
//! or a disk. These cannot be told apart from here, and giving up a commit leaves its process behind on the server. So the
//! server is asked, over another connection, whether it is still at work on the statement: while it is, the answer is
//! waited for; if it is not, or has never heard of it, the connection is given up. That question is also the probe without
//! which no connection is replaced: while nobody answers, all wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long a host may leave a login without a word, and how long a new connection may leave its first statement without
/// an answer where one before it fell silent. They are also how late the cache may come back after a network that
/// swallowed everything, so they are short.
const LOGIN_SILENCE: Duration = Duration::from_millis(750);
const FIRST_SILENCE: Duration = Duration::from_millis(500);

/// How long connecting may take, TLS and login included, over all hosts. An attempt outlives the callers that wait for it,
/// so this may exceed their deadlines.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Between two questions about the same statement: where the server is at work on it, and where nobody answered, which
/// takes its time by itself.
pub(crate) const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
pub(crate) const TRY_AGAIN_AFTER: Duration = Duration::from_millis(25);

/// What counts as silence, and since when it has been known of any.
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

    /// How long the server may work on one statement: a little less than the deadline, so that it gives up before the call
    /// does, and says so.
    pub(crate) fn statement_limit(&self) -> Duration {
        (self.deadline * 9 / 10).max(Duration::from_millis(1))
    }

    /// How long a statement may go without an answer: by then the server has stopped it and said so, even from afar.
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

    /// How long a worker for writes waits before it connects again, after so many connections in a row that answered nothing
    /// at all: for each commit that hangs a process may be left behind on the server, where a pooler in between keeps it
    /// from being asked about the right one.
    pub(crate) fn pause(&self, unanswered: u32) -> Duration {
        if unanswered == 0 { Duration::ZERO } else { self.silence() * (1 << unanswered.min(4)) }
    }

    /// A connection was given up that had not answered since then: what swallowed it may have swallowed others.
    pub(crate) fn given_up(&self, silent_since: Instant) {
        self.silent_since.fetch_max(self.nanos(silent_since), Ordering::Relaxed);
    }

    /// Whether a connection that was last heard then may be gone too, and must not be used.
    pub(crate) fn is_suspect(&self, last_heard: Instant) -> bool {
        self.nanos(last_heard) < self.silent_since.load(Ordering::Relaxed)
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
