//! TLS of the service's ports: required off loopback, renewed without a restart.

use std::path::Path;
use std::sync::Arc;

use cimd_cache_service::{Roles, ServeError, Settings, TlsFiles, serve};
use support::Database;
use support::http::Client;
use support::service::{Service, free_port, write_secret};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::{ENCODED, get};
use crate::transport::authority::{Authority, Identity, NAME};

const TOKEN: &str = "a-token-of-24-characters";

/// Files of TLS and of a token.
struct Files(TempDir);

impl Files {
    fn with(identity: &Identity) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("tokens", TOKEN);
        files.renew(identity);
        files
    }

    fn write(&self, name: &str, text: &str) {
        write_secret(&self.path(name), text);
    }

    fn renew(&self, identity: &Identity) {
        self.write("cert.pem", &identity.certificate_pem());
        self.write("key.pem", &identity.key_pem());
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn tls(&self, client_ca: Option<&Path>) -> TlsFiles {
        let client_ca = client_ca.map(Path::to_owned);
        TlsFiles { certificate: self.path("cert.pem"), key: self.path("key.pem"), client_ca }
    }

    /// A service on all addresses of this machine.
    async fn serve(&self, database: &Database, client_ca: Option<&Path>) -> (Service, u16) {
        let port = free_port().await.port();
        let service = Service::start_with(database, |mut settings| {
            settings.listen.push(format!("tcp:0.0.0.0:{port}").parse().unwrap());
            settings.token_files = vec![(self.path("tokens"), Roles::ALL)];
            settings.hosts = vec![NAME.to_owned()];
            settings.tls = Some(self.tls(client_ca));
            settings
        });
        (service.await, port)
    }
}

/// A call over TLS: its status, and the certificate that was shown.
async fn call(port: u16, trusted: &Authority, own: Option<Identity>) -> std::io::Result<(u16, Vec<u8>)> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.certificate()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some(own) => config.with_client_auth_cert(vec![own.certificate()], own.key()).unwrap(),
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(NAME.try_into().unwrap(), stream).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let mut client = Client::new(stream);
    let head = format!("Host: {NAME}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let answer = client.try_send(&format!("{} HTTP/1.1\r\n{head}", get(ENCODED))).await?;
    Ok((answer.status, shown))
}

#[tokio::test]
async fn a_certificate_is_renewed_and_half_a_renewal_changes_nothing() {
    let database = Database::new().await;
    let authority = Authority::new("authority");
    let (first, second) = (authority.issue(2100), authority.issue(2100));
    let files = Files::with(&first);
    let (service, port) = files.serve(&database, None).await;
    let shown = async || call(port, &authority, None).await.unwrap();
    assert_eq!(shown().await, (200, first.certificate().to_vec()));
    assert!(call(port, &Authority::new("another"), None).await.is_err());
    // The key of the second with the certificate of the first.
    files.write("key.pem", &second.key_pem());
    assert_eq!(shown().await, (200, first.certificate().to_vec()));
    files.renew(&second);
    while shown().await.1 != second.certificate().to_vec() {}
    // Nobody is served in plain text.
    let mut plain = Client::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    assert!(plain.try_call(&get(ENCODED), None).await.is_err());
    service.stop().await;
}

#[tokio::test]
async fn clients_may_have_to_show_a_certificate_too() {
    let database = Database::new().await;
    let (authority, of_clients) = (Authority::new("authority"), Authority::new("clients"));
    let files = Files::with(&authority.issue(2100));
    files.write("ca.pem", &of_clients.pem());
    let (service, port) = files.serve(&database, Some(&files.path("ca.pem"))).await;
    assert_eq!(call(port, &authority, Some(of_clients.issue_to_client("a"))).await.unwrap().0, 200);
    assert!(call(port, &authority, None).await.is_err());
    assert!(call(port, &authority, Some(authority.issue_to_client("a"))).await.is_err());
    service.stop().await;
}

#[tokio::test]
async fn without_tls_a_port_that_others_reach_is_refused_and_so_are_files_that_are_no_tls() {
    let database = Database::new().await;
    let authority = Authority::new("authority");
    let files = Files::with(&authority.issue(2100));
    let start = async |tls: Option<TlsFiles>| {
        let mut settings = Settings::default();
        settings.listen = vec!["tcp:0.0.0.0:0".parse().unwrap()];
        settings.token_files = vec![(files.path("tokens"), Roles::ALL)];
        settings.tls = tls;
        serve(database.node(), settings, || {}, async {}).await
    };
    assert!(matches!(start(None).await, Err(ServeError::NoTls(_))));
    start(Some(files.tls(None))).await.unwrap();
    for (name, text, sentence) in [
        ("key.pem", authority.issue(2100).key_pem(), "is not that of the certificate"),
        ("key.pem", "nonsense".to_owned(), "has no private key"),
        ("cert.pem", "nonsense".to_owned(), "has no certificate"),
    ] {
        let before = std::fs::read_to_string(files.path(name)).unwrap();
        files.write(name, &text);
        let error = start(Some(files.tls(None))).await.unwrap_err().to_string();
        assert!(error.contains(sentence) && !error.contains("nonsense"), "{error}");
        files.write(name, &before);
    }
}
