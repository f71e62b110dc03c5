//! Dialling: from the hosts of a URL to a socket, and an ear on it.
//!
//! tokio-postgres dials by itself too, but its time limit ends with the socket. A host that accepts and then says
//! nothing (its processes are stopped, or something in between has forgotten the way) would hold up the hosts after it,
//! and every attempt after this one. So the socket is opened here, and what is read from it counted: a login that
//! leaves a node without a word for too long is given up, and one that is merely slow is not.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_util::either::Either;

/// One of the servers that a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    address: Address,
    /// What the server's certificate has to be for.
    pub(super) name: String,
    pub(super) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Name(String),
    Ip(IpAddr),
    Folder(PathBuf),
}

/// The servers of a URL, in its order. None if it has not as many addresses as names, or ports as servers.
pub(super) fn targets(config: &Config) -> Option<Vec<Target>> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    let agree = |length| length == count || length == 0;
    if !agree(hosts.len()) || !agree(addresses.len()) || !(agree(ports.len()) || ports.len() == 1) {
        return None;
    }
    let target = |at: usize| {
        let port = ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5432);
        let address = addresses.get(at).copied().map(Address::Ip);
        let (name, address) = match (hosts.get(at), address) {
            (Some(Host::Tcp(name)), address) => {
                (name.clone(), address.unwrap_or_else(|| Address::Name(name.clone())))
            }
            (Some(Host::Unix(_)) | None, Some(Address::Ip(address))) => {
                (address.to_string(), Address::Ip(address))
            }
            (Some(Host::Unix(folder)), _) => (String::new(), Address::Folder(folder.clone())),
            (None, _) => return None,
        };
        Some(Target { address, name, port })
    };
    (0..count).map(target).collect()
}

impl Target {
    /// The server as a password file names it: by its name, else its address, else the folder of its socket.
    pub(super) fn host(&self) -> String {
        match &self.address {
            Address::Folder(folder) => folder.display().to_string(),
            Address::Name(_) | Address::Ip(_) => self.name.clone(),
        }
    }

    /// Where it can be reached: all addresses that its name has. Takes as long as the resolver does, which has time limits of
    /// its own.
    pub(super) async fn endpoints(&self) -> io::Result<Vec<Endpoint>> {
        Ok(match &self.address {
            Address::Folder(folder) => vec![Endpoint::Unix(folder.join(format!(".s.PGSQL.{}", self.port)))],
            Address::Ip(address) => vec![Endpoint::Tcp((*address, self.port).into())],
            Address::Name(name) => {
                let addresses = tokio::net::lookup_host((name.as_str(), self.port)).await?;
                addresses.map(Endpoint::Tcp).collect()
            }
        })
    }
}

/// One address of a server.
#[derive(Clone, Debug)]
pub(super) enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Endpoint {
    /// Opens the socket, within `patience` unless the URL has a time limit.
    pub(super) async fn dial(&self, config: &Config, patience: Duration) -> io::Result<Socket> {
        let patience = config.get_connect_timeout().copied().unwrap_or(patience);
        match self {
            Self::Unix(path) => {
                let stream = within(patience, UnixStream::connect(path)).await?;
                Ok(Socket::new(Either::Right(stream)))
            }
            Self::Tcp(address) => {
                let stream = within(patience, TcpStream::connect(address)).await?;
                set_options(&stream, config)?;
                Ok(Socket::new(Either::Left(stream)))
            }
        }
    }
}

async fn within<T>(patience: Duration, connect: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(patience, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn set_options(stream: &TcpStream, config: &Config) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    #[cfg(target_os = "linux")]
    if let Some(timeout) = config.get_tcp_user_timeout() {
        socket.set_tcp_user_timeout(Some(*timeout))?;
    }
    if config.get_keepalives() {
        let mut keepalive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
        if let Some(interval) = config.get_keepalives_interval() {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(retries) = config.get_keepalives_retries() {
            keepalive = keepalive.with_retries(retries);
        }
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

/// A connection's socket, on which it is counted how much is read.
pub(super) struct Socket {
    stream: Either<TcpStream, UnixStream>,
    heard: Heard,
}

/// How many bytes have been heard on a socket.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<AtomicU64>);

impl Heard {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The future's result, or none if nothing was heard for `patience`, or up to twice as long.
    pub(super) async fn watch<T>(&self, patience: Duration, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        loop {
            let before = self.bytes();
            match tokio::time::timeout(patience, &mut future).await {
                Ok(result) => return Some(result),
                Err(_) if self.bytes() == before => return None,
                Err(_) => {}
            }
        }
    }
}

impl Socket {
    fn new(stream: Either<TcpStream, UnixStream>) -> Self {
        Self { stream, heard: Heard::default() }
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = (buffer.filled().len() - before) as u64;
        self.heard.0.fetch_add(read, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports_and_names(url: &str) -> Option<Vec<(String, u16)>> {
        let config: Config = url.parse().unwrap();
        Some(targets(&config)?.into_iter().map(|target| (target.name, target.port)).collect())
    }

    #[test]
    fn each_host_of_a_url_is_a_target() {
        let names = |targets: &[(&str, u16)]| {
            Some(targets.iter().map(|&(name, port)| (name.to_owned(), port)).collect())
        };
        for (url, expected) in [
            ("postgres://u@a/d", names(&[("a", 5432)])),
            ("postgres://u@a:1,b:2/d", names(&[("a", 1), ("b", 2)])),
            ("postgres://u@a,b/d?hostaddr=10.0.0.1,10.0.0.2", names(&[("a", 5432), ("b", 5432)])),
            ("postgres://u@%2Ftmp:7/d", names(&[("", 7)])),
            ("postgres:///d?hostaddr=10.0.0.1", names(&[("10.0.0.1", 5432)])),
            ("postgres://u@a,b/d?hostaddr=10.0.0.1", None),
        ] {
            assert_eq!(ports_and_names(url), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn a_login_may_be_slow_but_not_silent() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config: Config = format!("postgres://u@{}/d", listener.local_addr().unwrap()).parse().unwrap();
        let patience = Duration::from_millis(200);
        let endpoints = targets(&config).unwrap()[0].endpoints().await.unwrap();
        let socket = endpoints[0].dial(&config, patience).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        let heard = socket.heard();
        let (mut read, _write) = tokio::io::split(socket);
        let slow = async {
            let mut word = [0; 8];
            tokio::io::AsyncReadExt::read_exact(&mut read, &mut word).await.map(|_| ())
        };
        let speak = async {
            for byte in 0..8 {
                tokio::time::sleep(patience / 2).await;
                tokio::io::AsyncWriteExt::write_all(&mut peer, &[byte]).await.unwrap();
            }
        };
        let (answer, ()) = tokio::join!(heard.watch(patience, slow), speak);
        assert!(answer.is_some(), "it was heard all the time");
        assert!(heard.watch(patience, std::future::pending::<()>()).await.is_none());
    }
}
