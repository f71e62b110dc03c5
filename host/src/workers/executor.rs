//! What a worker owns: one connection and one instance of the component.
//!
//! It opens the connection, lends it to calls and takes it back, and replaces the instance after any call
//! that did not return. The calls themselves are in `calls.rs`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cimd_cache_guest::statements::Purpose;
use tokio::time::Instant;

use super::loan::Loan;
use super::shared::Shared;
use crate::bindings::CimdCache;
use crate::error::Error;
use crate::near_cache::Effect;
use crate::postgres::{self, Connection, Failure};
use crate::sandbox::{self, Instance, Overtime, Sandbox, Store};

pub(super) struct Executor {
    pub(super) shared: Arc<Shared>,
    /// None if only statements are run, for somebody else's instances.
    sandbox: Option<Arc<Sandbox<Loan>>>,
    pub(super) purpose: Purpose,
    /// Of the worker, among those of its purpose.
    pub(super) number: usize,
    pub(super) connection: Option<Connection>,
    /// Why there is no connection.
    pub(super) failure: Failure,
    instance: Option<Instance<Loan>>,
    /// Whether several gets came together lately: then tasks that are ready to ask go first, before a batch
    /// is taken.
    pub(super) gathers: bool,
}

impl Executor {
    pub(super) fn new(
        shared: Arc<Shared>,
        sandbox: Option<Arc<Sandbox<Loan>>>,
        purpose: Purpose,
        number: usize,
    ) -> Self {
        let (connection, failure) = (None, Failure::Unavailable);
        Self { shared, sandbox, purpose, number, connection, failure, instance: None, gathers: false }
    }

    /// Opens the connection. Without a database there is none, and every call fails.
    pub(super) async fn connect(&mut self) -> Result<(), Failure> {
        let queue = self.shared.queue(self.purpose);
        let unanswered = queue.unanswered(self.number);
        let connect = async {
            let database = self.shared.database().ok_or(Failure::NotConfigured)?;
            if self.purpose == Purpose::Write {
                tokio::time::sleep(database.liveness.pause(unanswered.unwrap_or(0))).await;
            }
            postgres::open(database, queue.name(), unanswered.is_some()).await
        };
        self.connection = Some(connect.await.inspect_err(|failure| self.failure = failure.clone())?);
        Ok(())
    }

    /// Closes the connection, if there is one.
    pub(super) async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    /// Drops the connection if it is lost, and notes why.
    pub(super) fn look_after_connection(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let queue = self.shared.queue(self.purpose);
        if connection.has_recovered() {
            queue.set_unanswered(self.number, None);
        }
        let Some(failure) = connection.lost() else { return };
        let before = queue.unanswered(self.number).map_or(0, |unanswered| unanswered.saturating_add(1));
        queue.set_unanswered(
            self.number,
            match failure {
                Failure::Silent if !connection.has_answered() => Some(before),
                Failure::Silent => Some(0),
                _ => None,
            },
        );
        if let Some(database) = self.shared.database() {
            database.lost(queue.name(), connection.opened(), failure);
        }
        self.connection = None;
        self.failure = Failure::Unavailable;
    }

    /// Calls the guest. The outer error is the host's; with it comes what became of what was written.
    pub(super) async fn call<R>(
        &mut self,
        call: impl AsyncFnOnce(&CimdCache, &mut Store<Loan>) -> wasmtime::Result<R>,
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
            self.shared.instances_discarded.fetch_add(1, Ordering::Relaxed);
            self.broken(&error)
        });
        if answer.is_ok() && instance.is_reusable() {
            self.instance = Some(instance);
        }
        (answer, effect)
    }

    async fn instance(&mut self) -> wasmtime::Result<Instance<Loan>> {
        match (self.instance.take(), &self.sandbox) {
            (Some(instance), _) => Ok(instance),
            (None, Some(sandbox)) => sandbox.instantiate().await,
            (None, None) => wasmtime::bail!("there is no component to call"),
        }
    }

    /// The connection, for one call.
    pub(super) fn lend(&mut self) -> Loan {
        let connection = self.connection.take().ok_or_else(|| self.failure.clone());
        let deadline = Instant::now() + self.shared.deadline();
        Loan::new(self.shared.clone(), connection, self.purpose, deadline)
    }

    pub(super) fn take_back(&mut self, loan: Loan) -> Effect {
        let (connection, effect) = loan.end();
        self.connection = connection;
        self.look_after_connection();
        effect
    }

    /// What the caller gets when the guest gave no answer, or not a valid one.
    fn broken(&self, error: &wasmtime::Error) -> Error {
        let is_out_of_memory = sandbox::is_out_of_memory(error);
        let message = if is_out_of_memory {
            "there is no memory for another instance: raise this process's limit, or lower the number of connections"
        } else {
            "the component failed; its instance is discarded"
        };
        self.shared.log_broken(error, message);
        if is_out_of_memory {
            Error::Unavailable
        } else if error.is::<Overtime>() {
            Error::TimedOut
        } else {
            Error::Storage
        }
    }
}
