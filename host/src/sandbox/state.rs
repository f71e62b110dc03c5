//! What belongs to an instance: the database that it is lent, its deadline, its limits.

use std::time::Duration;

use tokio::time::Instant;
use wasmtime::{ResourceLimiter, StoreLimits, UpdateDeadline};

use crate::bindings::cimd::cache::sql::{Error, Row, Value};

/// How often a guest that computes is interrupted to check its deadline.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// How many ticks a guest may run without yielding, and how many more after its deadline: thousands of times
/// what an answer takes.
const TICKS_TO_SPARE: u32 = 2;

/// A database that an instance is lent for the length of a call.
pub(crate) trait Lent: Send + 'static {
    /// Runs one statement, if it is one that may be run.
    fn query(
        &mut self,
        statement: &str,
        parameters: &[Value],
    ) -> impl Future<Output = Result<Vec<Row>, Error>> + Send;
}

/// What an instance has in its store.
pub(crate) struct State<L> {
    loan: Option<L>,
    /// When the call must be over, except for a wait for the database that began before.
    deadline: Instant,
    limits: StoreLimits,
    ticks: u32,
    overtime: u32,
}

impl<L> State<L> {
    pub(super) fn new(deadline: Instant, limits: StoreLimits) -> Self {
        Self { loan: None, deadline, limits, ticks: 0, overtime: 0 }
    }

    /// A call begins, with a database to use until it ends.
    pub(super) fn begin(&mut self, loan: L, deadline: Instant) {
        self.loan = Some(loan);
        (self.deadline, self.ticks, self.overtime) = (deadline, 0, 0);
    }

    /// The call has ended.
    pub(super) fn end(&mut self) -> Option<L> {
        self.loan.take()
    }

    /// None while no call is in flight: an instance that is only just being made has no database.
    pub(super) fn lent(&mut self) -> Option<&mut L> {
        self.loan.as_mut()
    }

    pub(super) fn limits(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.limits
    }

    /// Decides what a guest does after a tick. The first ticks are ignored: they usually passed while it
    /// waited for the database, and yielding would move the task to another thread, which costs more than the
    /// call. A guest that goes on computing yields at every further tick, until its deadline. After that it
    /// has a few more ticks, because it is probably about to return a typed error; then it is stopped. No
    /// timer is needed: a guest that waits, waits for its import, which ends at the deadline.
    pub(super) fn at_tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        if Instant::now() < self.deadline {
            self.ticks += 1;
            if self.ticks <= TICKS_TO_SPARE {
                return Ok(UpdateDeadline::Continue(1));
            }
            // tokio's yield, because after wasmtime's a single-threaded runtime would poll for I/O only at
            // every 61st tick.
            return Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())));
        }
        self.overtime += 1;
        if self.overtime > TICKS_TO_SPARE { Err(Overtime.into()) } else { Ok(UpdateDeadline::Continue(1)) }
    }
}

/// A guest that went on after its deadline.
#[derive(Debug, thiserror::Error)]
#[error("the guest did not answer by the deadline")]
pub(crate) struct Overtime;
