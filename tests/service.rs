//! The service as clients in any language use it: HTTP over a Unix socket or a port, byte for byte.

mod access;
mod calls;
mod operation;

use std::path::PathBuf;
use std::time::Duration;

use cimd_cache::Cache;
use cimd_cache_service::{Listen, ServeError, Settings, serve};
use support::Database;
use support::http::Client;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The client_id of most tests, percent-encoded.
const ENCODED: &str = "https%3A%2F%2Fclient.example%2Fmetadata.json";

/// A running service.
struct Service {
    directory: TempDir,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
}

impl Service {
    async fn start(database: &Database) -> Self {
        Self::start_with(database, |settings| settings).await
    }

    async fn start_with(database: &Database, set: impl FnOnce(Settings) -> Settings) -> Self {
        let cache =
            Cache::builder().database_url(&database.app_url()).deadline(Duration::from_secs(10)).build();
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.listen = vec![listen(&directory, "")];
        let settings = set(settings);
        let (stop, stopped) = oneshot::channel();
        let (listening, is_listening) = oneshot::channel();
        let ended =
            tokio::spawn(serve(cache.unwrap(), settings, move || listening.send(()).unwrap(), async move {
                stopped.await.unwrap()
            }));
        is_listening.await.unwrap();
        Self { directory, stop, ended }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("cache.sock")
    }

    async fn client(&self) -> Client {
        Client::new(UnixStream::connect(self.socket()).await.unwrap())
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
        assert!(!self.directory.path().join("cache.sock").exists());
    }
}

fn listen(directory: &TempDir, roles: &str) -> Listen {
    format!("unix:{}/cache.sock{roles}", directory.path().display()).parse().unwrap()
}

fn get(id: &str) -> String {
    format!("GET /v1/document?client_id={id}")
}
