//! Callers who use the cache as auth servers do: get, and on a miss fetch and put; now and then a delete.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cimd_cache_simulator::history::Answer;
use tokio::task::JoinHandle;

use crate::node::Node;
use crate::record::{Caller, Record, Seconds};

/// What the callers do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// How many keys they share.
    pub(crate) keys: usize,
    /// On each node.
    pub(crate) callers: usize,
    /// Between two calls of one caller.
    pub(crate) pause: Duration,
    /// Of a thousand calls so many remove a document, and so many all documents.
    pub(crate) deletes: u32,
    pub(crate) purges: u32,
    /// Whether they do nothing else but look documents up.
    pub(crate) only_gets: bool,
}

impl Default for Load {
    fn default() -> Self {
        let pause = Duration::from_millis(4);
        Self { keys: 24, callers: 12, pause, deletes: 20, purges: 0, only_gets: false }
    }
}

/// How long most documents stay fresh, and those that expire while a test looks.
const LONG: Seconds = Seconds(3_600);
const SHORT: Seconds = Seconds(1);

/// Callers at work. They stop when told, and each ends the call it is in.
pub(crate) struct Callers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    /// Keys that were put once and are never put, deleted or purged again.
    archived: Arc<AtomicUsize>,
    load: Load,
}

impl Callers {
    pub(crate) fn start(record: &Arc<Record>, nodes: &[Node], load: Load) -> Self {
        let (stop, archived) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = Vec::new();
        for (node, cache) in nodes.iter().enumerate() {
            for number in 0..load.callers {
                let (record, cache, stop, archived) =
                    (record.clone(), cache.clone(), stop.clone(), archived.clone());
                tasks.push(tokio::spawn(async move {
                    let caller = Caller { record: &record, node, cache: &cache };
                    let mut random = fastrand::Rng::with_seed((node * 1_000 + number) as u64);
                    while !stop.load(Ordering::Relaxed) {
                        if load.only_gets {
                            caller.get(random.usize(..load.keys)).await;
                        } else if number == 0 {
                            archive(caller.clone(), load.keys + archived.fetch_add(1, Ordering::Relaxed))
                                .await;
                        } else {
                            call(&caller, &mut random, load).await;
                        }
                        tokio::time::sleep(load.pause.mul_f64(0.5 + random.f64())).await;
                    }
                }));
            }
        }
        Self { stop, tasks, archived, load }
    }

    /// Ends the work, and then reads through each node once more what was archived.
    pub(crate) async fn stop(self, record: &Record, nodes: &[Node]) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let archived = self.archived.load(Ordering::Relaxed);
        for (node, cache) in nodes.iter().enumerate() {
            let caller = Caller { record, node, cache };
            for key in self.load.keys..self.load.keys + archived {
                caller.get(key).await;
            }
        }
    }
}

/// Stores a document for good.
async fn archive(caller: Caller<'_>, key: usize) {
    if let Some((false, ticket)) = caller.get(key).await {
        caller.put(key, LONG, Some(&ticket)).await;
    }
}

/// One login, or one who tidies up.
async fn call(caller: &Caller<'_>, random: &mut fastrand::Rng, load: Load) {
    let key = random.usize(..load.keys);
    let lot = random.u32(..1_000);
    if lot < load.deletes {
        return caller.delete(key).await;
    }
    if lot < load.deletes + load.purges {
        return caller.purge().await;
    }
    let fresh_for = if random.u8(..4) == 0 { SHORT } else { LONG };
    match lot {
        980..990 => caller.sweep(100).await,
        990.. => drop(caller.put(key, fresh_for, None).await),
        _ => {
            let Some((found, ticket)) = caller.get(key).await else { return };
            // A miss, or a refresh ahead of time.
            if !found || random.u8(..5) == 0 {
                tokio::time::sleep(Duration::from_millis(random.u64(..8))).await;
                let answer = caller.put(key, fresh_for, Some(&ticket)).await;
                if matches!(answer, Answer::Failed(_)) {
                    // With the same ticket, which is safe (contract, 10).
                    caller.put(key, fresh_for, Some(&ticket)).await;
                }
            }
        }
    }
}
