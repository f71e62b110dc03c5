//! A service that runs in the process of a test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cimd_cache::Cache;
use cimd_cache_service::{Listen, ServeError, Settings, serve};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::Database;
use crate::http::Client;

/// A running service, on a socket in a directory of its own. Dropped, it stops by itself.
#[derive(Debug)]
pub struct Service {
    directory: TempDir,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
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
        let settings = set(settings);
        let (stop, stopped) = oneshot::channel::<()>();
        let (listening, is_listening) = oneshot::channel();
        let ended = tokio::spawn(serve(cache, settings, move || listening.send(()).unwrap(), async move {
            let _ = stopped.await;
        }));
        is_listening.await.unwrap();
        Self { directory, stop, ended }
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
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
        assert!(!self.directory.path().join("cache.sock").exists());
    }
}

/// The address of its socket in a directory, with roles behind a comma, or nothing for all of them.
pub fn listen(directory: &Path, roles: &str) -> Listen {
    format!("unix:{}/cache.sock{roles}", directory.display()).parse().unwrap()
}
