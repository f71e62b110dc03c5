//! The life of the service: it listens, serves, and stops once every call that it accepted is answered.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cimd_cache::Cache;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::access::{Access, Network};
use crate::connections::{self, Serving};
use crate::health::Health;
use crate::listen::{self, Address, Listen, SocketAccess};
use crate::metrics::Metrics;
use crate::role::Roles;
use crate::tokens::{TokenError, Tokens};
use crate::{ops, router, sweeper};

/// The most connections of operators.
const OPERATORS: usize = 64;

/// How a service is set up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Where it listens, and for whom.
    pub listen: Vec<Listen>,
    /// Who may connect to its Unix sockets.
    pub socket: SocketAccess,
    /// Files with the tokens of requests over TCP, one to a line, with the roles of each file's.
    pub token_files: Vec<(PathBuf, Roles)>,
    /// What `Host` may be in requests over TCP. The addresses that are listened on are allowed in any case.
    pub hosts: Vec<String>,
    /// Where operators ask for health and metrics, in plain HTTP and without a token.
    pub ops_listen: Option<SocketAddr>,
    /// How often rows are removed that no get can return any more. None: somebody else does that.
    pub sweep_every: Option<Duration>,
    /// The most connections of clients; 1,024 by default. One beyond them is closed at once.
    pub max_connections: usize,
    /// The longest that calls in flight are waited for when the service stops; 10 seconds by default.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            socket: SocketAccess::default(),
            token_files: Vec::new(),
            hosts: Vec::new(),
            ops_listen: None,
            sweep_every: None,
            max_connections: 1_024,
            drain: Duration::from_secs(10),
        }
    }
}

/// Why a service cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// There is no place to listen.
    #[error("there is no address to listen on: give --listen")]
    Nowhere,
    /// A port without a token.
    #[error(
        "{0} needs a token, because every user of the machine can connect to it: give --token-file, or listen on a Unix socket"
    )]
    NoToken(Address),
    /// A port that others can reach.
    #[error(
        "{0} is not a loopback address, and this version has no TLS: listen on a loopback address or a Unix socket, and let a proxy end TLS"
    )]
    NoTls(Address),
    /// A file of tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: Address,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// Serves a cache until `stop` is ready. Then it accepts no more connections, answers the calls in flight,
/// and closes the cache. `listening` is called once it accepts connections.
///
/// # Errors
///
/// [`ServeError`], before anybody was served.
pub async fn serve(
    cache: Cache,
    settings: Settings,
    listening: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    if settings.listen.is_empty() {
        return Err(ServeError::Nowhere);
    }
    for listen in &settings.listen {
        if let Address::Tcp(address) = listen.address {
            if !address.ip().is_loopback() {
                return Err(ServeError::NoTls(listen.address.clone()));
            }
            if settings.token_files.is_empty() {
                return Err(ServeError::NoToken(listen.address.clone()));
            }
        }
    }
    let tokens = Arc::new(Tokens::read(settings.token_files)?);
    let (stopped, stopping) = watch::channel(false);
    let (metrics, health) = (Metrics::new(), Health::new(stopping.clone()));
    let room = Arc::new(Semaphore::new(settings.max_connections));
    let calls = router::counted(cache.clone(), &metrics, Some(&health));
    let mut listeners = Vec::new();
    for listen in settings.listen {
        let bound = listen::bind(&listen.address, settings.socket).await;
        let listener =
            bound.map_err(|cause| ServeError::Listen { address: listen.address.clone(), cause })?;
        let network = matches!(listen.address, Address::Tcp(_)).then(|| {
            let own = listener.tcp_address().map(|address| address.to_string());
            let hosts = settings.hosts.iter().cloned().chain(own).collect();
            Network { tokens: tokens.clone(), hosts }
        });
        tracing::info!(address = %listen.address, roles = %listen.roles, "listening");
        let access = Some(Access { roles: listen.roles, network });
        listeners.push((listener, calls.clone(), access, room.clone()));
    }
    if let Some(address) = settings.ops_listen {
        let address = Address::Tcp(address);
        let bound = listen::bind(&address, settings.socket).await;
        let listener = bound.map_err(|cause| ServeError::Listen { address: address.clone(), cause })?;
        let router = ops::router(cache.clone(), metrics.clone(), health.clone());
        // Room of its own: operators must get in when clients have taken all of theirs.
        listeners.push((listener, router, None, Arc::new(Semaphore::new(OPERATORS))));
    }
    let mut tasks = JoinSet::new();
    for (listener, router, access, room) in listeners {
        let (metrics, stopping) = (metrics.clone(), stopping.clone());
        tasks.spawn(connections::serve(listener, Serving { router, access, metrics, room, stopping }));
    }
    tasks.spawn(health.watch(cache.clone()));
    if let Some(every) = settings.sweep_every {
        tasks.spawn(sweeper::sweep(cache.clone(), every, metrics, stopping));
    }
    listening();
    stop.await;
    tracing::info!("stopping");
    let _ = stopped.send(true);
    let drained = tokio::time::timeout(settings.drain, async { while tasks.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!("calls in flight took longer than the drain allows");
    }
    cache.close().await;
    Ok(())
}
