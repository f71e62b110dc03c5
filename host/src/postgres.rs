//! The import `sql` on Postgres: which statements pass, over which lane, and what is tried again.

mod connect;
mod dial;
mod failure;
mod gather;
mod lane;
mod password;
mod session;
mod tls;
mod url;
pub(crate) mod values;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use cimd_cache_guest::statements::{self, Purpose};
use tokio::time::Instant;
use tokio_postgres::Client;

use self::lane::{Destination, Done, Lane};
use self::session::Naming;
use crate::bindings::cimd::cache::sql::{Error, Row, Value};
use crate::schema::Schema;
use crate::throttle::Throttle;
use crate::turns::Turns;

pub(crate) use self::connect::{Connected, Connector, Patience};
pub(crate) use self::failure::{Failure, TlsFailure};
pub use self::url::{DatabaseUrl, DatabaseUrlError};

/// How often one statement is tried. A conflict between transactions passes quickly or not at all.
const TRIES: u32 = 4;

/// For how long, at the last look, a call waits to see whether a lane has caught up.
const LONGEST_LOOK: Duration = Duration::from_millis(32);

/// How many connections there may be, and how long anything may take.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) read_lanes: usize,
    pub(crate) write_lanes: usize,
    pub(crate) in_flight: usize,
    pub(crate) deadline: Duration,
    pub(crate) idle: Duration,
    /// Whether no pooler that mixes up prepared statements can be in between.
    pub(crate) direct: bool,
}

/// Who keeps the statements in flight within their number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Admitted {
    /// Whoever calls: of the calls that have an instance each sends one statement at a time.
    Already,
    /// The database itself, for callers of which it knows nothing.
    Here,
}

/// A database, by the lanes that lead to it.
pub(crate) struct Postgres {
    destination: Arc<Destination>,
    reads: Vec<Arc<Lane>>,
    writes: Vec<Arc<Lane>>,
    maintenance: Vec<Arc<Lane>>,
    turns: Turns,
    /// One for each statement: what goes wrong with one must not hide what goes wrong with another.
    told: [Throttle; statements::ALL.len()],
    told_of_refusal: Throttle,
    told_of_shedding: Throttle,
    in_flight: usize,
    shed: AtomicU64,
}

impl Postgres {
    /// Prepares the lanes. None connects before it is needed.
    pub(crate) fn new(url: &DatabaseUrl, schema: &Schema, limits: &Limits) -> Result<Self> {
        let destination = Arc::new(Destination {
            connector: Connector::new(url)?,
            settings: settings(limits.deadline),
            schema: schema.clone(),
            naming: Naming::new(limits.direct || *schema == Schema::default()),
            began: Instant::now(),
            silent_since: AtomicU64::new(0),
            patience: limits.deadline,
            idle: limits.idle,
        });
        let lanes = |purpose: &str, count| {
            let lane = |number| Arc::new(Lane::new(format!("{purpose} {number}"), destination.clone()));
            (1..=count).map(lane).collect()
        };
        Ok(Self {
            reads: lanes("reads", limits.read_lanes),
            writes: lanes("writes", limits.write_lanes),
            maintenance: lanes("maintenance", 1),
            turns: Turns::new(limits.in_flight),
            told: std::array::from_fn(|_| Throttle::new()),
            told_of_refusal: Throttle::new(),
            told_of_shedding: Throttle::new(),
            in_flight: limits.in_flight,
            shed: AtomicU64::new(0),
            destination,
        })
    }

    /// How many statements were not sent because too many others were under way.
    pub(crate) fn shed(&self) -> u64 {
        self.turns.shed() + self.shed.load(Ordering::Relaxed)
    }

    fn refuse(&self, lane: &Lane) {
        self.shed.fetch_add(1, Ordering::Relaxed);
        if let Some(held_back) = self.told_of_shedding.pass() {
            let (lane, unanswered) = (lane.name(), lane.backlog());
            tracing::warn!(
                lane,
                unanswered,
                held_back,
                "a call is shed: the server has not caught up with calls given up"
            );
        }
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.destination.schema
    }

    /// What has been done over all lanes so far.
    pub(crate) fn done(&self) -> Done {
        let lanes = [&self.reads, &self.writes, &self.maintenance].into_iter().flatten();
        lanes.map(|lane| lane.done()).fold(Done::default(), |all, lane| Done {
            connections: all.connections + lane.connections,
            prepared: all.prepared + lane.prepared,
            statements: all.statements + lane.statements,
        })
    }

    /// Runs a statement of the list, if it is one. `sql` is compared as text, byte by byte.
    pub(crate) async fn query(
        &self,
        sql: &str,
        parameters: &[Value],
        deadline: Instant,
        admitted: Admitted,
    ) -> Result<Vec<Row>, Error> {
        let Some(index) = statements::ALL.iter().position(|statement| statement.sql == sql) else {
            if let Some(held_back) = self.told_of_refusal.pass() {
                tracing::error!(held_back, "a statement that is not on the list was refused");
            }
            return Err(Error::NotAllowed);
        };
        let statement = statements::ALL[index];
        let result = match values::check_parameters(statement, parameters) {
            // What is ready at once is done before a timer is asked: a guest that does not stop at its deadline would
            // go on sending until the sandbox stops it.
            Ok(()) if Instant::now() >= deadline => Err(Failure::TimedOut),
            Ok(()) => self.run(index, parameters, deadline, admitted).await,
            Err(failure) => Err(failure),
        };
        result.map_err(|failure| {
            if let Some(held_back) = self.told[index].pass() {
                tracing::warn!(statement = statement.name, error = %failure, held_back, "a statement failed");
            }
            failure.into()
        })
    }

    async fn run(
        &self,
        index: usize,
        parameters: &[Value],
        deadline: Instant,
        admitted: Admitted,
    ) -> Result<Vec<Row>, Failure> {
        let purpose = statements::ALL[index].purpose;
        // Nothing is sent before this: waiting too long for a turn or a connection is `unavailable`.
        let _turn = match admitted {
            Admitted::Already => None,
            Admitted::Here => Some(self.turns.take(deadline).await.ok_or(Failure::Unavailable)?),
        };
        let lane = self.lane(purpose);
        let _entered = lane.enter();
        for tried in 1.. {
            let session = tokio::time::timeout_at(deadline, lane.session()).await;
            let session = session.unwrap_or(Err(Failure::Unavailable))?;
            // Statements whose callers gave up are not among the calls under way, and yet the server works on them. If nobody
            // waits there, this one goes through all the same: by its answer it is known what has been done.
            let mut pause = Duration::from_millis(1);
            while session.is_waited_for() && lane.backlog() >= self.in_flight {
                // That one's answer may be under way.
                if pause > LONGEST_LOOK || Instant::now() + pause >= deadline {
                    self.refuse(lane);
                    return Err(Failure::Unavailable);
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            let named = self.destination.naming.is_used_for(statements::ALL[index]);
            let failure = match session.run(index, parameters, deadline).await {
                Ok(rows) => return Ok(rows),
                Err(failure) => failure,
            };
            // The server reports either before it runs anything.
            let was_not_run = if named && failure.is_mixed_up() {
                self.destination.naming.give_up();
                true
            } else if failure.is_outdated_plan() {
                session.forget(index);
                true
            } else {
                lane.retire_after(&failure, &session);
                false
            };
            if tried == TRIES || !(was_not_run || failure.may_retry(purpose, tried)) {
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

    /// Asks something on the host's own behalf, over a connection as the gets have it.
    pub(crate) async fn ask<T>(
        &self,
        deadline: Instant,
        question: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let lane = self.lane(Purpose::Read);
        let session = tokio::time::timeout_at(deadline, lane.session()).await;
        let session = session.unwrap_or(Err(Failure::Unavailable))?;
        let answer = session.answer(deadline, question(session.client())).await;
        answer.inspect_err(|failure| lane.retire_after(failure, &session))
    }

    /// The least busy lane, and of equals the first, so that a quiet cache keeps few connections. While that one is
    /// being connected, the least busy of those that are.
    fn lane(&self, purpose: Purpose) -> &Arc<Lane> {
        let lanes = match purpose {
            Purpose::Read => &self.reads,
            Purpose::Write => &self.writes,
            Purpose::Maintenance => &self.maintenance,
        };
        let least_busy = lanes.iter().min_by_key(|lane| lane.load());
        let least_busy = least_busy.expect("the builder allows no purpose without a lane");
        if least_busy.open().is_ok() {
            return least_busy;
        }
        lanes.iter().filter(|lane| lane.is_open()).min_by_key(|lane| lane.load()).unwrap_or(least_busy)
    }
}

/// What every connection begins with. A pooler in transaction mode may apply it to another connection than it will use:
/// then those limits hold that are set on the role that logs in.
///
/// Citus passes times on to its workers as text in the session's style, of which only ISO always reads back as it was.
fn settings(deadline: Duration) -> String {
    let limit = statement_limit(deadline).as_millis();
    format!(
        "set statement_timeout = {limit}; set lock_timeout = {limit}; \
         set default_transaction_isolation = 'read committed'; set search_path = pg_catalog, pg_temp; \
         set datestyle = 'ISO'"
    )
}

/// How long the server may work on one statement: a little less than the deadline, so that it gives up before the call
/// does, and says so.
fn statement_limit(deadline: Duration) -> Duration {
    (deadline * 9 / 10).max(Duration::from_millis(1))
}
