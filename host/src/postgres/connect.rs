//! Opening a connection: TLS, login, and the settings that the statements rely on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::Either;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;
use tokio_postgres::config::{LoadBalanceHosts, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Failure;
use super::dial::{self, Endpoint, Heard, Socket, Target};
use super::password::Passwords;
use super::url::{DatabaseUrl, Tls};

/// Opens connections to one database.
pub(crate) struct Connector {
    config: Config,
    targets: Vec<Target>,
    tls: Option<MakeRustlsConnect>,
    passwords: Passwords,
}

/// A connection that is open.
pub(crate) struct Connected<C> {
    pub(crate) client: Client,
    /// The connection itself: it ends when the connection does, and has to be polled for the client to get answers.
    pub(crate) connection: C,
    pub(super) heard: Heard,
    pub(super) server: Server,
}

/// The server that a connection leads to.
#[derive(Clone, Debug)]
pub(super) struct Server {
    endpoint: Endpoint,
    /// What its certificate has to be for.
    name: String,
}

/// How long connecting may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// In all: the lookup of names, TLS and login included, over all hosts together.
    pub(crate) whole: Duration,
    /// Without hearing anything from a host.
    pub(crate) silence: Duration,
}

impl Connector {
    /// Reads the certificates to trust, if the URL asks for TLS. Connects to nothing yet.
    pub(crate) fn new(url: &DatabaseUrl) -> Result<Self> {
        let tls = match &url.tls {
            Tls::Off => None,
            Tls::Verified { roots } => Some(MakeRustlsConnect::new(client_config(roots.as_deref())?)),
        };
        let targets = dial::targets(&url.config).context("the database URL names no host")?;
        let (config, passwords) = (url.config.clone(), url.passwords.clone());
        Ok(Self { config, targets, tls, passwords })
    }

    /// Connects to the first address of the first host that will do, logs in and applies `settings`.
    pub(crate) async fn connect(
        &self,
        settings: &str,
        patience: Patience,
    ) -> Result<Connected<impl Future<Output = ()> + Send + use<>>, Failure> {
        let mut targets: Vec<_> = self.targets.iter().collect();
        if self.config.get_load_balance_hosts() == LoadBalanceHosts::Random {
            fastrand::shuffle(&mut targets);
        }
        let until = Instant::now() + patience.whole;
        let mut failure = Failure::Unavailable;
        for (number, target) in targets.iter().enumerate() {
            // One host that sends a byte now and then must not take the time of those after it.
            let each = share(until, targets.len() - number);
            let connected = self.connect_to(target, settings, Patience { whole: each, ..patience });
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
        settings: &str,
        patience: Patience,
    ) -> Result<Connected<impl Future<Output = ()> + Send + use<>>, Failure> {
        let until = Instant::now() + patience.whole;
        let config = self.config_for(target).await?;
        let mut endpoints = target.endpoints().await.map_err(|error| Failure::Dial(error.into()))?;
        if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
            fastrand::shuffle(&mut endpoints);
        }
        let mut failure = Failure::Unavailable;
        for (number, endpoint) in endpoints.iter().enumerate() {
            let each = share(until, endpoints.len() - number);
            // A server that accepts and will not do (a standby, say) is not the last of them.
            let connected = async {
                let socket = endpoint.dial(&config, patience.silence).await;
                let socket = socket.map_err(|error| Failure::Dial(error.into()))?;
                let heard = socket.heard();
                let login =
                    heard.watch(patience.silence, self.log_in(&config, socket, (target, endpoint), settings));
                login.await.unwrap_or(Err(Failure::Silent))
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
        config: &Config,
        socket: Socket,
        (target, endpoint): (&Target, &Endpoint),
        settings: &str,
    ) -> Result<Connected<impl Future<Output = ()> + Send + use<>>, Failure> {
        let heard = socket.heard();
        let (client, connection) = match self.tls.clone() {
            None => {
                let (client, connection) = config.connect_raw(socket, NoTls).await?;
                (client, Either::Left(connection))
            }
            Some(mut tls) => {
                let tls = MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, &target.name);
                let tls = tls.map_err(|_| Failure::Unavailable)?;
                let (client, connection) = config.connect_raw(socket, tls).await?;
                (client, Either::Right(connection))
            }
        };
        let mut connection = Box::pin(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "the database connection ended");
            }
        });
        {
            let prepare = std::pin::pin!(self.prepare(&client, settings));
            match futures_util::future::select(prepare, &mut connection).await {
                Either::Left((prepared, _)) => prepared?,
                Either::Right(((), _)) => return Err(Failure::Unavailable),
            }
        }
        let server = Server { endpoint: endpoint.clone(), name: target.name.clone() };
        Ok(Connected { client, connection, heard, server })
    }

    /// Asks the server to stop what a connection of ours is about, within `patience`. Nobody learns whether it does.
    pub(super) async fn cancel(&self, token: CancelToken, server: Server, patience: Duration) {
        let cancel = async {
            let socket = server.endpoint.dial(&self.config, patience).await.ok()?;
            match self.tls.clone() {
                None => token.cancel_query_raw(socket, NoTls).await.ok(),
                Some(mut tls) => {
                    let tls = MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, &server.name).ok()?;
                    token.cancel_query_raw(socket, tls).await.ok()
                }
            }
        };
        let _ = tokio::time::timeout(patience, cancel).await;
    }

    /// Applies the settings and asks whether the server takes writes, in one round trip.
    async fn prepare(&self, client: &Client, settings: &str) -> Result<(), Failure> {
        let answer = client.simple_query(&format!("{settings}; show transaction_read_only")).await?;
        let read_only = answer.iter().any(
            |message| matches!(message, SimpleQueryMessage::Row(row) if row.try_get(0).ok().flatten() == Some("on")),
        );
        match self.config.get_target_session_attrs() {
            TargetSessionAttrs::ReadWrite if read_only => Err(Failure::ReadOnly),
            TargetSessionAttrs::ReadOnly if !read_only => Err(Failure::NotReadOnly),
            _ => Ok(()),
        }
    }

    /// What to log in with, the password included as it is now. The file it may be in may be slow.
    async fn config_for(&self, target: &Target) -> Result<Config, Failure> {
        let (config, passwords, target) = (self.config.clone(), self.passwords.clone(), target.clone());
        let complete = move || passwords.complete(config, &target.host(), target.port);
        tokio::task::spawn_blocking(complete).await.map_err(|_| Failure::Unavailable)
    }
}

/// The time of each, if so many have to make do with what is left.
fn share(until: Instant, count: usize) -> Duration {
    until.saturating_duration_since(Instant::now()) / u32::try_from(count.max(1)).unwrap_or(u32::MAX)
}

fn client_config(roots: Option<&Path>) -> Result<ClientConfig> {
    let mut trusted = RootCertStore::empty();
    match roots {
        Some(file) => {
            let pem = || format!("cannot read the certificates of sslrootcert, {}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).with_context(pem)? {
                trusted.add(certificate.with_context(pem)?).with_context(pem)?;
            }
            ensure!(!trusted.is_empty(), "sslrootcert, {}, has no certificate", file.display());
        }
        None => {
            trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            ensure!(
                !trusted.is_empty(),
                "this system has no certificates to verify the database's with: install ca-certificates, or name a \
                 file with sslrootcert"
            );
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(trusted).with_no_client_auth())
}
