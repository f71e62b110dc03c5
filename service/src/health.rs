//! Two questions: whether this process should get calls, and whether the database answers. The second must
//! not decide the first, or a short outage would take all nodes out of rotation at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cimd_cache::{Cache, CheckError};

use crate::answer::Outcome;
use crate::stop::{Stopping, stopped};

/// After this long without a call, the database is checked.
const ASK_AFTER: Duration = Duration::from_secs(5);

/// Until the first check that finds everything in order, it is repeated this often.
const FIRST_ASK_AFTER: Duration = Duration::from_millis(200);

/// What is known of this process and of the database.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    state: Arc<State>,
    stopping: Stopping,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a check has ever found everything in order.
    checked: AtomicBool,
    up: AtomicBool,
    /// How many calls have shown whether the database answers.
    shown: AtomicU64,
}

impl Health {
    pub(crate) fn new(stopping: Stopping) -> Self {
        Self { state: Arc::default(), stopping }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state.checked.load(Ordering::Relaxed) && !*self.stopping.borrow()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state.up.load(Ordering::Relaxed)
    }

    /// A call has ended, which may show whether the database answers. One that a client wanted to be shorter
    /// than calls are shows nothing when it fails.
    pub(crate) fn saw(&self, outcome: Outcome, is_hurried: bool) {
        let is_up = match outcome {
            // The database was not asked.
            Ok("near_hit") => return,
            Ok(_) => true,
            Err("unavailable" | "timed-out") if is_hurried => return,
            Err("unavailable" | "timed-out" | "storage" | "not-ready") => false,
            Err(_) => return,
        };
        self.state.up.store(is_up, Ordering::Relaxed);
        self.state.shown.fetch_add(1, Ordering::Relaxed);
    }

    /// Checks until all is in order, and after that whenever no call has shown anything for a while. Ends
    /// with the service.
    pub(crate) async fn watch(self, cache: Cache) {
        let mut stopping = self.stopping.clone();
        let watch = async {
            // The last reason that was logged: each is once.
            let mut told = String::new();
            loop {
                let before = self.state.shown.load(Ordering::Relaxed);
                let checked = self.state.checked.load(Ordering::Relaxed);
                tokio::time::sleep(if checked { ASK_AFTER } else { FIRST_ASK_AFTER }).await;
                if checked && self.state.shown.load(Ordering::Relaxed) != before {
                    continue;
                }
                let found = cache.check().await;
                self.state.up.store(found.is_ok(), Ordering::Relaxed);
                match found {
                    Ok(report) if !checked => {
                        tracing::info!(role = report.role, schema_version = report.schema_version, "ready");
                        self.state.checked.store(true, Ordering::Relaxed);
                    }
                    Ok(_) | Err(CheckError::Connection(_)) => {}
                    Err(error) => {
                        let error = error.to_string();
                        if told != error {
                            tracing::warn!(error, "the database cannot be used");
                            told = error;
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = watch => {}
            () = stopped(&mut stopping) => {}
        }
    }
}
