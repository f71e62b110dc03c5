//! A private Postgres that may be made to fail, with the cache's schema in it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use cimd_cache::{Schema, migrations};
use cimd_cache_private_postgres::{PrivatePostgres, Setup};
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{Client, NoTls};

pub(crate) struct Server {
    postgres: PrivatePostgres,
}

impl Server {
    /// With a database `auth`, its roles and its schema.
    pub(crate) async fn start(arguments: &[&str], parent: Option<&Path>) -> Self {
        let setup = Setup { arguments, parent, ..Setup::default() };
        let postgres = tokio::task::block_in_place(|| PrivatePostgres::set_up(setup).unwrap());
        let server = Self { postgres };
        server.admin_of("postgres").await.batch_execute("create database auth").await.unwrap();
        server.admin().await.batch_execute(migrations::ROLES).await.unwrap();
        migrations::migrate(&server.url("cimd_cache_owner"), &Schema::default()).await.unwrap();
        server
    }

    /// A streaming standby.
    pub(crate) fn start_standby(&self, arguments: &[&str]) -> Self {
        let setup = Setup { arguments, standby_of: Some(&self.postgres), ..Setup::default() };
        Self { postgres: tokio::task::block_in_place(|| PrivatePostgres::set_up(setup).unwrap()) }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.postgres.directory()
    }

    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.postgres.socket()
    }

    /// The user and group that the server runs as.
    pub(crate) fn owner(&self) -> (u32, u32) {
        let directory = std::fs::metadata(self.directory()).unwrap();
        (directory.uid(), directory.gid())
    }

    /// The server's place in a URL.
    pub(crate) fn host(&self) -> String {
        self.directory().display().to_string().replace('/', "%2F")
    }

    pub(crate) fn url(&self, role: &str) -> String {
        self.postgres.url(role, "auth")
    }

    pub(crate) fn log(&self) -> String {
        self.postgres.log().unwrap()
    }

    /// A connection that may do everything.
    pub(crate) async fn admin(&self) -> Client {
        self.admin_of("auth").await
    }

    async fn admin_of(&self, database: &str) -> Client {
        connect(&self.postgres.url("postgres", database)).await.unwrap()
    }

    /// Kills every process of the server at once, as the loss of the machine does.
    pub(crate) async fn crash(&self) {
        // Stopped first, so that none starts another while they are counted.
        self.freeze();
        let processes = self.processes();
        for process in &processes {
            signal(*process, Signal::KILL);
        }
        ended(&processes).await;
    }

    /// As [`crash`](Self::crash), and starts again with what was stored.
    pub(crate) async fn crash_and_return(&mut self) {
        self.crash().await;
        self.start_again();
    }

    /// Stops every process where it is.
    pub(crate) fn freeze(&self) {
        // The main process first, so that it starts no other meanwhile.
        signal(self.postgres.process().unwrap(), Signal::STOP);
        for process in self.processes() {
            signal(process, Signal::STOP);
        }
    }

    pub(crate) fn thaw(&self) {
        for process in self.processes() {
            signal(process, Signal::CONT);
        }
    }

    /// Ends the server: SIGINT is Postgres' fast shutdown, SIGQUIT the immediate one.
    pub(crate) async fn shut_down(&self, how: Signal) {
        let processes = self.processes();
        signal(processes[0], how);
        ended(&processes).await;
    }

    /// Returns once the server takes connections again.
    pub(crate) fn start_again(&mut self) {
        tokio::task::block_in_place(|| self.postgres.start_again().unwrap());
    }

    /// The main process and its children.
    fn processes(&self) -> Vec<u32> {
        let main = self.postgres.process().unwrap();
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let parent = |process: u32| {
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            line.and_then(|parent| parent.trim().parse::<u32>().ok())
        };
        std::iter::once(main).chain(all.filter(|&process| parent(process) == Some(main))).collect()
    }
}

fn signal(process: u32, signal: Signal) {
    let process = Pid::from_raw(process.cast_signed()).unwrap();
    // One that has just ended by itself is as good.
    let _ = kill_process(process, signal);
}

/// Until none of the processes runs; one whose parent has not asked for its end yet has no command line any
/// more.
async fn ended(processes: &[u32]) {
    let runs =
        |process: &u32| std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty());
    while processes.iter().any(runs) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(crate) async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
