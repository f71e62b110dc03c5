//! Certificates: those to trust, and the client's own.
//!
//! Files are read for each connection, as libpq does: certificates that live for an hour are replaced while
//! the program runs for months.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::{Identity, Verification, Version};

/// Why the certificates of a database URL cannot be used. The text says which; its source, if there is one,
/// why.
#[derive(Clone, Debug)]
pub struct CertificateError(Arc<anyhow::Error>);

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for CertificateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl From<anyhow::Error> for CertificateError {
    fn from(error: anyhow::Error) -> Self {
        Self(Arc::new(error))
    }
}

/// What a connection is encrypted with.
pub(super) struct Certificates {
    verification: Verification,
    /// The system's, which are read once, because there are hundreds.
    system: Option<Arc<RootCertStore>>,
}

impl Certificates {
    /// Reads all files, so that what cannot be used is reported at once.
    pub(super) fn new(verification: &Verification) -> Result<Self, CertificateError> {
        let system = match verification.roots {
            Some(_) => None,
            None => Some(system_roots()?),
        };
        config(verification, system.clone())?;
        Ok(Self { verification: verification.clone(), system })
    }

    /// Reads them as they are now.
    pub(super) async fn now(&self) -> Result<MakeRustlsConnect, CertificateError> {
        let (verification, system) = (self.verification.clone(), self.system.clone());
        let read = tokio::task::spawn_blocking(move || config(&verification, system));
        Ok(MakeRustlsConnect::new(read.await.map_err(anyhow::Error::from)??))
    }

    /// Whether there is a client certificate for a server that asks for one.
    pub(super) fn show_one(&self) -> bool {
        self.verification.identity.is_some()
    }
}

fn config(verification: &Verification, system: Option<Arc<RootCertStore>>) -> Result<ClientConfig> {
    let trusted = match (&verification.roots, system) {
        (Some(file), _) => roots_of(file)?,
        (None, Some(system)) => system,
        (None, None) => system_roots()?,
    };
    let versions = match (verification.oldest, verification.newest) {
        (Version::Tls13, _) => &[&TLS13][..],
        (_, Version::Tls12) => &[&TLS12],
        _ => rustls::DEFAULT_VERSIONS,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let config = config.with_root_certificates(trusted);
    let Some(Identity { certificate, key }) = &verification.identity else {
        return Ok(config.with_no_client_auth());
    };
    let chain = certificates_in(certificate, "sslcert")?;
    // rustls' own message could repeat parts of the key.
    config.with_client_auth_cert(chain, key_in(key)?).map_err(|_| {
        anyhow!(
            "the key of sslkey, {}, is not that of the certificate of sslcert, or of no kind that is known",
            key.display()
        )
    })
}

fn system_roots() -> Result<Arc<RootCertStore>> {
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ensure!(
        !trusted.is_empty(),
        "this system has no certificates to verify the database's with: install ca-certificates, or name a file with \
         sslrootcert"
    );
    Ok(trusted.into())
}

fn roots_of(file: &Path) -> Result<Arc<RootCertStore>> {
    let mut trusted = RootCertStore::empty();
    for certificate in certificates_in(file, "sslrootcert")? {
        trusted
            .add(certificate)
            .with_context(|| format!("sslrootcert, {}, has a certificate that is none", file.display()))?;
    }
    Ok(trusted.into())
}

fn certificates_in(file: &Path, option: &str) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = || format!("cannot read the certificates of {option}, {}", file.display());
    let certificates = CertificateDer::pem_file_iter(file).with_context(unreadable)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().with_context(unreadable)?;
    ensure!(!certificates.is_empty(), "{option}, {}, has no certificate", file.display());
    Ok(certificates)
}

/// Reads a private key. By libpq's rule only the owner may be able to read the file; if that is root, its
/// group may too.
fn key_in(file: &Path) -> Result<PrivateKeyDer<'static>> {
    let name = || format!("sslkey, {}", file.display());
    let unreadable = || format!("cannot read the key of {}", name());
    // Checked before it is opened: opening a pipe would wait for its other end.
    ensure!(std::fs::metadata(file).with_context(unreadable)?.is_file(), "{} is not a plain file", name());
    let mut opened = File::open(file).with_context(unreadable)?;
    let metadata = opened.metadata().with_context(unreadable)?;
    let too_many = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    ensure!(
        metadata.mode() & too_many == 0,
        "{} is open to others than its owner: chmod 600 shuts it",
        name()
    );
    let mut pem = Vec::new();
    opened.read_to_end(&mut pem).with_context(unreadable)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => Ok(key),
        Err(_) if pem.windows(9).any(|word| word == b"ENCRYPTED") => {
            bail!("the key of {} is encrypted: decrypt it by `openssl pkey`", name())
        }
        // A parser's message could repeat parts of the key.
        Err(_) => bail!("{} has no private key (PEM: PKCS#8, PKCS#1 or SEC1)", name()),
    }
}
