//! What Prometheus' clients say of their process, under the names that all of them use.

use procfs::process::{LimitValue, Process};
use procfs::{CurrentSI, KernelStats, ProcResult};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

/// Nothing is registered where `/proc` does not say.
pub(crate) fn register(registry: &mut Registry) {
    if let Ok(process) = Process::myself() {
        // Each by itself: in a container some may be hidden.
        let _ = times(registry, &process);
        let _ = files(registry, &process);
    }
}

fn times(registry: &mut Registry, process: &Process) -> ProcResult<()> {
    let stat = process.stat()?;
    let per_second = procfs::ticks_per_second() as f64;
    let cpu = Counter::<f64, AtomicU64>::default();
    cpu.inc_by((stat.utime + stat.stime) as f64 / per_second);
    registry.register_with_unit("cpu", "CPU time", Unit::Seconds, cpu);
    let memory = [
        ("resident_memory", "Resident memory", stat.rss * procfs::page_size()),
        ("virtual_memory", "Virtual memory", stat.vsize),
    ];
    for (name, help, bytes) in memory {
        let gauge = Gauge::<u64, AtomicU64>::default();
        gauge.set(bytes);
        registry.register_with_unit(name, help, Unit::Bytes, gauge);
    }
    let threads = Gauge::<i64>::default();
    threads.set(stat.num_threads);
    registry.register("threads", "Threads", threads);
    let started = Gauge::<f64, AtomicU64>::default();
    started.set(KernelStats::current()?.btime as f64 + stat.starttime as f64 / per_second);
    registry.register_with_unit("start_time", "When it started, since 1970", Unit::Seconds, started);
    Ok(())
}

fn files(registry: &mut Registry, process: &Process) -> ProcResult<()> {
    let gauge = |value: usize| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge
    };
    registry.register("open_fds", "Open file descriptors", gauge(process.fd_count()?));
    if let LimitValue::Value(most) = process.limits()?.max_open_files.soft_limit {
        registry.register(
            "max_fds",
            "The most file descriptors",
            gauge(usize::try_from(most).unwrap_or(usize::MAX)),
        );
    }
    Ok(())
}
