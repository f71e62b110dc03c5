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
use crate::sandbox::{self, COMPONENT, Sandbox, Target};
use crate::schema::Schema;
use crate::sql::Sql;
use crate::workers::{Limits, Workers};

/// The longest deadline. The rules rely on no statement running for a minute, and the server's own time limit
/// follows from the deadline.
const LONGEST_DEADLINE: Duration = Duration::from_secs(30);

/// More than a Postgres server accepts.
const CONNECTIONS: RangeInclusive<usize> = 1..=1_000;

/// The most gets in one statement: 32 of the largest documents are a megabyte.
const LONGEST_BATCH: usize = 32;

/// For how long the near cache may keep a document: at most as long as a ticket is good.
const NEAR_TTL: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(TICKET_SECONDS.unsigned_abs());

/// Sets up a [`Cache`]; [`Cache::builder`] makes one. Every setting but the database URL has a default.
/// Without a database URL the cache answers every call with
/// [`Error::NotConfigured`](crate::Error::NotConfigured).
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
    target: Target,
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
            // Each takes up to a batch at once, so a few are enough; docs/benchmarks.md has the figures.
            read_connections: 3,
            // Puts wait for commits, and a Postgres server accepts 100 connections by default, for all nodes
            // together.
            write_connections: 16,
            batch: LONGEST_BATCH,
            waiting: 4_096,
            deadline: Duration::from_secs(2),
        };
        let settings = Settings {
            deadline: limits.deadline,
            // Longer than the pauses of a node in use, so that it keeps its connections; short enough that a
            // node which was busy once gives them back.
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
            target: Target::Machine,
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
    /// Where the database is: see [`DatabaseUrl`] for what it may contain. The role should be
    /// `cimd_cache_app`, or one that is a member of it and has the same time limits set.
    ///
    /// White space around it is ignored, because secrets often end with a line break. If nothing else is
    /// left, the cache is not configured.
    pub fn database_url(mut self, url: &str) -> Self {
        self.database_url = match url.parse() {
            Err(DatabaseUrlError::Empty) => None,
            parsed => Some(parsed),
        };
        self
    }

    /// The schema that holds the tables: `cimd_cache` by default. Caches in different schemas share nothing
    /// but the roles.
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = schema;
        self
    }

    /// How long a call may take in all, including the wait for a worker and a connection. 1 millisecond to 30
    /// seconds; 2 seconds by default. [`Cache::with_deadline`] sets a shorter one for individual calls.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.limits.deadline = deadline;
        self
    }

    /// The most connections for gets: 1 to 1,000, 3 by default. Each is opened when there is work for it, and
    /// serves up to
    /// [a batch](Self::max_batch) of gets at once.
    pub fn read_connections(mut self, connections: usize) -> Self {
        self.limits.read_connections = connections;
        self
    }

    /// The most connections for puts and deletes: 1 to 1,000, 16 by default. Each does one at a time, and
    /// waits for its commit.
    pub fn write_connections(mut self, connections: usize) -> Self {
        self.limits.write_connections = connections;
        self
    }

    /// The most gets in one statement: 1 to 32, 32 by default. With 1, each get has its own statement, which
    /// suits engines that store keys in different shards; then use more
    /// [connections](Self::read_connections), such as 16.
    pub fn max_batch(mut self, gets: usize) -> Self {
        self.limits.batch = gets;
        self
    }

    /// The most calls that wait for a connection, counted separately for gets and for puts and deletes: 1 to
    /// 1,000,000, 4,096 by default. A call beyond that, or one that could not be served before its deadline
    /// at the current pace, fails at once with [`Error::Unavailable`](crate::Error::Unavailable).
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.limits.waiting = calls;
        self
    }

    /// How long an unused connection stays open. At least 1 millisecond; 5 minutes by default.
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.settings.idle = idle;
        self
    }

    /// Whether to prepare statements in a [`schema`](Self::schema) of your own, which makes gets faster. In
    /// the schema `cimd_cache` they are always prepared. `true` asserts that there is no transaction pooler
    /// in between that cannot track prepared statements (such as pgbouncer before 1.21): behind one, the
    /// statements of two schemas could be mistaken for each other. `false` by default.
    pub fn prepare_statements(mut self, prepare: bool) -> Self {
        self.settings.prepare = prepare;
        self
    }

    /// How many calls an instance serves before it is replaced; at least 1, unlimited by default. 1 gives
    /// each call a fresh sandbox, and makes gets 1.4 to 3.5 times slower (docs/benchmarks.md).
    pub fn max_instance_reuse_count(mut self, calls: u32) -> Self {
        self.max_instance_reuse_count = calls;
        self
    }

    /// Turns the near cache on: documents stay in this process's memory for up to `ttl`, and gets that find
    /// them there ask nobody. It relaxes one guarantee: what another node puts or deletes can stay unseen for
    /// up to `ttl`. Expired documents are still never served, and puts and deletes through this cache still
    /// take effect at once. 1 millisecond to 10 minutes; off by default.
    pub fn near_ttl(mut self, ttl: Duration) -> Self {
        self.near_ttl = Some(ttl);
        self
    }

    /// The most bytes that the near cache holds: 64 KiB to 1 TiB, 32 MiB by default, which is some 30,000
    /// documents.
    pub fn near_bytes(mut self, bytes: usize) -> Self {
        self.near_bytes = bytes;
        self
    }

    /// Runs the component in wasmtime's interpreter (Pulley), for processes that may not make memory executable
    /// (systemd's `MemoryDenyWriteExecute=`, SELinux without `execmem`). Calls take longer; docs/benchmarks.md
    /// has the figures. `false` by default.
    #[cfg(feature = "interpreter")]
    pub fn interpret(mut self, interpret: bool) -> Self {
        self.target = if interpret { Target::Interpreter } else { Target::Machine };
        self
    }

    /// Another component of the world `cimd-cache`, in place of the built-in [`COMPONENT`]: for those who
    /// build, audit and pin the component themselves. A WebAssembly binary, never machine code.
    ///
    /// Whatever it does, it stays within the sandbox: a call ends by its deadline, an instance has at most 4
    /// MiB of memory, and only the [statements] of this crate reach the database. Within those limits the
    /// host trusts it: it can put and delete documents, and answer a get with any document. Do not run a
    /// component that you would not trust with the documents.
    ///
    /// [statements]: crate::statements
    /// [`COMPONENT`]: crate::COMPONENT
    pub fn component(mut self, binary: impl Into<Vec<u8>>) -> Self {
        self.component = Binary(Cow::Owned(binary.into()));
        self
    }

    /// Compiles the component, which takes tens of milliseconds. Connects to nothing yet: [`Cache::check`]
    /// says whether the database is there and in order.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a setting that cannot be used.
    pub fn build(self) -> Result<Cache, BuildError> {
        self.check()?;
        let sandbox =
            Sandbox::new(&self.component.0, self.target, self.max_instance_reuse_count).map_err(|error| {
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

    /// Sets up only the import `sql`, for a program that runs the component in its own wasmtime: see
    /// [`crate::sql`].
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
                "the deadline must be 1 millisecond to 30 seconds",
            ),
            (
                self.settings.idle >= Duration::from_millis(1),
                "the idle timeout must be at least 1 millisecond",
            ),
            (CONNECTIONS.contains(&limits.read_connections), "read_connections must be 1 to 1,000"),
            (CONNECTIONS.contains(&limits.write_connections), "write_connections must be 1 to 1,000"),
            ((1..=LONGEST_BATCH).contains(&limits.batch), "max_batch must be 1 to 32"),
            ((1..=1_000_000).contains(&limits.waiting), "max_waiting must be 1 to 1,000,000"),
            (
                self.near_ttl.is_none_or(|ttl| NEAR_TTL.contains(&ttl)),
                "near_ttl must be 1 millisecond to 10 minutes",
            ),
            ((64 << 10..=1 << 40).contains(&self.near_bytes), "near_bytes must be 64 KiB to 1 TiB"),
            (self.max_instance_reuse_count >= 1, "max_instance_reuse_count must be at least 1"),
        ] {
            if !in_range {
                return Err(BuildError::OutOfRange(text));
            }
        }
        Ok(())
    }
}
