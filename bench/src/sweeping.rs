//! What removing expired rows costs, and what gets notice of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cimd_cache::Cache;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::dataset::Dataset;
use crate::load::{self, Measured, Workload};
use crate::report::median;

/// How many rows one sweep removes: the most that it may.
const BATCH: u32 = 1_000;

/// How many callers get documents meanwhile.
const CALLERS: usize = 16;

/// A sweep of all that has expired.
pub(super) struct Swept {
    removed: u64,
    elapsed: Duration,
    /// How long each batch took, in milliseconds.
    batches: Vec<f64>,
    before: Measured,
    during: Vec<Measured>,
}

/// Sweeps until nothing is left, while gets go on; and measures the same gets without it first.
pub(super) async fn run(
    cache: &Cache,
    dataset: &Arc<Dataset>,
    slice: Duration,
    progress: &ProgressBar,
) -> Result<Swept> {
    let before = load::run(cache, (None, dataset), Workload::Get, CALLERS, slice).await?;
    let done = Arc::new(AtomicBool::new(false));
    let gets = tokio::spawn({
        let (cache, dataset, done) = (cache.clone(), dataset.clone(), done.clone());
        async move {
            let mut during = Vec::new();
            while !done.load(Ordering::Relaxed) {
                during.push(load::run(&cache, (None, &dataset), Workload::Get, CALLERS, slice).await?);
            }
            Ok::<_, anyhow::Error>(during)
        }
    });
    progress.set_length(dataset.expired);
    let begin = Instant::now();
    let (mut removed, mut batches) = (0, Vec::new());
    let swept = loop {
        let since = Instant::now();
        let swept = match cache.sweep(BATCH).await {
            Ok(swept) => swept,
            Err(error) => break Err(error),
        };
        batches.push(since.elapsed().as_secs_f64() * 1e3);
        removed += u64::from(swept.removed);
        progress.set_position(removed);
        if !swept.more {
            break Ok(begin.elapsed());
        }
    };
    done.store(true, Ordering::Relaxed);
    let during = gets.await??;
    let elapsed = swept?;
    ensure!(removed == dataset.expired, "{removed} rows were removed of {}", dataset.expired);
    Ok(Swept { removed, elapsed, batches, before, during })
}

impl Swept {
    fn rate(&self) -> f64 {
        self.removed as f64 / self.elapsed.as_secs_f64()
    }

    /// Of the first and of the last tenth of the batches: were they to differ, a sweep would cost more than
    /// it removes.
    fn ends(&self) -> (f64, f64) {
        let tenth = (self.batches.len() / 10).max(1);
        let last = self.batches.len() - tenth.min(self.batches.len());
        (median(self.batches[..tenth].iter().copied()), median(self.batches[last..].iter().copied()))
    }

    pub(super) fn table(&self) -> String {
        let during = |of: fn(&Measured) -> f64| median(self.during.iter().map(of));
        let (first, last) = self.ends();
        let longest = self.batches.iter().copied().fold(0.0, f64::max);
        format!(
            "\nsweep of {} expired rows, {BATCH} at a time\n  {:.0} rows/s; a batch takes {first:.1} ms at first, {last:.1} ms \
             in the end, {longest:.1} ms at most\n  gets of {CALLERS} callers: before it p50 {:.0} us, p99 {:.0} us; \
             meanwhile p50 {:.0} us, p99 {:.0} us\n",
            self.removed,
            self.rate(),
            self.before.p50,
            self.before.p99,
            during(|round| round.p50),
            during(|round| round.p99),
        )
    }

    pub(super) fn json(&self) -> Value {
        let (first, last) = self.ends();
        let gets = |of: &Measured| json!({ "p50_us": of.p50, "p99_us": of.p99, "calls_per_second": of.calls_per_second });
        json!({
            "removed": self.removed,
            "batch": BATCH,
            "rows_per_second": self.rate(),
            "first_batches_ms": first,
            "last_batches_ms": last,
            "gets_before": gets(&self.before),
            "gets_meanwhile": self.during.iter().map(gets).collect::<Vec<_>>(),
        })
    }
}
