//! The cache behind a service in this process, and clients that keep their connections: each call goes over a
//! socket or a port and back. The CPU time is that of service and clients together.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use cimd_cache::{Cache, Ticket};
use cimd_cache_service::{Address, Listen, Roles, Settings, start};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::net::{TcpStream, UnixStream};

use crate::contender::{Contender, LIFETIME};

/// How clients reach it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Over {
    Socket,
    Tcp,
}

const TOKEN: &str = "token-of-the-benchmark";

/// A service, which ends when nobody has it any more, and connections to it.
#[derive(Clone)]
pub(super) struct Service(Arc<Running>);

struct Running {
    address: Address,
    /// Connections that nobody uses now.
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    _service: cimd_cache_service::Running,
    _directory: tempfile::TempDir,
}

impl Service {
    pub(super) async fn start(cache: Cache, over: Over) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let address = match over {
            Over::Socket => Address::Unix(directory.path().join("cache.sock")),
            Over::Tcp => {
                let free = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
                Address::Tcp(free.local_addr()?)
            }
        };
        let mut settings = Settings::default();
        settings.listen = vec![Listen { address: address.clone(), roles: Roles::ALL }];
        settings.max_connections = 20_000;
        if let Over::Tcp = over {
            settings.token_files = vec![(token_in(directory.path().join("tokens"))?, Roles::ALL)];
        }
        let service = start(cache, settings).await?;
        let running = Running { address, idle: Mutex::default(), _service: service, _directory: directory };
        Ok(Self(Arc::new(running)))
    }

    /// The path of its socket.
    pub(super) fn socket(&self) -> Option<&PathBuf> {
        match &self.0.address {
            Address::Unix(socket) => Some(socket),
            _ => None,
        }
    }

    /// A connection that nobody uses now. The service closes those that were idle for too long, as they are while
    /// others have their turns.
    fn idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.0.idle.lock();
        while let Some(connection) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        match &self.0.address {
            Address::Unix(socket) => spoken_over(UnixStream::connect(socket).await?).await,
            Address::Tcp(address) => {
                let stream = TcpStream::connect(*address).await?;
                stream.set_nodelay(true)?;
                spoken_over(stream).await
            }
            Address::Systemd(_) => bail!("nobody has passed a socket on"),
        }
    }

    /// The body of the answer to a call.
    async fn call(&self, method: Method, path: String, body: Option<&str>) -> Result<Bytes> {
        let mut connection = match self.idle() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut request = Request::builder().method(method).uri(path);
        if let Address::Tcp(address) = &self.0.address {
            request = request.header(header::HOST, address.to_string());
            request = request.header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
        } else {
            request = request.header(header::HOST, "localhost");
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::new(Bytes::from(body.unwrap_or_default().to_owned()));
        connection.ready().await?;
        let response = connection.send_request(request.body(body)?).await?;
        ensure!(response.status() == 200, "the service answers {}", response.status());
        let body = response.into_body().collect().await?.to_bytes();
        self.0.idle.lock().push(connection);
        Ok(body)
    }
}

async fn spoken_over(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<Full<Bytes>>> {
    let (send, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(send)
}

fn token_in(file: PathBuf) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(&file, TOKEN)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

pub(super) fn path(url: &str) -> String {
    format!("/v1/document?client_id={}", utf8_percent_encode(url, NON_ALPHANUMERIC))
}

impl Contender for Service {
    async fn ticket(&self, url: &str) -> Result<Option<Ticket>> {
        let answer: Value = serde_json::from_slice(&self.call(Method::GET, path(url), None).await?)?;
        Ok(Some(answer["ticket"].as_str().context("an answer without a ticket")?.into()))
    }

    async fn get(&self, url: &str) -> Result<usize> {
        #[derive(serde::Deserialize)]
        struct Hit<'a> {
            #[serde(borrow)]
            metadata: &'a RawValue,
        }
        let answer = self.call(Method::GET, path(url), None).await?;
        let hit = serde_json::from_slice::<Hit<'_>>(&answer)
            .context("the service misses a document that is there")?;
        Ok(hit.metadata.get().len())
    }

    async fn put(&self, url: &str, document: &str, ticket: Option<&Ticket>) -> Result<()> {
        let ticket = ticket.map_or_else(|| "none".to_owned(), ToString::to_string);
        let path = format!("{}&ticket={ticket}&expires_in={}", path(url), LIFETIME.as_secs());
        let answer: Value = serde_json::from_slice(&self.call(Method::PUT, path, Some(document)).await?)?;
        ensure!(answer["outcome"] == "stored", "the service superseded a put of now");
        Ok(())
    }
}
