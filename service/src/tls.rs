//! TLS of the TCP ports. The certificate and the key are read again when they change: they live for days, and
//! the service runs for months.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::watched::{Watched, is_open_to_others};

/// The files of TLS, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate of the service, and those in between to a root.
    pub certificate: PathBuf,
    /// Its key: PKCS#8, PKCS#1 or SEC1, not encrypted, and closed to others.
    pub key: PathBuf,
    /// Whoever connects must show a certificate that one of these has signed. None: nobody has to.
    pub client_ca: Option<PathBuf>,
}

/// Why the files of TLS cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("the file {} cannot be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Others can read the key.
    #[error("the key {} is open to others: chmod 600 shuts it", .0.display())]
    Open(PathBuf),
    /// There is no certificate in a file.
    #[error("the file {} has no certificate, or one that is none: it must be PEM", .0.display())]
    NoCertificate(PathBuf),
    /// There is no key in the file.
    #[error("the file {} has no private key: it must be PEM (PKCS#8, PKCS#1 or SEC1), not encrypted", .0.display())]
    NoKey(PathBuf),
    /// The key is another certificate's, or of a kind that is not known.
    #[error("the key {} is not that of the certificate {}, or of no kind that is known", .key.display(), .certificate.display())]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },
}

/// TLS as the files have it now.
#[derive(Debug)]
pub(crate) struct Tls(Watched<Arc<ServerConfig>>);

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// When one of them cannot be used.
    pub(crate) fn read(files: TlsFiles) -> Result<Self, TlsError> {
        let paths = [&files.certificate, &files.key].into_iter().chain(&files.client_ca).cloned().collect();
        Ok(Self(Watched::new(paths, move || config(&files))?))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.0.now().into()
    }
}

fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone());
    let config = config.with_safe_default_protocol_versions().expect("ring has ciphers for both versions");
    let config = match &files.client_ca {
        None => config.with_no_client_auth(),
        Some(path) => {
            let none = || TlsError::NoCertificate(path.clone());
            let mut roots = RootCertStore::empty();
            for certificate in certificates_in(path)? {
                roots.add(certificate).map_err(|_| none())?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            config.with_client_cert_verifier(verifier.build().map_err(|_| none())?)
        }
    };
    let chain = certificates_in(&files.certificate)?;
    // rustls' own message could repeat parts of the key.
    let mut config = config
        .with_single_cert(chain, key_in(&files.key)?)
        .map_err(|_| TlsError::Mismatch { key: files.key.clone(), certificate: files.certificate.clone() })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, pem::Error>>();
    let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
    certificates.ok_or_else(|| TlsError::NoCertificate(path.to_owned()))
}

fn key_in(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let unreadable = |cause| TlsError::Unreadable { path: path.to_owned(), cause };
    if is_open_to_others(path).map_err(unreadable)? {
        return Err(TlsError::Open(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| TlsError::NoKey(path.to_owned()))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|cause| TlsError::Unreadable { path: path.to_owned(), cause })
}
