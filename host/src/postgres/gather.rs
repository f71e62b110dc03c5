//! Sending together what is ready together.
//!
//! Answers come in groups, and each wakes its caller; most callers ask again at once. The task that owns the connection
//! would send the first of these new queries as soon as it has it, alone, and the server would answer it alone: two
//! system calls on each side for one query, and so on for ever, because one answer wakes one caller. So while calls
//! share a connection its task, once woken, lets the tasks that are ready now go first, and then sends what they left.
//! For a call that is alone on it nothing changes.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// Runs `connection`, over which `calls` calls are under way at the moment.
pub(crate) async fn gathering(connection: impl Future<Output = ()>, calls: Arc<AtomicUsize>) {
    let mut connection = pin!(connection);
    let mut has_waited = false;
    let poll = |context: &mut Context<'_>| -> Poll<()> {
        has_waited = !has_waited && calls.load(Ordering::Relaxed) > 1;
        if has_waited {
            // To the end of the queue of what is ready.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::as_mut(&mut connection).poll(context)
    };
    std::future::poll_fn(poll).await;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt;
    use futures_util::task::noop_waker_ref;

    use super::*;

    /// How often the connection itself is polled when its task is polled four times.
    fn polls(calls: usize) -> usize {
        let polls = Cell::new(0);
        let connection = std::future::poll_fn(|_| {
            polls.set(polls.get() + 1);
            Poll::<()>::Pending
        });
        let mut task = pin!(gathering(connection, Arc::new(AtomicUsize::new(calls))));
        for _ in 0..4 {
            assert!(task.poll_unpin(&mut Context::from_waker(noop_waker_ref())).is_pending());
        }
        polls.get()
    }

    #[test]
    fn a_connection_lets_others_go_first_only_while_calls_share_it() {
        assert_eq!(polls(0), 4);
        assert_eq!(polls(1), 4);
        assert_eq!(polls(2), 2);
    }
}
