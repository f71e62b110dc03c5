//! How a cache is set up.

mod error;

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

use cimd_cache_guest::limits::TICKET_SECONDS;
use cimd_cache_guest::statements;

pub use self::error::BuildError;
use crate::cache::Cache;
use crate::near_cache::{self, NearCache};
use crate::postgres::{Database, DatabaseUrl, DatabaseUrlError, Settings};
use crate::sandbox::{self, COMPONENT, Sandbox};
use crate::schema::Schema;
use crate::sql::Sql;
use crate::workers::{Limits, Workers};

/// The longest deadline. The rules rely on no statement running for a minute, and the server's own time limit
/// follows from the deadline.
const LONGEST_DEADLINE: Duration = Duration::from_secs(30);

/// More than a Postgres has.
const CONNECTIONS: RangeInclusive<usize> = 1..=1_000;

/// The most gets that travel together: so many of the largest documents are a megabyte.
const LONGEST_BATCH: usize = 32;

/// For how long the near cache may keep a document: at most as long as a ticket is good.
const NEAR_TTL: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(TICKET_SECONDS.unsigned_abs());

/// Sets up a [`Cache`]; [`Cache::builder`] makes one. Every setting has a default but the database URL, and without
/// that one the cache answers every call with [`Error::NotConfigured`](crate::Error::NotConfigured).
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    database_url: Option<Result<DatabaseUrl, DatabaseUrlError>>,
    schema: Schema,
    limits: Limits,
    settings: Settings,
    max_instance_reuse_count: u32,
    near_ttl: Option<Duration>,
    near_bytes: usize,
    component: Binary,
}

/// A component.
#[derive(Clone)]
struct Binary(Cow<'static, [u8]>);

impl std::fmt::Debug for Binary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Default for Builder {
    fn default() -> Self {
        let limits = Limits {
            // Each takes up to a batch at once, so that few are enough; the figures are in docs/benchmarks.md.
            read_connections: 3,
            // A commit is what puts wait for, and a Postgres has 100 connections for all nodes as it comes.
            write_connections: 16,
            batch: LONGEST_BATCH,
            waiting: 4_096,
            deadline: Duration::from_secs(2),
        };
        let settings = Settings {
            deadline: limits.deadline,
            // Long beside the pauses of a node that is in use, short beside the life of one that was busy once.
            idle: Duration::from_secs(300),
            prepare: false,
        };
        Self {
            database_url: None,
            schema: Schema::default(),
            limits,
            settings,
            max_instance_reuse_count: u32::MAX,
            near_ttl: None,
            near_bytes: 32 << 20,
            component: Binary(COMPONENT.into()),
        }
    }
}

impl Cache {
    /// Begins to set up a cache.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Builder {
    /// Where the database is: see [`DatabaseUrl`] for what it may contain. The role should be `cimd_cache_app`, or one
    /// that is a member of it and has the same time limits set.
    ///
    /// White space around it is left out, for secrets come with a line break; without anything else it is no URL, and the
    /// cache not configured.
    pub fn database_url(mut self, url: &str) -> Self {
        self.database_url = match url.parse() {
            Err(DatabaseUrlError::Empty) => None,
            parsed => Some(parsed),
        };
        self
    }

    /// In which schema of the database the tables are: `cimd_cache` by default. Caches in different schemas have nothing
    /// in common but the roles.
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = schema;
        self
    }

    /// How long a call may take in all: waiting for a worker, a connection and the database. 1 millisecond to 30
    /// seconds; 2 seconds by default. [`Cache::with_deadline`] sets another one for some calls.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.limits.deadline = deadline;
        self
    }

    /// The most connections for gets: 1 to 1,000, 3 by default. Each is opened when there is work for it, and takes up to
    /// [a batch](Self::max_batch) of gets at once.
    pub fn read_connections(mut self, connections: usize) -> Self {
        self.limits.read_connections = connections;
        self
    }

    /// The most connections for puts and deletes: 1 to 1,000, 16 by default. Each does one at a time, and waits for its
    /// commit.
    pub fn write_connections(mut self, connections: usize) -> Self {
        self.limits.write_connections = connections;
        self
    }

    /// The most gets that are asked in one statement: 1 to 32, 32 by default. With 1 each has a statement of its own, for
    /// engines on which many keys are many shards; give it more [connections](Self::read_connections) then, 16 say.
    pub fn max_batch(mut self, gets: usize) -> Self {
        self.limits.batch = gets;
        self
    }

    /// The most calls that wait for a connection, of gets and of puts and deletes each: 1 to 1,000,000, 4,096 by default.
    /// One that comes after those, or that could not be served by its deadline, going by how long others lately took,
    /// fails at once with [`Error::Unavailable`](crate::Error::Unavailable).
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.limits.waiting = calls;
        self
    }

    /// After how long without a call a connection is closed; it is opened again when there is work for it. At least 1
    /// millisecond; 5 minutes by default.
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.settings.idle = idle;
        self
    }

    /// Whether statements are prepared in a [`schema`](Self::schema) of one's own too, which makes gets faster. `true` asserts
    /// that there is no pooler in between that hands each transaction another connection and does not track prepared
    /// statements (pgbouncer before 1.21, in transaction mode): behind such a one, the statements of two schemas could be
    /// run for each other. `false` by default; in the schema `cimd_cache` they are prepared anyway.
    pub fn prepare_statements(mut self, prepare: bool) -> Self {
        self.settings.prepare = prepare;
        self
    }

    /// After how many calls an instance is replaced, at least 1. Unlimited by default; 1 gives every call a sandbox
    /// that no other call has been in, and makes gets 1.4 to 3.5 times slower (docs/benchmarks.md).
    pub fn max_instance_reuse_count(mut self, calls: u32) -> Self {
        self.max_instance_reuse_count = calls;
        self
    }

    /// Turns the near cache on: documents stay in this process's memory, and a get that finds one there asks nobody. What
    /// another node puts or deletes then stays unseen for up to `ttl`; all else is as without it: an expired document is
    /// not served, and a put or delete through this cache takes effect at once. 1 millisecond to 10 minutes; off by
    /// default.
    pub fn near_ttl(mut self, ttl: Duration) -> Self {
        self.near_ttl = Some(ttl);
        self
    }

    /// The most that the near cache keeps, in bytes: 64 KiB to 1 TiB, 32 MiB by default, which is some 30,000 documents.
    pub fn near_bytes(mut self, bytes: usize) -> Self {
        self.near_bytes = bytes;
        self
    }

    /// Another component of the world `cimd-cache`, in place of the one compiled in, which is [`COMPONENT`]: for those who
    /// build, audit and pin the component themselves. A binary, never machine code.
    ///
    /// Whatever it does, it stays within the sandbox: a call ends by its deadline, an instance has 4 MiB of memory, and
    /// only the [statements] of this crate reach the database. Within that its word counts: it may put
    /// and delete documents, and answer a get with any. Give no component that you would not trust with the documents.
    ///
    /// [statements]: crate::statements
    /// [`COMPONENT`]: crate::COMPONENT
    pub fn component(mut self, binary: impl Into<Vec<u8>>) -> Self {
        self.component = Binary(Cow::Owned(binary.into()));
        self
    }

    /// Compiles the component and prepares the rest; takes tens of milliseconds. Connects to nothing yet: that the
    /// database is there and in order is what [`Cache::check`] tells.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a setting that cannot be used.
    pub fn build(self) -> Result<Cache, BuildError> {
        self.check()?;
        let sandbox = Sandbox::new(&self.component.0, self.max_instance_reuse_count).map_err(|error| {
            if sandbox::is_out_of_memory(&error) {
                BuildError::OutOfMemory
            } else if sandbox::is_denied(&error) {
                BuildError::NotExecutable
            } else {
                BuildError::Component(error.into())
            }
        })?;
        let near =
            self.near_ttl.map(|ttl| NearCache::new(near_cache::Settings { ttl, bytes: self.near_bytes }));
        let workers = Workers::new(self.database()?, Some(sandbox), near, self.limits);
        Ok(Cache::new(workers, self.schema))
    }

    /// Only the import `sql`, for a program that runs the component under its own wasmtime: see [`crate::sql`].
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a setting that cannot be used.
    pub fn build_sql(&self) -> Result<Sql, BuildError> {
        self.check()?;
        Ok(Sql::new(Workers::new(self.database()?, None, None, self.limits)))
    }

    fn database(&self) -> Result<Option<Database>, BuildError> {
        let Some(url) = &self.database_url else { return Ok(None) };
        let url = url.as_ref().map_err(Clone::clone)?;
        let settings = Settings {
            deadline: self.limits.deadline,
            prepare: self.settings.prepare || self.schema == Schema::default(),
            ..self.settings.clone()
        };
        let statements = statements::ALL.map(|statement| self.schema.qualify(statement.sql));
        Ok(Some(Database::new(url, statements, &settings)?))
    }

    fn check(&self) -> Result<(), BuildError> {
        let limits = &self.limits;
        for (in_range, text) in [
            (
                (Duration::from_millis(1)..=LONGEST_DEADLINE).contains(&limits.deadline),
                "the deadline has to be 1 millisecond to 30 seconds",
            ),
            (
                self.settings.idle >= Duration::from_millis(1),
                "the idle timeout has to be at least 1 millisecond",
            ),
            (CONNECTIONS.contains(&limits.read_connections), "1 to 1,000 connections may be for gets"),
            (
                CONNECTIONS.contains(&limits.write_connections),
                "1 to 1,000 connections may be for puts and deletes",
            ),
            ((1..=LONGEST_BATCH).contains(&limits.batch), "1 to 32 gets may be asked at once"),
            ((1..=1_000_000).contains(&limits.waiting), "1 to 1,000,000 calls may wait"),
            (
                self.near_ttl.is_none_or(|ttl| NEAR_TTL.contains(&ttl)),
                "the near cache's time to live has to be 1 millisecond to 10 minutes",
            ),
            ((64 << 10..=1 << 40).contains(&self.near_bytes), "the near cache may keep 64 KiB to 1 TiB"),
            (self.max_instance_reuse_count >= 1, "an instance has to serve at least 1 call"),
        ] {
            if !in_range {
                return Err(BuildError::OutOfRange(text));
            }
        }
        Ok(())
    }
}
