//! A worker: one task that owns one connection and one instance of the component, and does one thing at a time.
//!
//! Its life is [`run`](Worker::run): wait for work, connect if there is no connection, do it, hand out the answer. What it
//! has begun it ends, whether or not anybody still waits: no statement is left half-way because a caller went.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cimd_cache_guest::statements::Purpose;
use tokio::sync::Notify;
use tokio::time::Instant;
use wasmtime::Store;

use crate::bindings::CimdCache;
use crate::error::Error;
use crate::loan::Loan;
use crate::near_cache::Effect;
use crate::postgres::{Connection, Failure};
use crate::queue::{Queue, Work};
use crate::sandbox::{self, Instance, Overtime, State};
use crate::workers::Workers;

pub(crate) struct Worker {
    pub(crate) workers: Arc<Workers>,
    purpose: Purpose,
    /// Among those of its purpose, until it is needed no more.
    number: Option<usize>,
    wake: Arc<Notify>,
    pub(crate) connection: Option<Connection>,
    /// Why there is no connection.
    pub(crate) failure: Failure,
    /// Whether the connection is in the place of one that was given up, and has answered nothing yet.
    replaces_silent: bool,
    instance: Option<Instance>,
    /// Whether several gets came together lately: then tasks that are ready to ask go first, before a batch is taken.
    pub(crate) gathers: bool,
}

impl Worker {
    pub(crate) fn new(workers: Arc<Workers>, purpose: Purpose, number: usize) -> Self {
        Self {
            workers,
            purpose,
            number: Some(number),
            wake: Arc::default(),
            connection: None,
            failure: Failure::Unavailable,
            replaces_silent: false,
            instance: None,
            gathers: false,
        }
    }

    pub(crate) async fn run(mut self) {
        while let Some(work) = self.next().await {
            self.serve(work).await;
        }
        self.disconnect().await;
    }

    /// The next work, and a connection to do it with. None if this worker is not needed any more.
    async fn next(&mut self) -> Option<Work> {
        let workers = self.workers.clone();
        let queue = workers.queue(self.purpose);
        loop {
            let number = self.number?;
            if self.connection.is_none() {
                if !queue.connects(number) {
                    self.number = None;
                } else if self.connect().await.is_err() {
                    let Some(unservable) = queue.take_unservable(number) else {
                        self.number = None;
                        continue;
                    };
                    for work in unservable {
                        self.serve(work).await;
                        tokio::task::yield_now().await;
                    }
                }
                continue;
            }
            if self.gathers {
                // Those who have just had their answers ask again: one statement then carries all of them.
                tokio::task::yield_now().await;
            }
            match queue.take(number, &self.wake) {
                None if queue.is_closed() => return None,
                None => self.rest(queue, number).await,
                work => return work,
            }
        }
    }

    /// Without a database there is never a connection, and every call is told so.
    pub(crate) async fn connect(&mut self) -> Result<(), Failure> {
        let queue = self.workers.queue(self.purpose);
        let unanswered = self.number.and_then(|number| queue.unanswered(number));
        self.replaces_silent = unanswered.is_some();
        let connect = async {
            let database = self.workers.database().ok_or(Failure::NotConfigured)?;
            if self.purpose == Purpose::Write {
                tokio::time::sleep(database.liveness.pause(unanswered.unwrap_or(0))).await;
            }
            database.connect(queue.name(), unanswered.is_some()).await
        };
        self.connection = Some(connect.await.inspect_err(|failure| self.failure = failure.clone())?);
        Ok(())
    }

    /// Waits for work. Lets go of the connection if that ends, was not used for long enough, or is not to be trusted any
    /// more.
    async fn rest(&mut self, queue: &Queue, number: usize) {
        let (Some(connection), Some(database)) = (&mut self.connection, self.workers.database()) else {
            return;
        };
        let retires = tokio::select! {
            biased;
            // First: work must not meet a connection whose end can be known.
            () = connection.ended() => false,
            () = self.wake.notified() => false,
            () = tokio::time::sleep(database.idle) => queue.retires(number),
        };
        if retires {
            tracing::debug!(purpose = queue.name(), "an idle database connection is closed");
        }
        if retires || connection.is_suspect() {
            self.disconnect().await;
        }
        self.look_after_connection();
    }

    async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    /// Lets go of a connection that is lost.
    pub(crate) fn look_after_connection(&mut self) {
        let Some(connection) = &self.connection else { return };
        let queue = self.workers.queue(self.purpose);
        if self.replaces_silent
            && connection.has_answered()
            && let Some(number) = self.number
        {
            self.replaces_silent = false;
            queue.set_unanswered(number, None);
        }
        let Some(failure) = connection.lost() else { return };
        if let Some(number) = self.number {
            let before = queue.unanswered(number).map_or(0, |unanswered| unanswered.saturating_add(1));
            queue.set_unanswered(
                number,
                match failure {
                    Failure::Silent if !connection.has_answered() => Some(before),
                    Failure::Silent => Some(0),
                    _ => None,
                },
            );
        }
        if let Some(database) = self.workers.database() {
            database.lost(queue.name(), connection, failure);
        }
        self.connection = None;
        self.failure = Failure::Unavailable;
    }

    async fn serve(&mut self, work: Work) {
        match work {
            Work::Gets(gets) => self.gets(gets).await,
            Work::One(request) => request.run(self).await,
        }
    }

    /// Calls the guest. The outer error is the host's; with it comes what became of what was written.
    pub(crate) async fn call<R>(
        &mut self,
        call: impl AsyncFnOnce(&CimdCache, &mut Store<State>) -> wasmtime::Result<R>,
    ) -> (Result<R, Error>, Effect) {
        let mut instance = match self.instance().await {
            Ok(instance) => instance,
            Err(error) => return (Err(self.broken(&error)), Effect::None),
        };
        let loan = self.lend();
        let deadline = loan.deadline();
        let (answer, loan) = instance.call(loan, deadline, call).await;
        let effect = loan.map_or(Effect::Unknown, |loan| self.take_back(loan));
        let answer = answer.map_err(|error| {
            self.workers.discarded.fetch_add(1, Ordering::Relaxed);
            self.broken(&error)
        });
        if answer.is_ok() && instance.is_reusable() {
            self.instance = Some(instance);
        }
        (answer, effect)
    }

    async fn instance(&mut self) -> wasmtime::Result<Instance> {
        match (self.instance.take(), self.workers.sandbox()) {
            (Some(instance), _) => Ok(instance),
            (None, Some(sandbox)) => sandbox.instantiate().await,
            (None, None) => wasmtime::bail!("there is no component to call"),
        }
    }

    /// The connection, for one call.
    pub(crate) fn lend(&mut self) -> Loan {
        let connection = self.connection.take().ok_or_else(|| self.failure.clone());
        let deadline = Instant::now() + self.workers.deadline();
        Loan::new(self.workers.clone(), connection, self.purpose, deadline)
    }

    pub(crate) fn take_back(&mut self, loan: Loan) -> Effect {
        let (connection, effect) = loan.end();
        self.connection = connection;
        self.look_after_connection();
        effect
    }

    /// The guest did not answer, or not as it must.
    fn broken(&self, error: &wasmtime::Error) -> Error {
        let is_out_of_memory = sandbox::is_out_of_memory(error);
        let message = if is_out_of_memory {
            "there is no memory for another instance: raise this process's limit, or lower the number of connections"
        } else {
            "the component failed; its instance is discarded"
        };
        self.workers.log_broken(error, message);
        if is_out_of_memory {
            Error::Unavailable
        } else if error.is::<Overtime>() {
            Error::TimedOut
        } else {
            Error::Storage
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.workers.queue(self.purpose).left(number);
        }
    }
}
