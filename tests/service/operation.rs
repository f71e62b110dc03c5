//! How the service stops, and what operators see of it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

use cimd_cache_service::Address;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::http::{Answer, Client};
use support::service::{Service, free_port};
use support::{Database, document, one};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::{ENCODED, get};
use crate::program::{command, parts, program};

/// A service that is told to stop answers what it has let in, operators see that it is no more ready, and then
/// nobody can connect.
#[tokio::test]
async fn calls_in_flight_are_answered_before_the_service_ends() {
    const PUTS: usize = 32;
    let database = Database::new().await;
    let (free, cache) = (free_port().await, database.node_with_deadline(Duration::from_secs(10)));
    let service = Service::around(cache.clone(), |mut settings| {
        settings.ops_listen = Some(Address::Tcp(free));
        settings
    })
    .await;
    while ask(free, "/health/ready").await.status != 200 {}
    let socket = service.socket();
    let mut idle = service.client().await;
    assert_eq!(idle.call(&get(ENCODED), None).await.status, 200);
    let mut admin = database.admin().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.client_id_metadata in exclusive mode").await.unwrap();
    let mut puts = JoinSet::new();
    for number in 0..PUTS {
        let mut client = service.client().await;
        let put = format!("PUT /v1/document?client_id={ENCODED}%2F{number}&ticket=none&expires_in=60");
        puts.spawn(async move { client.call(&put, Some(&document(1))).await });
    }
    // Half of them wait for the lock, and the others for the connections of those.
    while (cache.stats().in_flight, cache.stats().waiting) != (PUTS / 2, PUTS / 2) {
        tokio::task::yield_now().await;
    }
    let stopping = tokio::spawn(service.stop());
    while UnixStream::connect(&socket).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(free, "/health/ready").await.status, 503);
    assert!(!stopping.is_finished());
    lock.rollback().await.unwrap();
    while let Some(put) = puts.join_next().await {
        assert_eq!(put.unwrap().json(), json!({ "outcome": "stored" }));
    }
    stopping.await.unwrap();
    let stored: i64 = one(&admin, "select count(*) from cimd_cache.client_id_metadata", &[]).await;
    assert_eq!(stored, PUTS as i64);
}

/// What operators are told.
async fn ask(address: SocketAddr, path: &str) -> Answer {
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    client.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

/// Whoever operates it learns how it is, and nothing about clients.
#[tokio::test]
async fn operators_see_health_and_counts() {
    let database = Database::new().await;
    let free = free_port().await;
    let service = Service::start_with(&database, |mut settings| {
        settings.ops_listen = Some(Address::Tcp(free));
        settings
    })
    .await;
    let ask = async |path: &str| ask(free, path).await;
    assert_eq!(ask("/health/live").await.body, "live\n");
    while ask("/health/ready").await.status != 200 {}
    let mut client = service.client().await;
    client.call(&get(ENCODED), None).await;
    client.call(&get("a&secret=hush"), None).await;
    assert_eq!(ask("/health/database").await.body, "up\n");
    let metrics = ask("/metrics").await.body;
    for line in [
        "cimd_cache_lookups_total{outcome=\"miss\"} 1",
        "cimd_cache_lookups_total{outcome=\"error\"} 1",
        "cimd_cache_puts_total{outcome=\"superseded\"} 0",
        "cimd_cache_refusals_total{code=\"unknown-parameter\"} 1",
        "cimd_cache_call_seconds_bucket{le=\"+Inf\",call=\"lookup\"} 2",
        "cimd_cache_database_connections{pool=\"write\",state=\"busy\"} 0",
        "process_open_fds ",
        "process_cpu_seconds_total ",
        "cimd_cache_up 1",
        "cimd_cache_statements_total ",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("client.example") && !metrics.contains("hush"));
    let series = metrics.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 400, "{series}");
    assert_eq!(ask("/v1/document?client_id=a").await.status, 404);

    // The database is away: that is said, and does not take the service out of rotation.
    let admin = database.admin().await;
    admin.batch_execute("alter table cimd_cache.purge rename to gone").await.unwrap();
    assert_eq!(client.call(&get(ENCODED), None).await.status, 500);
    assert_eq!((ask("/health/database").await.status, ask("/health/ready").await.status), (503, 200));
    service.stop().await;
}

/// Clients that hold all connections keep no operator out.
#[tokio::test]
async fn beyond_the_limit_a_connection_is_closed_and_operators_still_get_in() {
    let database = Database::new().await;
    let free = free_port().await;
    let service = Service::start_with(&database, |mut settings| {
        settings.max_connections = 2;
        settings.ops_listen = Some(Address::Tcp(free));
        settings
    })
    .await;
    let (mut first, mut second) = (service.client().await, service.client().await);
    assert_eq!(first.call(&get(ENCODED), None).await.status, 200);
    assert_eq!(second.call(&get(ENCODED), None).await.status, 200);
    let mut third = UnixStream::connect(service.socket()).await.unwrap();
    assert_eq!(third.read(&mut [0]).await.unwrap(), 0, "it is closed unserved");
    let mut operator = Client::new(TcpStream::connect(free).await.unwrap());
    let metrics = operator.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.body;
    assert!(metrics.contains("cimd_cache_client_connections_refused_total 1"), "{metrics}");
    drop(first);
    let again = async {
        loop {
            let mut client = UnixStream::connect(service.socket()).await.unwrap();
            client.write_all(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            if client.read(&mut [0]).await.is_ok_and(|read| read == 1) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
    service.stop().await;
}

/// The command: it says where it listens, its probe finds it, and SIGTERM ends it with 0 and without a trace.
#[tokio::test]
async fn the_command_serves_until_it_is_told_to_stop() {
    let database = Database::new().await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("cache.sock");
    let free = format!("tcp:{}", free_port().await);
    let listen = format!("unix:{}", socket.display());
    let mut serve = program();
    serve.args(["serve", "--listen", &listen, "--ops-listen", &free]).env("DATABASE_URL", database.app_url());
    let mut serve = serve.spawn().unwrap();
    let mut log = BufReader::new(serve.stderr.take().unwrap()).lines();
    while !log.next().unwrap().unwrap().starts_with(&format!("listening on {listen}")) {}
    let probe = ["health", "--ready", "--ops", &free];
    while command(&probe, "").await.status.code() != Some(0) {}
    let mut client = Client::new(UnixStream::connect(&socket).await.unwrap());
    assert_eq!(client.call(&get(ENCODED), None).await.json()["outcome"], "miss");
    kill_process(Pid::from_raw(serve.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(serve.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let (status, _, err) = parts(command(&probe, "").await);
    assert_eq!((status, err.starts_with("error: the service at")), (3, true), "{err}");

    let nowhere = "postgres://u@/d?host=/tmp";
    for (arguments, status, text) in [
        (&["serve"][..], 3, "no database is configured"),
        (&["--database-url", nowhere, "serve", "--listen", "tcp:127.0.0.1:0"], 2, "needs a token"),
        (&["--database-url", nowhere, "serve", "--listen", "tcp:0.0.0.0:0"], 2, "needs TLS"),
        (&["--database-url", nowhere, "serve", "--listen", "unix:/nonexistent/x"], 2, "cannot listen"),
        (&["--database-url", nowhere, "serve", "--listen", "nonsense"], 2, "unix:/path"),
        (&["--database-url", nowhere, "serve", "--listen", "systemd:cache"], 2, "no socket of this name"),
        (&["--database-url", nowhere, "serve", "--tls-cert", "x"], 2, "--tls-key"),
        (&["--database-url-file", "/nonexistent", "serve"], 2, "cannot read the database URL"),
        (&["health", "--ops", "systemd:ops"], 2, "name the socket itself"),
    ] {
        let (exit, _, err) = parts(command(arguments, "").await);
        assert_eq!((exit, err.contains(text)), (status, true), "{arguments:?}: {err}");
    }
}

/// systemd opens the socket and passes it on; the service says when it is ready and when it stops, and leaves
/// the socket's file to systemd. The database URL comes as a file, as a credential does.
#[tokio::test]
async fn systemd_passes_the_socket_on_and_is_told() {
    let database = Database::new().await;
    let directory = tempfile::tempdir().unwrap();
    let (socket, told) = (directory.path().join("cache.sock"), directory.path().join("notify"));
    let ops = directory.path().join("ops.sock");
    let secret = directory.path().join("url");
    std::fs::write(&secret, format!("{}\n", database.app_url())).unwrap();
    let notified = tokio::net::UnixDatagram::bind(&told).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // A shell puts the socket where systemd does, as descriptor 3, and knows the number of its process.
    let mut serve = std::process::Command::new("sh");
    serve
        .args([
            "-c",
            "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_cimd-cache"),
        ])
        .args(["serve", "--listen", "systemd:cache,read", "--ops-listen", &format!("unix:{}", ops.display())])
        .env("DATABASE_URL_FILE", &secret)
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "cache")
        .env("NOTIFY_SOCKET", &told)
        .stdin(std::os::fd::OwnedFd::from(listener))
        .stderr(std::process::Stdio::null());
    let mut serve = serve.spawn().unwrap();
    let mut message = [0; 64];
    let mut next = async || {
        let length = notified.recv(&mut message).await.unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    assert_eq!(next().await, "READY=1\n");
    let mut client = Client::new(UnixStream::connect(&socket).await.unwrap());
    assert_eq!(client.call(&get(ENCODED), None).await.json()["outcome"], "miss");
    assert_eq!(client.call("POST /v1/purge", None).await.problem(), (403, "role".to_owned()));
    let probe = ["health", "--ready", "--ops", &format!("unix:{}", ops.display())];
    while command(&probe, "").await.status.code() != Some(0) {}
    kill_process(Pid::from_raw(serve.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(next().await, "STOPPING=1\n");
    assert_eq!(serve.wait().unwrap().code(), Some(0));
    assert!(socket.exists() && !ops.exists());
}
