//! The import `sql` on Postgres: which statements pass, over which lane, and what is tried again.

mod connect;
mod gather;
mod lane;
mod url;
pub(crate) mod values;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cimd_cache_guest::statements::{self, Purpose};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use self::lane::{Destination, Done, Lane};
use crate::bindings::cimd::cache::sql::{Error, Row, Value};
use crate::schema::Schema;

pub(crate) use self::connect::Connector;
pub use self::url::{DatabaseUrl, DatabaseUrlError};

/// How often one statement is tried. A conflict between transactions passes quickly or not at all.
const TRIES: u32 = 4;

/// How many connections there may be, and how long anything may take.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) read_lanes: usize,
    pub(crate) write_lanes: usize,
    pub(crate) in_flight: usize,
    pub(crate) deadline: Duration,
    pub(crate) idle: Duration,
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
    in_flight: Semaphore,
}

impl Postgres {
    /// Prepares the lanes. None connects before it is needed.
    pub(crate) fn new(url: &DatabaseUrl, schema: &Schema, limits: &Limits) -> Result<Self> {
        let destination = Arc::new(Destination {
            connector: Connector::new(url)?,
            settings: settings(limits.deadline),
            schema: schema.clone(),
            patience: limits.deadline,
            idle: limits.idle,
        });
        let lanes = |count| {
            let lane = || Arc::new(Lane::new(destination.clone()));
            std::iter::repeat_with(lane).take(count).collect()
        };
        Ok(Self {
            reads: lanes(limits.read_lanes),
            writes: lanes(limits.write_lanes),
            maintenance: lanes(1),
            in_flight: Semaphore::new(limits.in_flight),
            destination,
        })
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
            tracing::error!("a statement that is not on the list was refused");
            return Err(Error::NotAllowed);
        };
        let statement = statements::ALL[index];
        let result = match values::check_parameters(statement, parameters) {
            Ok(()) => self.run(index, parameters, deadline, admitted).await,
            Err(failure) => Err(failure),
        };
        result.map_err(|failure| {
            tracing::warn!(statement = statement.name, error = %failure, "a statement failed");
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
            Admitted::Here => {
                let turn = tokio::time::timeout_at(deadline, self.in_flight.acquire()).await;
                Some(turn.map_err(|_| Failure::Unavailable)?.map_err(|_| Failure::Unavailable)?)
            }
        };
        let lane = self.lane(purpose);
        let _entered = lane.enter();
        for tried in 1.. {
            let session = tokio::time::timeout_at(deadline, lane.session()).await;
            let session = session.unwrap_or(Err(Failure::Unavailable))?;
            let failure = match session.run(index, parameters, deadline).await {
                Ok(rows) => return Ok(rows),
                Err(failure) => failure,
            };
            lane.retire_after(&failure, &session);
            if tried == TRIES || !failure.may_retry(purpose, tried) {
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

    /// The least busy lane, and of equals the first, so that a quiet cache keeps few connections.
    fn lane(&self, purpose: Purpose) -> &Arc<Lane> {
        let lanes = match purpose {
            Purpose::Read => &self.reads,
            Purpose::Write => &self.writes,
            Purpose::Maintenance => &self.maintenance,
        };
        lanes.iter().min_by_key(|lane| lane.calls()).expect("the builder allows no purpose without a lane")
    }
}

/// What every connection begins with. A pooler in transaction mode may apply it to another connection than it will
/// use: then those limits hold that are set on the role that logs in.
fn settings(deadline: Duration) -> String {
    // A little less, so that the server gives up before the call does, and says so.
    let limit = (deadline.as_millis() * 9 / 10).max(1);
    format!(
        "set statement_timeout = {limit}; set lock_timeout = {limit}; \
         set default_transaction_isolation = 'read committed'"
    )
}

/// Why a statement gave no rows, with what the operator's log needs.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the parameters are not those of the statement")]
    NotAllowed,
    #[error("a parameter or the result is too large")]
    TooLarge,
    #[error("no connection")]
    Unavailable,
    #[error("no answer in time")]
    TimedOut,
    #[error("{}: {}", .0.code().code(), .0.message())]
    Database(Arc<tokio_postgres::error::DbError>),
    #[error("the connection failed: {}", with_causes(.0))]
    Connection(Arc<tokio_postgres::Error>),
}

impl Failure {
    /// The server's code, if the server said anything.
    pub(crate) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Database(error) => Some(error.code()),
            _ => None,
        }
    }

    fn in_class(&self, class: &str) -> bool {
        self.code().is_some_and(|code| code.code().starts_with(class))
    }

    /// Whether the server was reached and takes no writes.
    pub(crate) fn is_read_only(&self) -> bool {
        let Self::Connection(error) = self else { return false };
        let cause =
            std::error::Error::source(&**error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
        // tokio-postgres makes this error up; one of the system has a number.
        cause.is_some_and(|cause| {
            cause.kind() == std::io::ErrorKind::PermissionDenied && cause.raw_os_error().is_none()
        })
    }

    /// Whether two transactions were in each other's way, and this one was rolled back.
    fn is_conflict(&self) -> bool {
        matches!(self.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED))
    }

    /// Whether a prepared statement no longer fits the server: the table was altered, or a pooler changed sides.
    /// The server reports it before it runs anything.
    fn is_outdated_plan(&self) -> bool {
        matches!(self.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED | &SqlState::INVALID_SQL_STATEMENT_NAME))
    }

    /// Whether the connection cannot be used any more.
    fn ends_connection(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Unavailable => true,
            // 25006: it leads to a standby.
            Self::Database(_) => {
                self.is_outdated_plan()
                    || self.in_class("08")
                    || self.in_class("57P")
                    || self.in_class("25006")
            }
            Self::NotAllowed | Self::TooLarge | Self::TimedOut => false,
        }
    }

    /// Whether the statement may be sent once more: if the server said that it rolled it back, or if it only reads.
    fn may_retry(&self, purpose: Purpose, tried: u32) -> bool {
        self.is_conflict()
            || (self.is_outdated_plan() && tried == 1)
            || (purpose == Purpose::Read
                && (matches!(self, Self::Connection(_)) || self.in_class("08") || self.in_class("57P0")))
    }
}

/// An error with what caused it: tokio-postgres says only that the TLS handshake failed, its source why.
fn with_causes(error: &tokio_postgres::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(server) => Self::Database(Arc::new(server.clone())),
            None => Self::Connection(Arc::new(error)),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotAllowed => Self::NotAllowed,
            Failure::TooLarge => Self::TooLarge,
            Failure::Unavailable | Failure::Connection(_) => Self::Unavailable,
            Failure::TimedOut => Self::TimedOut,
            Failure::Database(error) => Self::Database(error.code().code().to_owned()),
        }
    }
}
