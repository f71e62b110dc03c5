//! Serves the connections of one listener, with limits on their number, on heads, and on slow clients, which
//! axum's own `serve` does not have.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use crate::access::Access;
use crate::listen::Listener;
use crate::metrics::ConnectionCounts;
use crate::peer::Peer;
use crate::stop::{Stopping, stopped};
use crate::tls::Tls;

/// The largest head of a request, in bytes: the longest `client_id` with every byte percent-encoded, and as
/// much again.
const HEAD_BYTES: usize = 16 << 10;

/// How long a client may take over a head, the wait for the next request on its connection included.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// How long a client may leave what it is sent unread.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// How long a client may take to begin TLS.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// After an error of the operating system, as when there are no file descriptors left.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What every connection of a listener is served with.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) router: Router,
    /// None for the operators' listener.
    pub(crate) access: Option<Access>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) room: Room,
    /// Changes when the service stops.
    pub(crate) stopping: Stopping,
}

/// Room for connections: all listeners of clients share one, and operators have another, so that they get in
/// when clients have taken all of theirs.
#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) places: Arc<Semaphore>,
    pub(crate) counts: ConnectionCounts,
}

/// Accepts connections until the service stops, and returns when the last of them has ended.
pub(crate) async fn serve(listener: Listener, serving: Serving) {
    let mut connections = JoinSet::new();
    let mut stopping = serving.stopping.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stopping) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(place) = serving.room.places.clone().try_acquire_owned() else {
                    serving.room.counts.refused();
                    continue;
                };
                let (serving, open) = (serving.clone(), serving.room.counts.open());
                connections.spawn(async move {
                    let mut stream = TimeoutStream::new(stream);
                    stream.set_write_timeout(Some(WRITE_WITHIN));
                    let stream = Box::pin(stream);
                    match &serving.tls {
                        None => converse(stream, peer, serving).await,
                        Some(tls) => {
                            let handshake = tls.acceptor().accept(stream);
                            match tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await {
                                Ok(Ok(stream)) => converse(stream, peer, serving).await,
                                Ok(Err(error)) => tracing::debug!(%error, "a client could not begin TLS"),
                                Err(_) => tracing::debug!("a client took too long to begin TLS"),
                            }
                        }
                    }
                    drop((place, open));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
    // No one can connect any more, and the socket's file is gone.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A client's connection, of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn accept(listener: &Listener) -> io::Result<(Box<dyn Stream>, Option<Peer>)> {
    match listener {
        Listener::Unix { listener, .. } => {
            let (stream, _) = listener.accept().await?;
            let peer = peer(&stream);
            Ok((Box::new(stream), peer))
        }
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream), None))
        }
    }
}

fn peer(stream: &UnixStream) -> Option<Peer> {
    stream.peer_cred().ok().map(|credentials| Peer(credentials.uid()))
}

async fn converse(stream: impl Stream, peer: Option<Peer>, serving: Serving) {
    let Serving { router, access, mut stopping, .. } = serving;
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        if let Some(access) = &access {
            request.extensions_mut().insert(access.clone());
        }
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            // What is being answered is answered; the connection ends after it.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended");
    }
}
