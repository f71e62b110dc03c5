//! The service in a task of its own, beside the rest of a program.

use std::panic::resume_unwind;

use cimd_cache::Cache;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::service::{ServeError, Settings, serve};

/// A service that accepts connections. Dropped, it stops by itself, and nobody waits for that.
#[derive(Debug)]
#[must_use = "a service stops when it is dropped"]
pub struct Running {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
}

/// Starts [`serve`], and returns once it accepts connections.
///
/// # Errors
///
/// [`ServeError`]: nobody was served.
pub async fn start(cache: Cache, settings: Settings) -> Result<Running, ServeError> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, listening) = oneshot::channel::<()>();
    let is_listening = move || {
        let _ = ready.send(());
    };
    let stopped = async {
        // An error means that the service was dropped.
        let _ = stopped.await;
    };
    let ended = tokio::spawn(serve(cache, settings, is_listening, stopped));
    match listening.await {
        Ok(()) => Ok(Running { stop, ended }),
        Err(_) => match joined(ended).await {
            Err(error) => Err(error),
            Ok(()) => unreachable!("it ends well only after it has listened"),
        },
    }
}

impl Running {
    /// Stops it as [`serve`] stops: calls in flight are answered. Returns when it has ended.
    ///
    /// # Errors
    ///
    /// What [`serve`] ended with, perhaps before this.
    pub async fn stop(self) -> Result<(), ServeError> {
        drop(self.stop);
        joined(self.ended).await
    }
}

/// What the task returned. If it has panicked, the panic goes on here.
async fn joined(task: JoinHandle<Result<(), ServeError>>) -> Result<(), ServeError> {
    match task.await {
        Ok(ended) => ended,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Its runtime shuts down.
            Err(_) => Ok(()),
        },
    }
}
