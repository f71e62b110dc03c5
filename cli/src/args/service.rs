//! The arguments of the service and of its probe. Each has an environment variable; secrets come from files.

use std::path::PathBuf;

use cimd_cache_service::{Address, Listen, RoleError, Roles};
use clap::Args;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cimd-cache serve --listen unix:/run/cimd-cache/cache.sock --ops-listen tcp:127.0.0.1:9090\n  \
                  curl --unix-socket /run/cimd-cache/cache.sock 'http://localhost/v1/document?client_id=https%3A%2F%2Fc.example%2F'"
)]
pub(crate) struct Serve {
    /// Where to listen, and for which roles (read, write, admin; all if none is named): unix:/path[,ROLE...],
    /// tcp:IP:PORT[,ROLE...], or systemd:NAME[,ROLE...] for a socket that systemd passes on. May be given
    /// several times
    #[arg(long, value_name = "ADDRESS", env = "CIMD_CACHE_LISTEN", value_delimiter = ' ')]
    #[arg(default_value = "unix:/run/cimd-cache/cache.sock")]
    pub(crate) listen: Vec<Listen>,
    /// The mode of the Unix sockets, in octal
    #[arg(long, value_name = "MODE", env = "CIMD_CACHE_SOCKET_MODE", default_value = "660", value_parser = mode)]
    pub(crate) socket_mode: u32,
    /// The group of the Unix sockets, by number
    #[arg(long, value_name = "GID", env = "CIMD_CACHE_SOCKET_GROUP")]
    pub(crate) socket_group: Option<u32>,
    /// A file with the tokens of requests over TCP, one on each line, and their roles (all if none is named):
    /// FILE[,ROLE...]. May be given several times; it is read again when it changes
    #[arg(long, value_name = "FILE", env = "CIMD_CACHE_TOKEN_FILE", value_delimiter = ' ', value_parser = token_file)]
    pub(crate) token_file: Vec<(PathBuf, Roles)>,
    /// A Host that requests over TCP may name, beside the address that is listened on: name:port
    #[arg(long, value_name = "HOST", env = "CIMD_CACHE_HOST", value_delimiter = ' ')]
    pub(crate) host: Vec<String>,
    /// The certificate for TLS on the TCP ports, with those in between (PEM). Off loopback it is required. It
    /// is read again when it changes
    #[arg(long, value_name = "FILE", env = "CIMD_CACHE_TLS_CERT", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of the certificate (PEM)
    #[arg(long, value_name = "FILE", env = "CIMD_CACHE_TLS_KEY", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Clients must show a certificate that one of these has signed (PEM), and a token all the same
    #[arg(long, value_name = "FILE", env = "CIMD_CACHE_TLS_CLIENT_CA", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Where operators get health and metrics, in plain HTTP and without a token: /health/live,
    /// /health/ready, /health/database, /metrics
    #[arg(long, value_name = "ADDRESS", env = "CIMD_CACHE_OPS_LISTEN")]
    pub(crate) ops_listen: Option<Address>,
    /// How often to remove rows that no get can return any more; 0 leaves that to others
    #[arg(long, value_name = "MINUTES", env = "CIMD_CACHE_SWEEP_EVERY", default_value_t = 5)]
    pub(crate) sweep_every: u32,
    /// The longest a call may take
    #[arg(long, value_name = "MS", env = "CIMD_CACHE_DEADLINE_MS", default_value_t = 2_000)]
    pub(crate) deadline_ms: u64,
    /// Serve hits from memory for this long; 0 is off. What other nodes put or delete is unseen for as long
    #[arg(long, value_name = "MS", env = "CIMD_CACHE_NEAR_TTL_MS", default_value_t = 0)]
    pub(crate) near_ttl_ms: u64,
    /// The most memory for that
    #[arg(long, value_name = "BYTES", env = "CIMD_CACHE_NEAR_BYTES", default_value_t = 32 << 20)]
    pub(crate) near_bytes: usize,
    /// The most connections to the database for gets
    #[arg(long, value_name = "N", env = "CIMD_CACHE_READ_CONNECTIONS", default_value_t = 3)]
    pub(crate) read_connections: usize,
    /// The most connections to the database for puts and deletes
    #[arg(long, value_name = "N", env = "CIMD_CACHE_WRITE_CONNECTIONS", default_value_t = 16)]
    pub(crate) write_connections: usize,
    /// The most gets in one statement
    #[arg(long, value_name = "N", env = "CIMD_CACHE_MAX_BATCH", default_value_t = 32)]
    pub(crate) max_batch: usize,
    /// The most calls that wait for a connection to the database, of gets and of writes each
    #[arg(long, value_name = "N", env = "CIMD_CACHE_MAX_WAITING", default_value_t = 4_096)]
    pub(crate) max_waiting: usize,
    /// Prepare statements in a schema of your own, which asserts that no transaction pooler is in between
    /// that cannot track them
    #[arg(long, env = "CIMD_CACHE_PREPARE_STATEMENTS")]
    pub(crate) prepare_statements: bool,
    /// Run the component in an interpreter, where no memory may become executable. Calls take longer
    #[arg(long, env = "CIMD_CACHE_INTERPRET")]
    pub(crate) interpret: bool,
    /// The most connections of clients
    #[arg(long, value_name = "N", env = "CIMD_CACHE_MAX_CONNECTIONS", default_value_t = 1_024)]
    pub(crate) max_connections: u32,
    /// The longest to wait for calls in flight when it stops
    #[arg(long, value_name = "SECONDS", env = "CIMD_CACHE_DRAIN", default_value_t = 10)]
    pub(crate) drain: u16,
    /// Send traces to this OpenTelemetry collector, over HTTP: http://127.0.0.1:4318
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL", env = "CIMD_CACHE_OTLP_ENDPOINT")]
    pub(crate) otlp_endpoint: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cimd-cache health --ready --ops unix:/run/cimd-cache/ops.sock || exit 1")]
pub(crate) struct Health {
    /// The address that the service was given as --ops-listen
    #[arg(long, value_name = "ADDRESS", env = "CIMD_CACHE_OPS_LISTEN")]
    pub(crate) ops: Address,
    /// Ask whether it is ready for calls, and not only whether it lives
    #[arg(long)]
    pub(crate) ready: bool,
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
