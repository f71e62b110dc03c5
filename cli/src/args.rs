//! What may be written on the command line.

mod service;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cimd_cache::{Expiry, Schema, Ticket};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(super) use self::service::{Health, Serve};
use crate::outcome::{Failed, STATUSES};

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

    /// A file with the database URL, as container platforms mount secrets
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL_FILE",
        value_name = "FILE",
        conflicts_with = "database_url"
    )]
    pub(super) database_url_file: Option<PathBuf>,

    /// The schema with the cache's tables. Several caches in one database have one each
    #[arg(long, global = true, value_name = "NAME", env = "CIMD_CACHE_SCHEMA", default_value = "cimd_cache")]
    pub(super) schema: Schema,
}

impl Database {
    /// The URL, if there is one: a secret that was left empty is none.
    pub(super) fn url(&self) -> Result<Option<String>, Failed> {
        let url = match &self.database_url_file {
            None => self.database_url.clone(),
            Some(file) => Some(std::fs::read_to_string(file).map_err(|error| {
                Failed::usage(format!("cannot read the database URL of {}: {}", file.display(), error.kind()))
            })?),
        };
        Ok(url.filter(|url| !url.trim().is_empty()))
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
