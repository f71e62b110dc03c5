//! The life of the service: it listens, serves, and stops once every call that it accepted is answered.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cimd_cache::Cache;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::access::{Access, Network};
use crate::address::{Address, Listen};
use crate::connections::{self, Room, Serving};
use crate::health::Health;
use crate::listen::{Inherited, Listener, SocketAccess, bind};
use crate::metrics::Metrics;
use crate::role::Roles;
use crate::tls::{Tls, TlsError, TlsFiles};
use crate::tokens::{TokenError, Tokens};
use crate::{ops, router, sweeper};

/// The most connections of operators.
const OPERATORS: usize = 64;

/// How long operators' last questions may take when the service ends.
const OPERATORS_WITHIN: Duration = Duration::from_secs(1);

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
    /// TLS of the TCP ports. Off loopback it is required.
    pub tls: Option<TlsFiles>,
    /// Where operators ask for health and metrics, in plain HTTP and without a token.
    pub ops_listen: Option<Address>,
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
            tls: None,
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
        "{0} is not a loopback address, so it needs TLS: give --tls-cert and --tls-key, or listen on a loopback address or a Unix socket"
    )]
    NoTls(Address),
    /// A file of tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// A file of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
    let (stopped, stopping) = watch::channel(false);
    let (ended, ending) = watch::channel(false);
    let (metrics, health) = (Metrics::new(), Health::new(stopping.clone()));
    let mut inherited = Inherited::take();
    let calls = router::observed(cache.clone(), Some((&metrics, &health)));
    let doors = Doors::of(&settings)?;
    let room = Room { places: Arc::new(Semaphore::new(settings.max_connections)), counts: metrics.clients() };
    let mut listeners = Vec::new();
    for listen in &settings.listen {
        let listener = open(&listen.address, settings.socket, &mut inherited).await?;
        let (access, tls) = doors.to(listen, &listener)?;
        let serving = Serving {
            router: calls.clone(),
            access: Some(access),
            tls,
            room: room.clone(),
            stopping: stopping.clone(),
        };
        listeners.push((listener, serving));
    }
    // Operators see the end, too: not ready, while the calls in flight are answered.
    let operators = match &settings.ops_listen {
        None => None,
        Some(address) => {
            let places = Arc::new(Semaphore::new(OPERATORS));
            let serving = Serving {
                router: ops::router(cache.clone(), metrics.clone(), health.clone()),
                access: None,
                tls: None,
                room: Room { places, counts: metrics.operators() },
                stopping: ending,
            };
            let listener = open(address, settings.socket, &mut inherited).await?;
            Some(tokio::spawn(connections::serve(listener, serving)))
        }
    };
    let mut tasks = JoinSet::new();
    for (listener, serving) in listeners {
        tasks.spawn(connections::serve(listener, serving));
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
    let _ = ended.send(true);
    if let Some(operators) = operators {
        // One who is slow is not waited for.
        let _ = tokio::time::timeout(OPERATORS_WITHIN, operators).await;
    }
    Ok(())
}

async fn open(
    address: &Address,
    access: SocketAccess,
    inherited: &mut Inherited,
) -> Result<Listener, ServeError> {
    let failed = |cause| ServeError::Listen { address: address.clone(), cause };
    bind(address, access, inherited).await.map_err(failed)
}

/// What is demanded of whoever comes in over TCP.
struct Doors {
    tokens: Option<Arc<Tokens>>,
    hosts: Vec<String>,
    tls: Option<Arc<Tls>>,
}

impl Doors {
    fn of(settings: &Settings) -> Result<Self, ServeError> {
        let tokens = match &settings.token_files[..] {
            [] => None,
            files => Some(Arc::new(Tokens::read(files.to_vec())?)),
        };
        let tls = settings.tls.clone().map(Tls::read).transpose()?.map(Arc::new);
        Ok(Self { tokens, hosts: settings.hosts.clone(), tls })
    }

    /// How a listener is guarded. It is asked for its address, because systemd may have opened it.
    fn to(&self, listen: &Listen, listener: &Listener) -> Result<(Access, Option<Arc<Tls>>), ServeError> {
        let Some(address) = listener.tcp_address() else {
            tracing::info!(address = %listen.address, roles = %listen.roles, "listening");
            return Ok((Access { roles: listen.roles, network: None }, None));
        };
        if self.tls.is_none() && !address.ip().is_loopback() {
            return Err(ServeError::NoTls(listen.address.clone()));
        }
        let tokens = self.tokens.clone().ok_or_else(|| ServeError::NoToken(listen.address.clone()))?;
        let hosts = self.hosts.iter().cloned().chain([address.to_string()]).collect();
        tracing::info!(address = %address, roles = %listen.roles, tls = self.tls.is_some(), "listening");
        Ok((Access { roles: listen.roles, network: Some(Network { tokens, hosts }) }, self.tls.clone()))
    }
}
