//! A service that runs in the process of a test.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cimd_cache::Cache;
use cimd_cache_service::{Listen, Running, Settings, start};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixStream};

use crate::Database;
use crate::http::Client;

/// A running service, on a socket in a directory of its own. Dropped, it stops by itself.
#[derive(Debug)]
pub struct Service {
    directory: TempDir,
    running: Running,
}

impl Service {
    /// On a database, with the settings that are usual.
    pub async fn start(database: &Database) -> Self {
        Self::start_with(database, |settings| settings).await
    }

    /// The same, with settings that `set` has changed.
    pub async fn start_with(database: &Database, set: impl FnOnce(Settings) -> Settings) -> Self {
        Self::around(database.node_with_deadline(Duration::from_secs(10)), set).await
    }

    /// Around a cache.
    pub async fn around(cache: Cache, set: impl FnOnce(Settings) -> Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.listen = vec![listen(directory.path(), "")];
        let running = start(cache, set(settings)).await.unwrap();
        Self { directory, running }
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("cache.sock")
    }

    /// A connection to it.
    pub async fn client(&self) -> Client {
        Client::new(UnixStream::connect(self.socket()).await.unwrap())
    }

    /// Stops it, and waits until it has ended without a trace.
    pub async fn stop(self) {
        self.running.stop().await.unwrap();
        assert!(!self.directory.path().join("cache.sock").exists());
    }
}

/// A port of this machine that nobody listens on.
pub async fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A connection to a service that another process is about to start on a socket.
pub async fn connected(socket: &Path) -> Client {
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Client::new(stream),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Writes a file that only its owner can read, and moves it into place, as secrets are renewed.
pub fn write_secret(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(next, path).unwrap();
}

/// The address of its socket in a directory, with roles behind a comma, or nothing for all of them.
pub fn listen(directory: &Path, roles: &str) -> Listen {
    format!("unix:{}/cache.sock{roles}", directory.display()).parse().unwrap()
}
