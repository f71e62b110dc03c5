//! Removing rows that no get can return any more, now and then.

use std::time::Duration;

use cimd_cache::Cache;

use crate::metrics::Metrics;
use crate::stop::{Stopping, stopped};

/// Sweeps about every `every`, until the service stops. Each pause is longer or shorter by up to a fifth, so
/// that the nodes of a cluster do not sweep together. A sweep goes on while there are more rows: what has
/// piled up is caught up with.
pub(crate) async fn sweep(cache: Cache, every: Duration, metrics: Metrics, mut stopping: Stopping) {
    let sweep = async {
        loop {
            tokio::time::sleep(every.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
            // Why one fails the library logs. The next one comes.
            while let Ok(swept) = cache.sweep(u32::MAX).await {
                metrics.swept(swept.removed);
                if !swept.more {
                    break;
                }
            }
        }
    };
    tokio::select! {
        () = sweep => {}
        () = stopped(&mut stopping) => {}
    }
}
