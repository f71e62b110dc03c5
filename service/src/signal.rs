//! The signals that ask a program to end.

use tokio::signal::unix::{SignalKind, signal};

/// Returns at Ctrl-C, or a request to terminate: when to [stop](crate::serve).
pub async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
