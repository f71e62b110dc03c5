//! Many histories, on all cores.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::world::Simulated;

/// The first of these seeds whose history violates the contract, however many cores there are.
pub fn first_violation(seeds: Range<u64>, simulate: impl Fn(u64) -> Simulated + Sync) -> Option<u64> {
    let (next, found) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= found.load(Ordering::Relaxed) {
                        return;
                    }
                    if !simulate(seed).violations.is_empty() {
                        found.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seed = found.into_inner();
    (seed < seeds.end).then_some(seed)
}
