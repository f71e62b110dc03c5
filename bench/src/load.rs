//! Load: so many callers at once, each one call after another, every call timed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::contender::Contender;
use crate::dataset::Dataset;
use crate::environment::Environment;

/// What the callers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// Gets that hit
    Get,
    /// Puts that replace
    Put,
    /// Of 100 calls 95 gets and 5 puts
    Mix,
}

impl Workload {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Mix => "mix",
        }
    }

    fn is_put(self) -> bool {
        match self {
            Self::Get => false,
            Self::Put => true,
            Self::Mix => fastrand::u8(0..100) < 5,
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) calls: usize,
    pub(super) calls_per_second: f64,
    /// Latencies, in microseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    /// Processor time for 1,000 calls, in seconds: of this process, and of the database's if it runs here.
    pub(super) cpu_per_1000: f64,
    pub(super) server_cpu_per_1000: Option<f64>,
}

/// Runs `callers` callers for `time`, after a moment in which nothing is counted.
pub(super) async fn run(
    contender: &impl Contender,
    (environment, dataset): (Option<&Environment>, &Arc<Dataset>),
    workload: Workload,
    callers: usize,
    time: Duration,
) -> Result<Measured> {
    drive(contender, dataset, workload, callers, time / 5).await?;
    let server_cpu = async || environment?.server_cpu().await;
    let server_before = server_cpu().await;
    let cpu = cpu_time();
    let begin = Instant::now();
    let mut latencies = drive(contender, dataset, workload, callers, time).await?;
    let (elapsed, cpu) = (begin.elapsed(), cpu_time() - cpu);
    let server = server_cpu().await.zip(server_before).map(|(now, before)| now.saturating_sub(before));
    let per_1000 = |time: Duration, calls: usize| time.as_secs_f64() / calls as f64 * 1e3;
    latencies.sort_unstable();
    let at = |share: f64| {
        // Nearest rank, from below.
        let rank = (latencies.len() as f64 * share).ceil() as usize;
        latencies.get(rank.saturating_sub(1)).map_or(0.0, |nanos| f64::from(*nanos) / 1e3)
    };
    Ok(Measured {
        calls: latencies.len(),
        calls_per_second: latencies.len() as f64 / elapsed.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        cpu_per_1000: per_1000(cpu, latencies.len()),
        server_cpu_per_1000: server.map(|time| per_1000(time, latencies.len())),
    })
}

/// All latencies, in nanoseconds; what is over four seconds counts as that.
async fn drive(
    contender: &impl Contender,
    dataset: &Arc<Dataset>,
    workload: Workload,
    callers: usize,
    time: Duration,
) -> Result<Vec<u32>> {
    // The longest life that a ticket can have left: puts of all contenders present one of this moment.
    let ticket = contender.ticket(&dataset.url(0)).await?;
    let ends = Instant::now() + time;
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let (contender, dataset, ticket) = (contender.clone(), dataset.clone(), ticket.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(1 << 16);
                loop {
                    let (url, document) = dataset.any();
                    let begin = Instant::now();
                    if begin >= ends {
                        return Ok(latencies);
                    }
                    if workload.is_put() {
                        contender.put(&url, document, ticket.as_ref()).await?;
                    } else {
                        contender.get(&url).await?;
                    }
                    latencies.push(u32::try_from(begin.elapsed().as_nanos()).unwrap_or(u32::MAX));
                    // A call that is answered from memory never waits, and would not let the others have a
                    // turn.
                    tokio::task::coop::consume_budget().await;
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for caller in callers {
        let latencies: Result<Vec<u32>> = caller.await?;
        all.extend(latencies?);
    }
    Ok(all)
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
