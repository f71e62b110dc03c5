//! A connection's socket, on which the bytes that arrive are counted.
//!
//! tokio-postgres can open sockets itself, but its time limit ends once the socket is open. A host that
//! accepts and then sends nothing (its processes are stopped, or a router in between has lost the route)
//! would hold up the hosts after it, and every later attempt. So sockets are opened here: a login during
//! which nothing arrives for too long is given up, and one that is merely slow is not.

use std::io;
use std::net::SocketAddr;
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
use tokio_util::either::Either;

/// One address of a server.
#[derive(Clone, Debug)]
pub(super) enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Endpoint {
    /// Opens the socket, within `patience` unless the URL has a time limit.
    pub(super) async fn open(&self, config: &Config, patience: Duration) -> io::Result<Socket> {
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

/// A connection's socket, which counts the bytes that it reads.
pub(super) struct Socket {
    stream: Either<TcpStream, UnixStream>,
    bytes_read: BytesRead,
}

/// How many bytes have been read from a socket.
#[derive(Clone, Debug, Default)]
pub(super) struct BytesRead(Arc<AtomicU64>);

impl BytesRead {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The future's result, or None if nothing was read for `patience`, or up to twice as long.
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
        Self { stream, bytes_read: BytesRead::default() }
    }

    pub(super) fn bytes_read(&self) -> BytesRead {
        self.bytes_read.clone()
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
        self.bytes_read.0.fetch_add(read, Ordering::Relaxed);
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

    #[tokio::test]
    async fn a_login_may_be_slow_but_not_silent() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config: Config = format!("postgres://u@{}/d", listener.local_addr().unwrap()).parse().unwrap();
        let patience = Duration::from_millis(200);
        let endpoint = Endpoint::Tcp(listener.local_addr().unwrap());
        let socket = endpoint.open(&config, patience).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        let bytes_read = socket.bytes_read();
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
        let (answer, ()) = tokio::join!(bytes_read.watch(patience, slow), speak);
        assert!(answer.is_some(), "it was bytes_read all the time");
        assert!(bytes_read.watch(patience, std::future::pending::<()>()).await.is_none());
    }
}
