//! What may be written on the benchmark's command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::load::Workload;

/// Measure the cache against native code and others, on this machine and database.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  cimd-cache-bench
  cimd-cache-bench --rows 1000000 --expired 100000 --workload get --callers 1,64

\
                  Without --database-url it runs on a Postgres of its own. With it, in a schema of its own that it drops \
                  in the end; connect as cimd_cache_owner, or as another role that may create one, on a database whose \
                  roles are there (`cimd-cache migrate --roles`)."
)]
pub(super) struct Arguments {
    /// The database: postgres://user:password@host:port/database?options. Other users of a machine can read
    /// arguments: prefer the variable, or leave the password to PGPASSWORD or a password file
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,

    /// How many documents there are
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(super) rows: u64,
    /// How many expired ones are among them, which are swept in the end while gets go on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) expired: u64,
    /// The calls to measure
    #[arg(long, value_enum, value_delimiter = ',', default_value = "get,put,mix")]
    pub(super) workload: Vec<Workload>,
    /// How many callers at once
    #[arg(long, value_delimiter = ',', value_name = "N,...", default_value = "1,16,64,256")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) callers: Vec<u16>,
    /// The baselines to compare with
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "pipelined,pool,batched,fresh,interpreted,near,socket,tcp,near-socket"
    )]
    pub(super) against: Vec<Baseline>,
    /// Against Redis too, which should hold nothing else: redis://host:port
    #[arg(long, value_name = "URL")]
    pub(super) redis: Option<String>,
    /// How many rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(super) rounds: u16,
    /// How long each contender runs in a round
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    pub(super) seconds: Duration,
    /// How long the near cache keeps a document, where it is on
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) near_ttl: Duration,
    /// How many connections the cache has for gets; by default as always
    #[arg(long, value_name = "N")]
    pub(super) read_connections: Option<usize>,
    /// The same for puts
    #[arg(long, value_name = "N")]
    pub(super) write_connections: Option<usize>,
    /// How many gets the cache asks in one statement at most; by default as always
    #[arg(long, value_name = "N")]
    pub(super) max_batch: Option<usize>,
    /// A file for the results as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
}

/// Whom the cache is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Baseline {
    /// Native tokio-postgres on 4 connections for gets and 8 for puts, on which calls overlap
    Pipelined,
    /// Native tokio-postgres with a pool of 16 connections, one call at a time on each
    Pool,
    /// Native tokio-postgres whose gets travel together, over 3 connections, as the cache's do; its puts go
    /// over a pool of 16
    Batched,
    /// The cache with an instance for each call
    Fresh,
    /// The cache with the component in wasmtime's interpreter
    Interpreted,
    /// The cache with the near cache
    Near,
    /// The cache behind a service on a Unix socket
    Socket,
    /// The cache behind a service on a TCP port, with a token
    Tcp,
    /// The cache with the near cache, behind a service on a Unix socket
    NearSocket,
}

impl Arguments {
    /// The URL, if there is one: a secret that was left empty is none.
    pub(super) fn url(&self) -> Option<&str> {
        self.database_url.as_deref().filter(|url| !url.trim().is_empty())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let in_range = |time: &Duration| (Duration::from_millis(1)..=Duration::from_secs(600)).contains(time);
    seconds.filter(in_range).ok_or_else(|| "it must be 0.001 to 600".to_owned())
}
