//! What may be written on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cimd_cache::{Expiry, Schema, Ticket};
use cimd_cache_service::{Listen, RoleError, Roles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::outcome::STATUSES;

/// A shared cache for OAuth Client ID Metadata Documents, in Postgres.
#[derive(Debug, Parser)]
#[command(
    name = "cimd-cache",
    version,
    after_help = "Begin with `cimd-cache demo`: it needs nothing but Postgres' binaries on this machine.",
    after_long_help = STATUSES
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) database: Database,

    /// Log details to stderr, the database's own messages included
    #[arg(short, long, global = true)]
    pub(super) verbose: bool,

    /// How results are printed: for people, or as one JSON object on stdout
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A get prints the document; everything else goes to stderr
    #[value(alias = "metadata")]
    Text,
    /// One JSON object with the outcome, failures included
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Database {
    /// The database: postgres://user:password@host:port/database?options. Over a network it is encrypted and
    /// verified, unless it says sslmode=disable. Other users of a machine can read arguments: prefer the
    /// variable, or leave the password to PGPASSWORD or a password file
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(super) database_url: Option<String>,

    /// The schema with the cache's tables. Several caches in one database have one each
    #[arg(long, global = true, value_name = "NAME", default_value = "cimd_cache")]
    pub(super) schema: Schema,
}

impl Database {
    /// The URL, if there is one: a secret that was left empty is none.
    pub(super) fn url(&self) -> Option<&str> {
        self.database_url.as_deref().filter(|url| !url.trim().is_empty())
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the document of a client, if it is in the cache and fresh
    Get(Get),
    /// Store the document of a client, which you have validated
    Put(Put),
    /// Remove the document of a client
    Delete(Delete),
    /// Remove the documents of all clients
    #[command(after_help = "Example:\n  cimd-cache purge")]
    Purge,
    /// Check whether the database can be used: a readiness probe
    #[command(after_help = "Example:\n  cimd-cache check || exit 1")]
    Check,
    /// Remove rows that no get can return any more
    Sweep(Sweep),
    /// Bring the schema up to date, connected as its owner
    Migrate(Migrate),
    /// Write the WebAssembly component that this program carries, for other hosts
    Component(Component),
    /// Serve the cache over HTTP, for programs in any language
    Serve(Serve),
    /// Ask a running service whether it is up: a probe for images without a shell
    Health(Health),
    /// Show the cache at work, on a Postgres of its own that is thrown away
    #[command(after_help = "Example:\n  cimd-cache demo")]
    Demo,
    /// Print the completion script for a shell
    #[command(
        after_help = "Example:\n  cimd-cache completions bash > ~/.local/share/bash-completion/completions/cimd-cache"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page of this command, or of one of its commands
    #[command(after_help = "Examples:\n  cimd-cache man | man -l -\n  cimd-cache man get > cimd-cache-get.1")]
    Man {
        /// One of the commands, such as get
        subcommand: Option<String>,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cimd-cache get https://client.example.com/metadata.json --format json")]
pub(super) struct Get {
    /// The client's URL, byte for byte
    pub(super) client_id: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cimd-cache put https://client.example.com/metadata.json doc.json --expires-in 3600 \\\n    \
                  --ticket \"$TICKET\"\n\nThe ticket is what `get --format json` gave before the fetch. Without one the \
                  document counts as fetched now."
)]
pub(super) struct Put {
    /// The client's URL, byte for byte
    pub(super) client_id: String,
    /// The file with the document, or - for stdin
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) expiry: ExpiryArguments,
    /// The ticket of the get before the fetch: it keeps a slow fetch from replacing a newer document
    #[arg(long, value_parser = |text: &str| Ok::<_, std::convert::Infallible>(Ticket::from(text)))]
    pub(super) ticket: Option<Ticket>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct ExpiryArguments {
    /// How long it stays fresh, counted from the ticket or from now
    #[arg(long, value_name = "SECONDS")]
    expires_in: Option<u64>,
    /// When it expires, such as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "RFC3339", allow_negative_numbers = true)]
    #[arg(value_parser = |text: &str| OffsetDateTime::parse(text, &Rfc3339))]
    expires_at: Option<OffsetDateTime>,
}

impl ExpiryArguments {
    pub(super) fn expiry(&self) -> Expiry {
        match (self.expires_in, self.expires_at) {
            (Some(seconds), _) => Expiry::After(Duration::from_secs(seconds)),
            (None, at) => Expiry::At(at.map_or(SystemTime::UNIX_EPOCH, SystemTime::from)),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cimd-cache delete https://client.example.com/metadata.json")]
pub(super) struct Delete {
    /// The client's URL, byte for byte
    pub(super) client_id: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example, from cron on any node:\n  cimd-cache sweep")]
pub(super) struct Sweep {
    /// The most rows to remove; without it, all that can be removed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cimd-cache migrate --roles | psql \"$ADMIN_URL\"     # once in each database\n  \
                  cimd-cache --database-url \"$OWNER_URL\" migrate"
)]
pub(super) struct Migrate {
    /// Print the SQL with which an administrator creates the two roles, and do nothing else
    #[arg(long)]
    pub(super) roles: bool,
    /// The role that auth servers connect as, which is granted what they need. If a hosted database has only
    /// one role, name that one
    #[arg(long, value_name = "ROLE", default_value = "cimd_cache_app", conflicts_with = "roles")]
    pub(super) app_role: String,
    /// The most by which two clocks of the database may differ, up to 10: for distributed engines, where each
    /// node has its own clock. Without it the setting stays as it is
    #[arg(long, value_name = "SECONDS", value_parser = clock_tolerance, conflicts_with = "roles")]
    pub(super) clock_tolerance: Option<Duration>,
    /// Drop the cache's tables first, with all documents: for a schema of which only a part was restored
    #[arg(long, conflicts_with = "roles")]
    pub(super) recreate: bool,
    /// How long to wait for another migration, or for a lock on the tables
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30", conflicts_with = "roles")]
    pub(super) wait: Duration,
}

fn clock_tolerance(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|&time| time <= Duration::from_secs(10)).ok_or_else(|| "it must be 0 to 10".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let in_range = |time: &Duration| (Duration::from_millis(1)..=Duration::from_secs(600)).contains(time);
    seconds.filter(in_range).ok_or_else(|| "it must be 0.001 to 600".to_owned())
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cimd-cache component --output cimd-cache.wasm\n  cimd-cache component --statements"
)]
pub(super) struct Component {
    /// The file to write; without it, stdout
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Print the SQL statements that the component may send, as JSON, and do nothing else
    #[arg(long, conflicts_with = "output")]
    pub(super) statements: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cimd-cache serve --listen unix:/run/cimd-cache/cache.sock --ops-listen 127.0.0.1:9090\n  \
                  curl --unix-socket /run/cimd-cache/cache.sock 'http://localhost/v1/document?client_id=https%3A%2F%2Fc.example%2F'"
)]
pub(super) struct Serve {
    /// Where to listen, and for which roles (read, write, admin; all if none is named): unix:/path[,ROLE...]
    /// or tcp:127.0.0.1:PORT[,ROLE...]. May be given several times
    #[arg(long, value_name = "ADDRESS", env = "CIMD_CACHE_LISTEN", value_delimiter = ' ')]
    #[arg(default_value = "unix:/run/cimd-cache/cache.sock")]
    pub(super) listen: Vec<Listen>,
    /// The mode of the Unix sockets, in octal
    #[arg(long, value_name = "MODE", env = "CIMD_CACHE_SOCKET_MODE", default_value = "660", value_parser = mode)]
    pub(super) socket_mode: u32,
    /// The group of the Unix sockets, by number
    #[arg(long, value_name = "GID", env = "CIMD_CACHE_SOCKET_GROUP")]
    pub(super) socket_group: Option<u32>,
    /// A file with the tokens of requests over TCP, one on each line, and their roles (all if none is named):
    /// FILE[,ROLE...]. May be given several times; it is read again when it changes
    #[arg(long, value_name = "FILE", env = "CIMD_CACHE_TOKEN_FILE", value_delimiter = ' ', value_parser = token_file)]
    pub(super) token_file: Vec<(PathBuf, Roles)>,
    /// A Host that requests over TCP may name, beside the address that is listened on: name:port
    #[arg(long, value_name = "HOST", env = "CIMD_CACHE_HOST", value_delimiter = ' ')]
    pub(super) host: Vec<String>,
    /// Where operators get health and metrics, in plain HTTP and without a token: /health/live,
    /// /health/ready, /health/database, /metrics
    #[arg(long, value_name = "ADDRESS:PORT", env = "CIMD_CACHE_OPS_LISTEN")]
    pub(super) ops_listen: Option<SocketAddr>,
    /// How often to remove rows that no get can return any more; 0 leaves that to others
    #[arg(long, value_name = "MINUTES", env = "CIMD_CACHE_SWEEP_EVERY", default_value_t = 5)]
    pub(super) sweep_every: u32,
    /// The longest a call may take
    #[arg(long, value_name = "MS", env = "CIMD_CACHE_DEADLINE_MS", default_value_t = 2_000)]
    pub(super) deadline_ms: u64,
    /// Serve hits from memory for this long; 0 is off. What other nodes put or delete is unseen for as long
    #[arg(long, value_name = "MS", env = "CIMD_CACHE_NEAR_TTL_MS", default_value_t = 0)]
    pub(super) near_ttl_ms: u64,
    /// The most connections of clients
    #[arg(long, value_name = "N", env = "CIMD_CACHE_MAX_CONNECTIONS", default_value_t = 1_024)]
    pub(super) max_connections: u32,
    /// The longest to wait for calls in flight when it stops
    #[arg(long, value_name = "SECONDS", env = "CIMD_CACHE_DRAIN", default_value_t = 10)]
    pub(super) drain: u16,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cimd-cache health --ready --ops 127.0.0.1:9090 || exit 1")]
pub(super) struct Health {
    /// The address that the service was given as --ops-listen
    #[arg(long, value_name = "ADDRESS:PORT", env = "CIMD_CACHE_OPS_LISTEN")]
    pub(super) ops: SocketAddr,
    /// Ask whether it is ready for calls, and not only whether it lives
    #[arg(long)]
    pub(super) ready: bool,
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "it must be an octal mode, such as 660".to_owned())
}

fn token_file(text: &str) -> Result<(PathBuf, Roles), String> {
    let (file, roles) = match text.split_once(',') {
        Some((file, roles)) => (file, roles.parse().map_err(|error: RoleError| error.to_string())?),
        None => (text, Roles::ALL),
    };
    Ok((file.into(), roles))
}
