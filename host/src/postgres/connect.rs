//! Opening a connection: TLS, login, and the settings that the statements rely on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Failure;
use super::url::{DatabaseUrl, Tls};

/// Opens connections to one database.
pub(crate) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl Connector {
    /// Reads the certificates to trust, if the URL asks for TLS. Connects to nothing yet.
    pub(crate) fn new(url: &DatabaseUrl) -> Result<Self> {
        let tls = match &url.tls {
            Tls::Off => None,
            Tls::Verified { roots } => Some(MakeRustlsConnect::new(client_config(roots.as_deref())?)),
        };
        Ok(Self { config: url.config.clone(), tls })
    }

    /// Connects, logs in and applies `settings`, all within `within`. The future that comes with the client is the
    /// connection itself: it ends when the connection does, and has to be polled for the client to get answers.
    pub(crate) async fn connect(
        &self,
        settings: &str,
        within: Duration,
    ) -> Result<(Client, impl Future<Output = ()> + Send + use<>), Failure> {
        // tokio-postgres' own connect_timeout ends with the socket: TLS and login could take for ever.
        let connected = tokio::time::timeout(within, self.connect_and_set(settings)).await;
        connected.unwrap_or_else(|_| {
            tracing::warn!(?within, "connecting to the database took too long");
            Err(Failure::Unavailable)
        })
    }

    async fn connect_and_set(
        &self,
        settings: &str,
    ) -> Result<(Client, impl Future<Output = ()> + Send + use<>), Failure> {
        let (client, connection) = match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                (client, futures_util::future::Either::Left(connection))
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                (client, futures_util::future::Either::Right(connection))
            }
        };
        let mut connection = Box::pin(async move {
            if let Err(error) = connection.await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the database connection ended");
            }
        });
        {
            let settings = std::pin::pin!(client.batch_execute(settings));
            match futures_util::future::select(settings, &mut connection).await {
                futures_util::future::Either::Left((set, _)) => set?,
                futures_util::future::Either::Right(((), _)) => return Err(Failure::Unavailable),
            }
        }
        Ok((client, connection))
    }
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
