//! A worker: one task that owns one connection and one instance of the component, and does one thing at a
//! time.
//!
//! Its life is [`run`](Worker::run): wait for work, connect if there is no connection, do the work, hand out
//! the answer. It finishes what it has begun, whether or not anybody still waits: no statement is abandoned
//! because a caller left.

use std::sync::Arc;

use tokio::sync::Notify;

use super::executor::Executor;
use super::queue::{Queue, Work};

pub(super) struct Worker {
    executor: Executor,
    wake: Arc<Notify>,
    /// Whether the queue knows already that this worker is no more.
    has_left: bool,
}

impl Worker {
    pub(super) fn new(executor: Executor) -> Self {
        Self { executor, wake: Arc::default(), has_left: false }
    }

    pub(super) async fn run(mut self) {
        while let Some(work) = self.next().await {
            self.serve(work).await;
        }
        self.executor.disconnect().await;
    }

    /// The next work, and a connection to do it with. None if this worker is not needed any more.
    async fn next(&mut self) -> Option<Work> {
        let (shared, number) = (self.executor.shared.clone(), self.executor.number);
        let queue = shared.queue(self.executor.purpose);
        loop {
            if self.executor.connection.is_none() {
                if !queue.connects(number) {
                    self.has_left = true;
                    return None;
                }
                if self.executor.connect().await.is_err() {
                    let Some(unservable) = queue.take_unservable(number) else {
                        self.has_left = true;
                        return None;
                    };
                    for work in unservable {
                        self.serve(work).await;
                        tokio::task::yield_now().await;
                    }
                }
                continue;
            }
            if self.executor.gathers {
                // Callers that just got their answers often ask again at once: one statement then carries all
                // of them.
                tokio::task::yield_now().await;
            }
            match queue.take(number, &self.wake) {
                None if queue.is_closed() => return None,
                None => self.rest(queue).await,
                work => return work,
            }
        }
    }

    /// Waits for work. Closes the connection if the server ended it, if it was not used for long enough, or
    /// if it is suspect.
    async fn rest(&mut self, queue: &Queue) {
        let Executor { shared, connection, number, .. } = &mut self.executor;
        let (Some(connection), Some(database)) = (connection, shared.database()) else { return };
        let retires = tokio::select! {
            biased;
            // First: work must not meet a connection whose end can be known.
            () = connection.ended() => false,
            () = self.wake.notified() => false,
            () = tokio::time::sleep(database.idle) => queue.retires(*number),
        };
        if retires {
            tracing::debug!(purpose = queue.name(), "an idle database connection is closed");
        }
        if retires || connection.is_suspect() {
            self.executor.disconnect().await;
        }
        self.executor.look_after_connection();
    }

    async fn serve(&mut self, work: Work) {
        match work {
            Work::Gets(gets) => self.executor.gets(gets).await,
            Work::One(request) => self.executor.run(request).await,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.has_left {
            let Executor { shared, purpose, number, .. } = &self.executor;
            shared.queue(*purpose).left(*number);
        }
    }
}
