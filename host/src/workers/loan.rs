//! A connection, lent to one call.
//!
//! The call may send statements of the list, with parameters of their types, until its deadline. Afterwards
//! the loan says what became of the connection and of what was written.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cimd_cache_guest::statements::{self, Purpose};
use tokio::time::Instant;

use super::shared::Shared;
use crate::bindings::cimd::cache::sql::{Error, Row, Value};
use crate::near_cache::Effect;
use crate::postgres::{ASK_AGAIN_AFTER, Connection, Failure, TRY_AGAIN_AFTER, values};
use crate::sandbox::Lent;

/// A connection for the length of a call, or the reason why there is none.
pub(crate) struct Loan {
    shared: Arc<Shared>,
    connection: Result<Connection, Failure>,
    /// Whose worker lends it.
    purpose: Purpose,
    deadline: Instant,
    /// What became of what was written: of several writes, the worst.
    effect: Effect,
}

impl Loan {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connection: Result<Connection, Failure>,
        purpose: Purpose,
        deadline: Instant,
    ) -> Self {
        Self { shared, connection, purpose, deadline, effect: Effect::None }
    }

    /// When the call must be over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Gives back the connection, with what became of what was written.
    pub(crate) fn end(self) -> (Option<Connection>, Effect) {
        (self.connection.ok(), self.effect)
    }

    /// Runs the statement that stands at `index` of the list.
    pub(crate) async fn run(&mut self, index: usize, parameters: &[Value]) -> Result<Vec<Row>, Error> {
        let result = match values::check_parameters(statements::ALL[index], parameters) {
            // A guest that does not stop at its deadline would go on sending until the sandbox stops it.
            Ok(()) if Instant::now() >= self.deadline => Err(Failure::TimedOut),
            Ok(()) => self.send(index, parameters).await,
            Err(failure) => Err(failure),
        };
        result.map_err(|failure| {
            self.shared.log_failed(index, &failure);
            failure.into()
        })
    }

    async fn send(&mut self, index: usize, parameters: &[Value]) -> Result<Vec<Row>, Failure> {
        let Self { shared, connection, purpose, deadline, effect } = self;
        let connection = connection.as_mut().map_err(|failure| failure.clone())?;
        if let Some(lost) = connection.lost() {
            return Err(lost.clone());
        }
        let writes = statements::ALL[index].purpose == Purpose::Write;
        let before = *effect;
        if writes {
            // Until it is known better.
            *effect = Effect::Unknown;
        }
        let (process, sent) = (connection.process(), Instant::now());
        let silent_at = sent + connection.silence();
        let answer = tokio::select! {
            biased;
            answer = connection.run(index, parameters, *deadline) => answer,
            () = given_up(shared, *purpose, process, silent_at) => {
                shared.gave_up(sent);
                connection.lose(Failure::Silent);
                Err(Failure::Silent)
            }
        };
        if writes {
            *effect = before.max(match &answer {
                Ok(_) => Effect::Done,
                // The server rolled it back, or it never left.
                Err(failure) if !failure.may_have_been_applied() => Effect::None,
                Err(_) => Effect::Unknown,
            });
        }
        answer
    }
}

impl Lent for Loan {
    /// `statement` is compared with those of the list as text, byte by byte.
    async fn query(&mut self, statement: &str, parameters: &[Value]) -> Result<Vec<Row>, Error> {
        let index = self.shared.index_of(statement)?;
        self.run(index, parameters).await
    }
}

/// Returns when it is no use to wait for a statement that was not answered by `silent_at`: the server says
/// that it is not working on it. See `postgres/liveness.rs`.
async fn given_up(shared: &Arc<Shared>, purpose: Purpose, process: i32, silent_at: Instant) {
    tokio::time::sleep_until(silent_at).await;
    let _silent = Silent::count(shared);
    let mut has_ended = false;
    loop {
        let at_work = shared.is_at_work(process, purpose).await;
        let pause = match at_work {
            Some(true) => ASK_AGAIN_AFTER,
            Some(false) if has_ended => return,
            // Its answer may be on the way.
            Some(false) => TRY_AGAIN_AFTER,
            // The connection that asks about the others must not wait for them. A cache that is closed asks
            // nobody.
            None if purpose == Purpose::Maintenance || shared.is_closed() => return,
            None => TRY_AGAIN_AFTER,
        };
        has_ended = at_work == Some(false);
        tokio::time::sleep(pause).await;
    }
}

/// One connection more on which an answer is overdue, until it is dropped.
struct Silent<'a>(&'a Shared);

impl<'a> Silent<'a> {
    fn count(shared: &'a Shared) -> Self {
        if let Some(database) = shared.database() {
            database.counts.silent.fetch_add(1, Ordering::Relaxed);
        }
        Self(shared)
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        if let Some(database) = self.0.database() {
            database.counts.silent.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
