//! A machine on the way between the cache and the server.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::authority::{Authority, NAME};

/// How a client asks whether a server encrypts (PostgreSQL documentation, 55.2.10).
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

#[derive(Clone, Copy)]
pub(crate) enum Behaviour {
    /// Answers the question whether to encrypt with these bytes, and nothing else.
    Answers(&'static [u8]),
    /// Encrypts, and answers a login with these bytes.
    Greets(&'static [u8]),
    /// Encrypts, and passes on to a server's port in plaintext.
    PassesOnPlain(u16),
    /// Encrypts, and passes on to a server's port encrypted again.
    PassesOnEncrypted(u16),
}

pub(crate) struct Middle {
    pub(crate) port: u16,
    heard: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Middle {
    /// A machine that has a certificate by `authority` for the server's name.
    pub(crate) async fn start(authority: Arc<Authority>, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (authority, sender) = (authority.clone(), sender.clone());
                tokio::spawn(async move { sender.send(serve(client, &authority, behaviour).await) });
            }
        });
        Self { port, heard }
    }

    /// What its next connection that has ended received, decrypted if possible.
    pub(crate) async fn heard(&mut self) -> Vec<u8> {
        self.heard.recv().await.unwrap()
    }
}

async fn serve(mut client: TcpStream, authority: &Authority, behaviour: Behaviour) -> Vec<u8> {
    let mut request = [0; 8];
    client.read_exact(&mut request).await.unwrap();
    assert_eq!(request, SSL_REQUEST);
    if let Behaviour::Answers(answer) = behaviour {
        client.write_all(answer).await.unwrap();
        return rest(client).await;
    }
    client.write_all(b"S").await.unwrap();
    let mut client = acceptor(authority).accept(client).await.unwrap();
    match behaviour {
        Behaviour::Answers(_) => unreachable!("it has returned"),
        Behaviour::Greets(greeting) => {
            let mut heard = vec![0; 4];
            client.read_exact(&mut heard).await.unwrap();
            let length = u32::from_be_bytes(heard[..].try_into().unwrap()) as usize;
            heard.resize(length, 0);
            client.read_exact(&mut heard[4..]).await.unwrap();
            client.write_all(greeting).await.unwrap();
            client.flush().await.unwrap();
            rest(client).await
        }
        Behaviour::PassesOnPlain(port) => {
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            Vec::new()
        }
        Behaviour::PassesOnEncrypted(port) => {
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            server.write_all(&SSL_REQUEST).await.unwrap();
            assert_eq!(server.read_u8().await.unwrap(), b'S');
            let name = ServerName::try_from(NAME).unwrap();
            let mut server = connector(authority).connect(name, server).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            Vec::new()
        }
    }
}

/// What a client says until it goes away, orderly or not. One that waits for an answer is sent away.
async fn rest(mut client: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(3), client.read_to_end(&mut heard)).await;
    heard
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let identity = authority.issue(4000);
    let config = ServerConfig::builder_with_provider(ring::default_provider().into());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![identity.certificate()], identity.key()).unwrap();
    Arc::new(config).into()
}

fn connector(authority: &Authority) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate()).unwrap();
    let config = ClientConfig::builder_with_provider(ring::default_provider().into());
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    Arc::new(config.with_no_client_auth()).into()
}
