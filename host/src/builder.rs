//! How a cache is set up.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::Cache;
use crate::instances::Instances;
use crate::postgres::{DatabaseUrl, DatabaseUrlError, Limits, Postgres};
use crate::sql::Sql;

/// The longest deadline. The rules rely on no statement running for a minute, and the server's own time limit
/// follows from the deadline.
const LONGEST_DEADLINE: Duration = Duration::from_secs(30);

/// Sets up a [`Cache`]; [`Cache::builder`] makes one. Every setting has a default but the database URL, and without
/// that one the cache answers every call with [`Error::NotConfigured`](crate::Error::NotConfigured).
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    database_url: Option<Result<DatabaseUrl, DatabaseUrlError>>,
    limits: Limits,
    calls_per_instance: u32,
}

impl Default for Builder {
    fn default() -> Self {
        let limits = Limits {
            // A second lane only so that the loss of one connection is not felt by all.
            read_lanes: 2,
            // Durable commits on one connection wait for each other.
            write_lanes: 8,
            in_flight: 256,
            deadline: Duration::from_secs(2),
        };
        Self { database_url: None, limits, calls_per_instance: u32::MAX }
    }
}

/// Why a cache could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The database URL was not understood.
    #[error(transparent)]
    DatabaseUrl(#[from] DatabaseUrlError),
    /// The certificates for TLS could not be read.
    #[error("{0:#}")]
    Certificates(anyhow::Error),
    /// A setting is out of its range.
    #[error("{0}")]
    OutOfRange(&'static str),
    /// This machine cannot run the component.
    #[error("the component cannot be run on this machine: {0:#}")]
    Component(anyhow::Error),
}

impl Builder {
    /// Where the database is: see [`DatabaseUrl`] for what it may contain. The role should be `cimd_cache_app`, or one
    /// that is a member of it and has the same time limits set.
    pub fn database_url(mut self, url: &str) -> Self {
        self.database_url = Some(url.parse());
        self
    }

    /// How long a call may take in all: waiting for an instance, a connection and the database. 1 millisecond to 30
    /// seconds; 2 seconds by default. [`Cache::with_deadline`] sets another one for some calls.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.limits.deadline = deadline;
        self
    }

    /// How many connections gets share, at least 1. A few do best: queries on one connection overlap.
    pub fn read_lanes(mut self, lanes: usize) -> Self {
        self.limits.read_lanes = lanes;
        self
    }

    /// How many connections puts and deletes share, at least 1. On one connection each waits for the commit before it.
    pub fn write_lanes(mut self, lanes: usize) -> Self {
        self.limits.write_lanes = lanes;
        self
    }

    /// How many calls may be under way at once, each with an instance of its own: 1 to 10,000, 256 by default. More
    /// wait, and fail with [`Error::Unavailable`](crate::Error::Unavailable) at their deadline.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.limits.in_flight = calls;
        self
    }

    /// After how many calls an instance is replaced, at least 1. Unlimited by default; 1 gives every call a sandbox
    /// that no other call has been in, at a fifth of the throughput.
    pub fn calls_per_instance(mut self, calls: u32) -> Self {
        self.calls_per_instance = calls;
        self
    }

    /// Compiles the component and prepares the rest; takes tens of milliseconds. Connects to nothing yet: that the
    /// database is there and in order is what [`Cache::check`] tells.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a setting that cannot be used.
    pub fn build(self) -> Result<Cache, BuildError> {
        let sql = self.build_sql()?;
        let instances = Instances::new(sql.clone(), self.limits.in_flight, self.calls_per_instance)
            .map_err(|error| BuildError::Component(error.into()))?;
        Ok(Cache::new(sql, instances, self.limits.deadline))
    }

    /// Only the import `sql`, for a program that runs the component under its own wasmtime: see [`crate::sql`].
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a setting that cannot be used.
    pub fn build_sql(&self) -> Result<Sql, BuildError> {
        self.check()?;
        let postgres = match &self.database_url {
            None => None,
            Some(url) => {
                let url = url.as_ref().map_err(|error| *error)?;
                Some(Arc::new(Postgres::new(url, &self.limits).map_err(BuildError::Certificates)?))
            }
        };
        Ok(Sql::new(postgres, self.limits.deadline))
    }

    fn check(&self) -> Result<(), BuildError> {
        let limits = &self.limits;
        for (in_range, text) in [
            (
                (Duration::from_millis(1)..=LONGEST_DEADLINE).contains(&limits.deadline),
                "the deadline has to be 1 millisecond to 30 seconds",
            ),
            (limits.read_lanes >= 1, "there has to be at least 1 lane for reads"),
            (limits.write_lanes >= 1, "there has to be at least 1 lane for writes"),
            ((1..=10_000).contains(&limits.in_flight), "1 to 10,000 calls may be in flight"),
            (self.calls_per_instance >= 1, "an instance has to serve at least 1 call"),
        ] {
            if !in_range {
                return Err(BuildError::OutOfRange(text));
            }
        }
        Ok(())
    }
}
