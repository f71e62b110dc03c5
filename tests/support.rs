//! One private Postgres for the whole test binary, a database of its own for each test, and words for what tests do.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cimd_cache::private_postgres::PrivatePostgres;
use cimd_cache::{Cache, Entry, Expiry, Lookup, Schema, Ticket, migrations};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{Mutex, MutexGuard, OnceCell, watch};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};

/// The server, with a migrated database `template` in it. A static is never dropped: the server ends with the process.
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

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Roles are the whole server's: two tests that set them up at once would be in each other's way.
pub(crate) async fn roles_turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    ONE_AT_A_TIME.lock().await
}

/// A database of one test's own.
pub(crate) struct Database {
    server: &'static PrivatePostgres,
    pub(crate) name: String,
}

impl Database {
    /// With the schema in place.
    pub(crate) async fn new() -> Self {
        let database = Self::create("template").await;
        // The one thing of roles.sql that a copy of a database has not.
        let grant = format!("grant create on database {} to cimd_cache_owner", database.name);
        database.admin().await.batch_execute(&grant).await.unwrap();
        database
    }

    /// Without anything in it.
    pub(crate) async fn empty() -> Self {
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

    pub(crate) fn url(&self, role: &str) -> String {
        self.server.url(role, &self.name)
    }

    pub(crate) fn app_url(&self) -> String {
        self.url("cimd_cache_app")
    }

    /// A node of its own: another sandbox, other connections.
    pub(crate) fn node(&self) -> Cache {
        self.node_with_deadline(Duration::from_secs(10))
    }

    pub(crate) fn node_with_deadline(&self, deadline: Duration) -> Cache {
        Cache::builder().database_url(&self.app_url()).deadline(deadline).build().unwrap()
    }

    /// A way to the server over TCP, and a switch that makes the connections which have taken it fall silent: open, and
    /// without an answer for ever. Those that come later work.
    pub(crate) async fn tunnel(&self) -> (String, watch::Sender<()>) {
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
    pub(crate) async fn observed(&self) -> (String, Arc<Wire>) {
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
    pub(crate) async fn admin(&self) -> Client {
        connect(&self.url("postgres")).await
    }

    /// Creates the roles, as an administrator does with the SQL that the program prints.
    pub(crate) async fn create_roles(&self, sql: &str) {
        let _turn = roles_turn().await;
        // The line for psql is none for others.
        let sql = sql.strip_prefix("\\set ON_ERROR_STOP on\n").unwrap_or(sql);
        self.admin().await.batch_execute(sql).await.unwrap();
    }

    /// Makes the server log every statement that connections opened from now on send to this database.
    pub(crate) async fn log_statements(&self) {
        let sql = format!("alter database {} set log_statement = 'all'", self.name);
        self.admin().await.batch_execute(&sql).await.unwrap();
    }

    /// The statements that reached this database since it was told to log them, in order, each behind `statement: ` or
    /// `execute NAME: ` and with all of its lines.
    pub(crate) fn logged(&self) -> Vec<String> {
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

/// What clients have sent to a server, by the messages of its protocol.
#[derive(Default)]
pub(crate) struct Wire {
    prepared: AtomicUsize,
    round_trips: AtomicUsize,
}

pub(crate) struct Seen {
    pub(crate) prepared: usize,
    pub(crate) round_trips: usize,
}

impl Wire {
    fn count(&self, message: u8) {
        match message {
            b'P' => self.prepared.fetch_add(1, Ordering::Relaxed),
            // Sync and Query: after these a client waits for the server to be ready again.
            b'S' | b'Q' => self.round_trips.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen {
            prepared: self.prepared.load(Ordering::Relaxed),
            round_trips: self.round_trips.load(Ordering::Relaxed),
        }
    }
}

/// Everything in a row that a refusal must not change, `xmin` included: it changes with every write.
pub(crate) async fn row(admin: &Client, id: &str) -> Option<String> {
    let sql = "select xmin::text || m::text from cimd_cache.client_id_metadata m where url = $1";
    admin.query_opt(sql, &[&id]).await.unwrap().map(|row| row.get(0))
}

pub(crate) async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> T {
    client.query_one(sql, parameters).await.unwrap().get(0)
}

/// Published client metadata documents, with the `client_id` inside each.
pub(crate) fn documents() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/documents");
    let files = std::fs::read_dir(folder).unwrap();
    let documents = files.map(|file| {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let id = json_of(&text)["client_id"].as_str().unwrap().to_owned();
        (id, text)
    });
    let documents: Vec<_> = documents.collect();
    assert_eq!(documents.len(), 7);
    documents
}

pub(crate) const ID: &str = "https://client.example/metadata.json";
pub(crate) const HOUR: Expiry = Expiry::After(Duration::from_secs(3_600));

/// A small document that can be told from others by its number.
pub(crate) fn document(number: u64) -> String {
    json!({ "client_id": ID, "version": number }).to_string()
}

pub(crate) fn version(lookup: &Lookup) -> Option<u64> {
    match lookup {
        Lookup::Hit(entry) => json_of(&entry.metadata)["version"].as_u64(),
        Lookup::Miss(_) => None,
    }
}

pub(crate) fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

pub(crate) async fn hit(node: &Cache, id: &str) -> Entry {
    match node.get(id).await.unwrap() {
        Lookup::Hit(entry) => entry,
        Lookup::Miss(_) => panic!("a miss: {id}"),
    }
}

pub(crate) async fn miss(node: &Cache, id: &str) -> Ticket {
    match node.get(id).await.unwrap() {
        Lookup::Miss(ticket) => ticket,
        Lookup::Hit(entry) => panic!("a hit: {id}: {}", entry.metadata),
    }
}

/// The ticket of a get, whatever it found.
pub(crate) async fn ticket(node: &Cache, id: &str) -> Ticket {
    match node.get(id).await.unwrap() {
        Lookup::Hit(entry) => entry.ticket,
        Lookup::Miss(ticket) => ticket,
    }
}

/// A ticket as a get would have given it so many seconds later: its first sixteen digits are microseconds.
pub(crate) fn shifted(ticket: &Ticket, seconds: i64) -> Ticket {
    let text = ticket.to_string();
    let (read_at, rest) = text.split_at(16);
    let read_at = i64::from_str_radix(read_at, 16).unwrap() + seconds * 1_000_000;
    Ticket::from(format!("{read_at:016x}{rest}"))
}

/// The command, without a database in its environment, and with pipes for all that it reads and writes.
pub(crate) fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_cimd-cache"));
    for variable in ["DATABASE_URL", "PGPASSWORD", "PGPASSFILE"] {
        program.env_remove(variable);
    }
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    program
}

/// Runs the command.
pub(crate) async fn command(arguments: &[&str], stdin: &str) -> Output {
    let (arguments, stdin) =
        (arguments.iter().map(ToString::to_string).collect::<Vec<_>>(), stdin.to_owned());
    let run = move || {
        let mut child = program().args(arguments).spawn().unwrap();
        // A command that does not read its input may be gone before it is written.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// The shell that keeps a demo's Postgres, as its entry in /proc, and the folder it keeps it in.
pub(crate) fn keeper_of(demo: u32) -> Option<(PathBuf, PathBuf)> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes.into_iter().find_map(|process| {
        let status = std::fs::read_to_string(process.join("status")).ok()?;
        let is_child = status.lines().any(|line| line == format!("PPid:\t{demo}"));
        let arguments = std::fs::read_to_string(process.join("cmdline")).ok()?;
        let folder = arguments.split('\0').find(|argument| argument.contains("/cimd-cache-") && is_child)?;
        Some((process, PathBuf::from(folder)))
    })
}

/// What the library logs, as a program that uses it would see it.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    /// Collects everything that this thread logs, on which all tasks of a test run, for as long as the guard lives.
    pub(crate) fn listen(&self) -> impl Drop + use<> {
        self.listen_at(tracing::Level::TRACE)
    }

    /// The same, of what is at least as important.
    pub(crate) fn listen_at(&self, level: tracing::Level) -> impl Drop + use<> {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
        tracing::subscriber::set_default(subscriber.with_writer(move || log.clone()).finish())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
