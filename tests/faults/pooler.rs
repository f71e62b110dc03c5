//! pgbouncer in transaction mode between nodes and server: each transaction may run on another connection.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cimd_cache::Schema;
use cimd_cache::migrations::{self, Settings};
use tokio_postgres::SimpleQueryMessage;

use crate::load::Load;
use crate::node::node;
use crate::scene::{Allowed, Scene, Stage, turn};
use crate::server::Server;

/// A pgbouncer, gone when dropped.
struct Pooler {
    process: Child,
    directory: tempfile::TempDir,
}

impl Pooler {
    /// Each of its connections to the server lives for so many seconds. None where there is no pgbouncer.
    async fn start(server: &Server, connections: usize, lifetime: usize) -> Option<Self> {
        let (uid, gid) = server.owner();
        let directory = tempfile::Builder::new().prefix("cimd-cache-pool-").tempdir_in("/tmp").unwrap();
        let path = directory.path().display();
        let config = format!(
            "[databases]\n* = host={}\n[pgbouncer]\npool_mode = transaction\ndefault_pool_size = {connections}\n\
             server_lifetime = {lifetime}\nlisten_port = 6432\nunix_socket_dir = {path}\nauth_type = trust\nauth_file = {path}/users\n",
            server.directory().display()
        );
        std::fs::write(directory.path().join("pgbouncer.ini"), config).unwrap();
        std::fs::write(
            directory.path().join("users"),
            "\"cimd_cache_app\" \"\"\n\"cimd_cache_owner\" \"\"\n",
        )
        .unwrap();
        std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid)).unwrap();
        // Where Debian has it, which is not on everybody's path.
        let debian = Path::new("/usr/sbin/pgbouncer");
        let mut command = Command::new(if debian.exists() { debian } else { Path::new("pgbouncer") });
        command.arg(directory.path().join("pgbouncer.ini")).stdout(Stdio::null()).stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(uid).gid(gid);
        }
        let process = command.spawn().ok()?;
        let mut pooler = Self { process, directory };
        while crate::server::connect(&pooler.url("cimd_cache_app")).await.is_err() {
            assert_eq!(pooler.process.try_wait().unwrap(), None, "pgbouncer ended at once");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(pooler)
    }

    fn url(&self, role: &str) -> String {
        let host = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres://{role}@{host}:6432/auth")
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn skipped() {
    println!("SKIPPED: a pooler in transaction mode. It takes the package pgbouncer.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_in_transaction_mode_nothing_fails() {
    let turn = turn().await;
    let server = Server::start(&[], None).await;
    let Some(pooler) = Pooler::start(&server, 3, 3_600).await else { return skipped() };
    let nodes = vec![node(&pooler.url("cimd_cache_app")), node(&pooler.url("cimd_cache_app"))];
    let mut scene =
        Scene::play("pgbouncer in transaction mode", Stage { turn, server, nodes }, Load::default()).await;
    scene.fault(async |_| {}).await;
    scene.end(Allowed::NOTHING).await;
}

/// A migration is one transaction, so a pooler gives it one connection, which is as it was when it comes
/// back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_leaves_nothing_behind_on_a_pooled_connection() {
    let _turn = turn().await;
    let server = Server::start(&[], None).await;
    let Some(pooler) = Pooler::start(&server, 1, 3_600).await else { return skipped() };
    let url = pooler.url("cimd_cache_owner");
    let client = crate::server::connect(&url).await.unwrap();
    let state = async || {
        let sql = "select current_setting('statement_timeout') || current_setting('search_path')
                          || current_setting('lock_timeout') || current_setting('row_security')
                          || (select count(*) from pg_locks where locktype = 'advisory')
                          || (select count(*) from pg_prepared_statements) || pg_backend_pid()";
        let rows = client.simple_query(sql).await.unwrap();
        let row = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        row.unwrap()
    };
    let before = state().await;
    for schema in ["one", "two", "one"] {
        let schema: Schema = schema.parse().unwrap();
        migrations::migrate(&url, &schema).await.unwrap();
        assert_eq!(state().await, before);
    }
    // One that fails half-way neither.
    let mut missing = Settings::default();
    missing.app_role = "nobody".to_owned();
    migrations::migrate(&url, missing).await.unwrap_err();
    assert_eq!(state().await, before);
}

/// Each process numbers its prepared statements from nought. On a pooler that does not know whose is whose,
/// one node's get would be another's delete. Connections without any statement are where that can happen, so
/// there are always new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_of_the_same_name_are_not_run_for_each_other() {
    let _turn = turn().await;
    let server = Server::start(&[], None).await;
    let Some(pooler) = Pooler::start(&server, 8, 1).await else { return skipped() };
    let directory = tempfile::tempdir().unwrap();
    let document = directory.path().join("document.json");
    std::fs::write(&document, "{\"kept\":true}").unwrap();
    let start = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cimd-cache"));
        command.args(arguments).env("DATABASE_URL", pooler.url("cimd_cache_app"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let kept = "https://client.example/kept";
    let file = document.to_str().unwrap();
    let status = |mut process: Child| process.wait().unwrap().code().unwrap();
    assert_eq!(status(start(&["put", kept, file, "--expires-in", "3600"])), 0);
    for round in 0..60 {
        let commands: [(&[&str], i32); 8] = [
            (&["get", kept], 0),
            (&["delete", "https://client.example/other"], 0),
            (&["get", kept], 0),
            (&["get", "https://client.example/never"], 1),
            (&["delete", "https://client.example/other"], 0),
            (&["get", kept], 0),
            (&["put", "https://client.example/other", file, "--expires-in", "3600"], 0),
            (&["get", kept], 0),
        ];
        let processes = commands.map(|(arguments, expected)| (start(arguments), arguments, expected));
        for (process, arguments, expected) in processes {
            // A put may lose against the delete beside it.
            let superseded = arguments[0] == "put";
            let exit = status(process);
            assert!(exit == expected || (superseded && exit == 5), "{arguments:?} of round {round}: {exit}");
        }
    }
}
