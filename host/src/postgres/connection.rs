//! An open connection: one statement at a time.
//!
//! The task that waits for an answer also polls the socket, so no second task has to hand the answer over.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use cimd_cache_guest::statements;
use tokio::time::Instant;
use tokio_postgres::{Client, Statement as Prepared};

use super::connect::{Connected, Driver};
use super::database::Database;
use super::failure::Failure;
use super::values;
use crate::bindings::cimd::cache::sql::{Row, Value};

/// How often one statement is tried. A conflict between transactions passes quickly or not at all.
const TRIES: u32 = 4;

/// How long closing a connection may take: until then it counts as one of the server's.
const END_WITHIN: Duration = Duration::from_millis(250);

/// An open connection.
pub(crate) struct Connection {
    database: Arc<Database>,
    client: Client,
    driver: Driver,
    prepared: [Option<Prepared>; statements::ALL.len()],
    opened: Instant,
    /// When the server last answered, which it did when it was opened.
    last_answer: Instant,
    /// Whether it has answered a statement of a call, and whether it has lived long enough to say that
    /// connecting works.
    has_answered: bool,
    has_settled: bool,
    /// Whether the one in whose place it is was given up.
    replaces_silent: bool,
    /// The process of the server that serves it; of a pooler's, some process.
    process: i32,
    lost: Option<Failure>,
}

impl Connection {
    pub(super) fn new(database: Arc<Database>, connected: Connected, replaces_silent: bool) -> Self {
        let Connected { client, driver, process } = connected;
        let now = Instant::now();
        Self {
            database,
            client,
            driver,
            prepared: [const { None }; statements::ALL.len()],
            opened: now,
            last_answer: now,
            has_answered: false,
            has_settled: false,
            replaces_silent,
            process,
            lost: None,
        }
    }

    /// Why it cannot be used any more.
    pub(crate) fn lost(&self) -> Option<&Failure> {
        self.lost.as_ref()
    }

    /// Whether it must be replaced although it has not failed: another connection fell silent after this one
    /// last answered.
    pub(crate) fn is_suspect(&self) -> bool {
        self.database.liveness.is_suspect(self.last_answer)
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Whether it is in the place of one that was given up and has now answered: true once.
    pub(crate) fn has_recovered(&mut self) -> bool {
        let has_recovered = self.replaces_silent && self.has_answered;
        self.replaces_silent &= !has_recovered;
        has_recovered
    }

    pub(crate) fn process(&self) -> i32 {
        self.process
    }

    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// How long it may leave a statement without an answer.
    pub(crate) fn silence(&self) -> Duration {
        let liveness = &self.database.liveness;
        if self.replaces_silent && !self.has_answered { liveness.first_silence() } else { liveness.silence() }
    }

    /// Marks it as lost, unless it already is.
    pub(crate) fn lose(&mut self, failure: Failure) {
        self.lost.get_or_insert(failure);
    }

    /// Returns when the server ends it.
    pub(crate) async fn ended(&mut self) {
        // One that has ended already never says so again.
        if !self.client.is_closed() {
            (&mut self.driver).await;
        }
        self.lose(Failure::Unavailable);
    }

    /// Closes it in an orderly way: the server is told.
    pub(crate) async fn close(self) {
        let Self { client, driver, .. } = self;
        drop(client);
        let _ = tokio::time::timeout(END_WITHIN, driver).await;
    }

    /// Runs the statement that stands at `index` of the list, and again where it is known that it was not run
    /// or was rolled back. Not begun again after `deadline`.
    pub(crate) async fn run(
        &mut self,
        index: usize,
        parameters: &[Value],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        let (statement, database) = (statements::ALL[index], self.database.clone());
        for tried in 1.. {
            let named = database.prepares.is_used_for(statement);
            let failure = match self.run_once(index, parameters, named).await {
                Ok(rows) => return Ok(rows),
                Err(failure) => failure,
            };
            // The server reports either before it runs anything.
            let was_not_run = if named && failure.is_mixed_up() {
                database.prepares.give_up();
                true
            } else if failure.is_outdated_plan() {
                self.prepared[index] = None;
                true
            } else {
                if failure.ends_connection() {
                    self.lose(failure.clone());
                }
                false
            };
            let again = was_not_run || failure.may_retry(statement.purpose, tried);
            if tried == TRIES || !again || self.lost.is_some() {
                return Err(failure);
            }
            if failure.is_conflict() {
                let pause = Duration::from_millis(1 << tried).mul_f64(0.5 + fastrand::f64());
                if Instant::now() + pause >= deadline {
                    return Err(failure);
                }
                tokio::time::sleep(pause).await;
            }
        }
        unreachable!("the loop ends by returning")
    }

    async fn run_once(
        &mut self,
        index: usize,
        parameters: &[Value],
        named: bool,
    ) -> Result<Vec<Row>, Failure> {
        let Self { database, client, driver, prepared, .. } = self;
        let statement = statements::ALL[index];
        let parameters = parameters.iter().map(values::Parameter);
        database.counts.statements.fetch_add(1, Ordering::Relaxed);
        let answer = async {
            let rows = if named {
                let prepared = match &mut prepared[index] {
                    Some(prepared) => prepared,
                    none => {
                        database.counts.prepared.fetch_add(1, Ordering::Relaxed);
                        let sql = &*database.statements[index];
                        none.insert(client.prepare_typed(sql, &values::parameter_types(statement)).await?)
                    }
                };
                client.query_raw(&*prepared, parameters).await?
            } else {
                let sql = &*database.statements[index];
                client.query_typed_raw(sql, parameters.zip(values::parameter_types(statement))).await?
            };
            values::collect(statement, rows).await
        };
        let answer = drive(driver, answer).await;
        if !matches!(answer, Err(Failure::Connection(_))) {
            self.has_spoken();
        }
        answer
    }

    /// Runs a query on the host's own behalf, which only reads. If it takes longer than `patience`, it is
    /// given up together with the connection.
    pub(crate) async fn ask<T>(
        &mut self,
        patience: Duration,
        question: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Self { client, driver, .. } = self;
        let answer = tokio::time::timeout(patience, drive(driver, question(client))).await.ok();
        if answer.is_none() {
            self.lose(Failure::Silent);
        } else if self.client.is_closed() {
            self.lose(Failure::Unavailable);
        } else {
            self.has_spoken();
        }
        answer.unwrap_or(Err(Failure::TimedOut))
    }

    fn has_spoken(&mut self) {
        self.last_answer = Instant::now();
        self.has_answered = true;
        if !self.has_settled {
            self.has_settled = self.database.works(self.opened);
        }
    }
}

/// Polls the connection until there is an answer. When the driver ends, so does the wait: it fails all
/// pending answers.
async fn drive<T>(driver: &mut Driver, answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    std::future::poll_fn(|context| {
        if let Poll::Ready(answer) = answer.as_mut().poll(context) {
            return Poll::Ready(answer);
        }
        // Fused, it may be polled after its end.
        let _ = driver.as_mut().poll(context);
        // What it read may be the answer, and what it sent may let the question go on.
        answer.as_mut().poll(context)
    })
    .await
}
