//! Those who watch while a fault is on: how late the machine itself is, and how many connections the server
//! counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::server::connect;

/// Ends a task when it is dropped.
struct Ended(JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How late this process gets its turn. A call that ends late because nothing ran is not the cache's fault.
pub(crate) struct Stalls {
    stalls: Arc<Mutex<Vec<(Instant, Duration)>>>,
    _task: Ended,
}

const BEAT: Duration = Duration::from_millis(5);

/// Less is as it always is.
const STALL: Duration = Duration::from_millis(10);

impl Stalls {
    pub(crate) fn watch() -> Self {
        let stalls = Arc::<Mutex<Vec<_>>>::default();
        let seen = stalls.clone();
        let task = tokio::spawn(async move {
            loop {
                let due = Instant::now() + BEAT;
                tokio::time::sleep(BEAT).await;
                let late = due.elapsed();
                if late > STALL {
                    seen.lock().push((Instant::now(), late));
                }
            }
        });
        Self { stalls, _task: Ended(task) }
    }

    /// All the time that was lost between two moments.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Duration {
        let stalls = self.stalls.lock();
        let inside = |&(end, late): &(Instant, Duration)| {
            end.min(to).saturating_duration_since((end - late).max(from))
        };
        stalls.iter().map(inside).sum()
    }
}

/// The most connections of the cache's role that the server has had at once.
pub(crate) struct Backends {
    most: Arc<AtomicUsize>,
    _task: Ended,
}

const COUNT: &str = "select count(*) from pg_stat_activity where usename = 'cimd_cache_app'";

impl Backends {
    /// Counts through `url`, a superuser's, whenever the server answers.
    pub(crate) fn watch(url: String) -> Self {
        let most = Arc::<AtomicUsize>::default();
        let seen = most.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Ok(client) = connect(&url).await {
                    // A process that is just ending may still be counted beside the one that takes its place:
                    // what counts is what two looks in a row have seen.
                    let mut before = 0;
                    while let Ok(row) = client.query_one(COUNT, &[]).await {
                        let now = usize::try_from(row.get::<_, i64>(0)).unwrap();
                        seen.fetch_max(now.min(before), Ordering::Relaxed);
                        before = now;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { most, _task: Ended(task) }
    }

    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}
