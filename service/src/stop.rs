//! The word that the service stops, for all of its tasks.

use tokio::sync::watch;

/// Becomes true once, when the service stops.
pub(crate) type Stopping = watch::Receiver<bool>;

/// Returns when the service stops.
pub(crate) async fn stopped(stopping: &mut Stopping) {
    // An error means that whoever says so is gone, which is the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
