//! A way to a server over TCP that can be made slow, silent, or to break.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// What happens to bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Answers arrive so much later.
    Delay(Duration),
    /// Half of an answer arrives, and then the connection is cut.
    CutAnswers,
    /// Nothing arrives any more on a connection that meets this: not then, and not when it is over.
    Hole,
    /// Answers arrive byte by byte, one a second.
    Trickle,
    /// Logins work, and statements do not arrive: those that are sent meanwhile never do.
    NoStatements,
}

pub(crate) struct Proxy {
    address: std::net::SocketAddr,
    weather: watch::Sender<Weather>,
}

impl Proxy {
    pub(crate) async fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (weather, forecast) = watch::channel(Weather::Fair);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = UnixStream::connect(&socket).await else { continue };
                client.set_nodelay(true).unwrap();
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                let forecast = forecast.clone();
                // Either direction's end is the connection's: both halves are dropped.
                tokio::spawn(async move {
                    tokio::select! {
                        () = carry(from_client, to_server, Direction::Query, forecast.clone()) => {}
                        () = carry(from_server, to_client, Direction::Answer, forecast) => {}
                    }
                });
            }
        });
        Self { address, weather }
    }

    pub(crate) fn url(&self, role: &str) -> String {
        format!("postgres://{role}@{}/auth", self.address)
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Query,
    Answer,
}

/// Carries bytes until one end closes or the weather breaks the connection.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    weather: watch::Receiver<Weather>,
) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
    let answers = direction == Direction::Answer;
    let read = async {
        let mut chunk = [0; 16_384];
        while let Ok(length @ 1..) = from.read(&mut chunk).await {
            let delay = match *weather.borrow() {
                Weather::Delay(delay) if answers => delay,
                _ => Duration::ZERO,
            };
            if sender.send((Instant::now() + delay, chunk[..length].to_vec())).await.is_err() {
                return;
            }
        }
        // The rest is delivered first.
        drop(sender);
    };
    let write = async {
        while let Some((due, chunk)) = under_way.recv().await {
            tokio::time::sleep_until(due).await;
            let now = *weather.borrow();
            let written = match now {
                Weather::Hole => std::future::pending().await,
                // Parse, bind, or a query of what was prepared; a login has none of them.
                Weather::NoStatements if !answers && matches!(chunk.first(), Some(b'P' | b'B' | b'E')) => {
                    Ok(())
                }
                Weather::CutAnswers if answers => {
                    let _ = to.write_all(&chunk[..chunk.len() / 2]).await;
                    return;
                }
                Weather::Trickle if answers => {
                    for byte in chunk {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        if to.write_all(&[byte]).await.is_err() {
                            return;
                        }
                    }
                    Ok(())
                }
                _ => to.write_all(&chunk).await,
            };
            if written.is_err() {
                return;
            }
        }
    };
    // When nothing is read any more, what is in flight is still delivered; when nothing can be, it is over.
    tokio::select! {
        () = write => {}
        () = async { read.await; std::future::pending().await } => {}
    }
}
