//! Opening a connection: TLS, login, and the settings that the statements rely on.

use std::pin::Pin;
use std::time::Duration;

use futures_util::future::{Either, FutureExt};
use tokio::time::Instant;
use tokio_postgres::config::LoadBalanceHosts;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::Failure;
use super::pgpass::Passwords;
use super::socket::Socket;
use super::target::Target;
use super::tls::{CertificateError, Certificates};
use super::url::{DatabaseUrl, Tls, Wanted};

/// Opens connections to one database.
pub(crate) struct Connector {
    config: Config,
    targets: Vec<Target>,
    wanted: Wanted,
    certificates: Option<Certificates>,
    passwords: Passwords,
}

/// What to log in with at this moment.
struct Login {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

/// The connection's own work, reading and writing. It ends when the connection does, once.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that is open.
pub(crate) struct Connected {
    pub(crate) client: Client,
    /// The connection itself. It must be polled for the client to get answers, and ends when the connection
    /// does.
    pub(crate) driver: Driver,
    /// The number of the server's process that serves it.
    pub(super) process: i32,
}

/// How long connecting may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectTimeouts {
    /// In all, over all hosts together, including name lookups, TLS and login.
    pub(crate) total: Duration,
    /// Without reading anything from a host.
    pub(crate) idle: Duration,
}

/// For callers in no hurry: migrations and the benchmark.
pub(crate) const LONG_TIMEOUTS: ConnectTimeouts =
    ConnectTimeouts { total: Duration::from_secs(10), idle: Duration::from_secs(10) };

impl Connector {
    /// Reads the certificates, if the URL asks for TLS. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// When the certificates cannot be used.
    pub(crate) fn new(url: &DatabaseUrl) -> Result<Self, CertificateError> {
        let certificates = match &url.tls {
            Tls::Off => None,
            Tls::Verified(verification) => Some(Certificates::new(verification)?),
        };
        let (config, passwords) = (url.config.clone(), url.passwords.clone());
        Ok(Self { config, targets: url.targets.clone(), wanted: url.wanted, certificates, passwords })
    }

    /// Connects to the first address of the first host that will do, logs in and applies `settings`.
    pub(crate) async fn connect(
        &self,
        settings: &str,
        timeouts: ConnectTimeouts,
    ) -> Result<Connected, Failure> {
        let mut targets: Vec<_> = self.targets.iter().collect();
        if self.config.get_load_balance_hosts() == LoadBalanceHosts::Random {
            fastrand::shuffle(&mut targets);
        }
        let wanted = match self.wanted {
            Wanted::PreferStandby => vec![Wanted::Standby, Wanted::Any],
            one => vec![one],
        };
        let tries: Vec<_> =
            wanted.iter().flat_map(|wanted| targets.iter().map(|target| (*target, *wanted))).collect();
        let until = Instant::now() + timeouts.total;
        let mut failure = Failure::Unavailable;
        for (number, &(target, wanted)) in tries.iter().enumerate() {
            // A host that sends a byte now and then must not use up the time of those after it.
            let each = share(until, tries.len() - number);
            let connected =
                self.connect_to(target, wanted, settings, ConnectTimeouts { total: each, ..timeouts });
            match tokio::time::timeout(each, connected).await.unwrap_or(Err(Failure::Silent)) {
                Ok(connected) => return Ok(connected),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn connect_to(
        &self,
        target: &Target,
        wanted: Wanted,
        settings: &str,
        timeouts: ConnectTimeouts,
    ) -> Result<Connected, Failure> {
        let until = Instant::now() + timeouts.total;
        let login = self.login_for(target).await?;
        let mut endpoints = target.endpoints().await.map_err(|error| Failure::Lookup(error.into()))?;
        if login.config.get_load_balance_hosts() == LoadBalanceHosts::Random {
            fastrand::shuffle(&mut endpoints);
        }
        // As in libpq, it is for each address and covers the login.
        let longest = login.config.get_connect_timeout().copied().unwrap_or(Duration::MAX);
        let mut failure = Failure::Unavailable;
        for (number, endpoint) in endpoints.iter().enumerate() {
            let each = share(until, endpoints.len() - number).min(longest);
            // A server that accepts and is not wanted (a standby, say) does not end the search.
            let connected = async {
                let socket = endpoint.open(&login.config, timeouts.idle).await;
                let socket = socket.map_err(|error| Failure::Socket(error.into()))?;
                let bytes_read = socket.bytes_read();
                let connected = self.log_in(&login, socket, target, (settings, wanted));
                bytes_read.watch(timeouts.idle, connected).await.unwrap_or(Err(Failure::Silent))
            };
            match tokio::time::timeout(each, connected).await.unwrap_or(Err(Failure::Silent)) {
                Ok(connected) => return Ok(connected),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn log_in(
        &self,
        login: &Login,
        socket: Socket,
        target: &Target,
        (settings, wanted): (&str, Wanted),
    ) -> Result<Connected, Failure> {
        let (client, connection) = match login.tls.clone() {
            None => {
                let (client, connection) = login.config.connect_raw(socket, NoTls).await?;
                (client, Either::Left(connection))
            }
            Some(mut tls) => {
                let tls = MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, &target.name);
                let tls = tls.map_err(|_| Failure::Unavailable)?;
                let connected = login.config.connect_raw(socket, tls).await;
                let (client, connection) = connected.map_err(|error| self.refusal(error))?;
                (client, Either::Right(connection))
            }
        };
        let driver = async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "the database connection ended");
            }
        };
        let mut driver: Driver = Box::pin(driver.fuse());
        let prepare = Box::pin(prepare(&client, settings, wanted));
        let process = match futures_util::future::select(prepare, &mut driver).await {
            Either::Left((process, _)) => process?,
            Either::Right(((), _)) => return Err(Failure::Unavailable),
        };
        Ok(Connected { client, driver, process })
    }

    /// Why a server refused the login. A refused certificate has the same code as other refusals.
    fn refusal(&self, error: tokio_postgres::Error) -> Failure {
        let shown = self.certificates.as_ref().is_some_and(Certificates::show_one);
        match Failure::from(error) {
            Failure::Database(error)
                if shown
                    && *error.code() == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
                    && error.routine() == Some("auth_failed") =>
            {
                Failure::ClientCertificate(error)
            }
            failure => failure,
        }
    }

    /// What to log in with, including the password and certificates as they are now. Reading their files may
    /// be slow.
    async fn login_for(&self, target: &Target) -> Result<Login, Failure> {
        let (config, passwords, target) = (self.config.clone(), self.passwords.clone(), target.clone());
        let complete = move || passwords.complete(config, &target.host(), target.port);
        let config = tokio::task::spawn_blocking(complete).await.map_err(|_| Failure::Unavailable)?;
        let tls = match &self.certificates {
            None => None,
            Some(certificates) => Some(certificates.now().await.map_err(Failure::Certificates)?),
        };
        Ok(Login { config, tls })
    }
}

/// Applies the settings, checks that the server is a wanted one, and reads its process number, in one round
/// trip.
async fn prepare(client: &Client, settings: &str, wanted: Wanted) -> Result<i32, Failure> {
    let ask = "select pg_catalog.current_setting('transaction_read_only'), pg_catalog.pg_is_in_recovery(), \
               pg_catalog.pg_backend_pid()";
    let answer = client.simple_query(&format!("{settings}; {ask}")).await?;
    let row = answer.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let column = |at| row.and_then(|row| row.try_get(at).ok()?).unwrap_or_default();
    let (read_only, standby) = (column(0) == "on", column(1) == "t");
    match wanted {
        Wanted::ReadWrite if read_only => Err(Failure::ReadOnly),
        Wanted::Primary if standby => Err(Failure::ReadOnly),
        Wanted::ReadOnly if !read_only => Err(Failure::NotReadOnly),
        Wanted::Standby if !standby => Err(Failure::NotReadOnly),
        _ => Ok(column(2).parse().unwrap_or_default()),
    }
}

/// An equal share of the time that is left, for this many attempts.
fn share(until: Instant, count: usize) -> Duration {
    until.saturating_duration_since(Instant::now()) / u32::try_from(count.max(1)).unwrap_or(u32::MAX)
}
