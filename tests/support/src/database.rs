//! A database for each test, on a server that all tests of a process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cimd_cache::{Cache, Schema, migrations};
use cimd_cache_private_postgres::PrivatePostgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{Mutex, MutexGuard, OnceCell, watch};
use tokio_postgres::{Client, NoTls};

use crate::wire::Wire;

/// The server, with a migrated database `template` in it. A static is never dropped: the server ends with the
/// process.
static SERVER: OnceCell<PrivatePostgres> = OnceCell::const_new();

async fn server() -> &'static PrivatePostgres {
    let start = || async {
        let arguments = ["-c", "max_connections=500", "-c", "log_line_prefix=%d "];
        let start = move || PrivatePostgres::start_with(&arguments).unwrap();
        let server = tokio::task::spawn_blocking(start).await.unwrap();
        connect(&server.url("postgres", "postgres"))
            .await
            .batch_execute("create database template")
            .await
            .unwrap();
        connect(&server.url("postgres", "template")).await.batch_execute(migrations::ROLES).await.unwrap();
        migrations::migrate(&server.url("cimd_cache_owner", "template"), &Schema::default()).await.unwrap();
        server
    };
    SERVER.get_or_init(start).await
}

/// A connection of a test's own.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Roles are the whole server's: two tests that set them up at once would be in each other's way.
pub async fn roles_turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    ONE_AT_A_TIME.lock().await
}

/// A database of one test's own.
#[derive(Debug)]
pub struct Database {
    server: &'static PrivatePostgres,
    /// Its name.
    pub name: String,
}

impl Database {
    /// With the schema in place.
    pub async fn new() -> Self {
        let database = Self::create("template").await;
        // The one thing of roles.sql that a copy of a database has not.
        let grant = format!("grant create on database {} to cimd_cache_owner", database.name);
        database.admin().await.batch_execute(&grant).await.unwrap();
        database
    }

    /// Without anything in it.
    pub async fn empty() -> Self {
        Self::create("template0").await
    }

    async fn create(template: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let server = server().await;
        let admin = connect(&server.url("postgres", "postgres")).await;
        admin.batch_execute(&format!("create database {name} template {template}")).await.unwrap();
        Self { server, name }
    }

    /// Its URL, for a role.
    pub fn url(&self, role: &str) -> String {
        self.server.url(role, &self.name)
    }

    /// Its URL for the role that auth servers connect as.
    pub fn app_url(&self) -> String {
        self.url("cimd_cache_app")
    }

    /// A node of its own: another sandbox, other connections.
    pub fn node(&self) -> Cache {
        self.node_with_deadline(Duration::from_secs(10))
    }

    /// The same with a deadline.
    pub fn node_with_deadline(&self, deadline: Duration) -> Cache {
        Cache::builder().database_url(&self.app_url()).deadline(deadline).build().unwrap()
    }

    /// A way to the server over TCP, and a switch that makes the connections which have taken it fall silent:
    /// open, and without an answer for ever. Those that come later work.
    pub async fn tunnel(&self) -> (String, watch::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://cimd_cache_app@{}/{}", listener.local_addr().unwrap(), self.name);
        let (switch, silenced) = watch::channel(());
        let socket = self.server.socket();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = UnixStream::connect(&socket).await.unwrap();
                let mut silenced = silenced.clone();
                silenced.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        Ok(()) = silenced.changed() => std::future::pending().await,
                    }
                });
            }
        });
        (url, switch)
    }

    /// A way to the server over TCP on which messages are counted.
    pub async fn observed(&self) -> (String, Arc<Wire>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://cimd_cache_app@{}/{}", listener.local_addr().unwrap(), self.name);
        let wire = Arc::new(Wire::default());
        let (socket, counts) = (self.server.socket(), wire.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) =
                    UnixStream::connect(&socket).await.unwrap().into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                let counts = counts.clone();
                tokio::spawn(async move {
                    let (mut unread, mut chunk) = (Vec::new(), [0; 8_192]);
                    // The first message of a connection has no type.
                    let mut header = 4;
                    while let Ok(length @ 1..) = from_client.read(&mut chunk).await {
                        unread.extend_from_slice(&chunk[..length]);
                        while let Some(length) = unread.get(header - 4..header) {
                            let length = header - 4 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
                            if unread.len() < length {
                                break;
                            }
                            if header == 5 {
                                counts.count(unread[0]);
                            }
                            unread.drain(..length);
                            header = 5;
                        }
                        to_server.write_all(&chunk[..length]).await.unwrap();
                    }
                });
            }
        });
        (url, wire)
    }

    /// A connection that may do everything.
    pub async fn admin(&self) -> Client {
        connect(&self.url("postgres")).await
    }

    /// Creates the roles, as an administrator does with the SQL that the program prints.
    pub async fn create_roles(&self, sql: &str) {
        let _turn = roles_turn().await;
        // The line for psql is none for others.
        let sql = sql.strip_prefix("\\set ON_ERROR_STOP on\n").unwrap_or(sql);
        self.admin().await.batch_execute(sql).await.unwrap();
    }

    /// Makes the server log every statement that connections opened from now on send to this database.
    pub async fn log_statements(&self) {
        let sql = format!("alter database {} set log_statement = 'all'", self.name);
        self.admin().await.batch_execute(&sql).await.unwrap();
    }

    /// The statements that reached this database since it was told to log them, in order, each behind
    /// `statement: ` or `execute NAME: ` and with all of its lines.
    pub fn logged(&self) -> Vec<String> {
        let log = self.server.log().unwrap();
        let prefix = format!("{} LOG:  ", self.name);
        let mut logged: Vec<String> = Vec::new();
        let mut goes_on = false;
        for line in log.lines() {
            // A further line of a message begins with a tab.
            if let Some(continued) = line.strip_prefix('\t') {
                if let Some(last) = logged.last_mut().filter(|_| goes_on) {
                    last.push('\n');
                    last.push_str(continued);
                }
            } else {
                let sql = line.strip_prefix(&prefix);
                let sql = sql.filter(|line| line.starts_with("execute ") || line.starts_with("statement: "));
                goes_on = sql.is_some();
                logged.extend(sql.map(str::to_owned));
            }
        }
        logged
    }
}
