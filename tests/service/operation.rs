//! How the service stops, and what operators see of it.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::http::{Answer, Client};
use support::{Database, ID, document, one, row};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::{ENCODED, Service, get};
use crate::program::{command, parts, program};

/// A service that is told to stop answers what it has let in, and then nobody can connect.
#[tokio::test]
async fn calls_in_flight_are_answered_before_the_service_ends() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let socket = service.socket();
    let mut client = service.client().await;
    let mut idle = service.client().await;
    assert_eq!(idle.call(&get(ENCODED), None).await.status, 200);
    let mut admin = database.admin().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.client_id_metadata in exclusive mode").await.unwrap();
    let put = format!("PUT /v1/document?client_id={ENCODED}&ticket=none&expires_in=60");
    let put = tokio::spawn(async move { client.call(&put, Some(&document(1))).await });
    let waits =
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and usename = 'cimd_cache_app'";
    let other = database.admin().await;
    while one::<i64>(&other, waits, &[]).await == 0 {}
    let stopping = tokio::spawn(service.stop());
    while UnixStream::connect(&socket).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished());
    lock.rollback().await.unwrap();
    assert_eq!(put.await.unwrap().json(), json!({ "outcome": "stored" }));
    stopping.await.unwrap();
    assert!(row(&other, ID).await.is_some());
}

/// Whoever operates it learns how it is, and nothing about clients.
#[tokio::test]
async fn operators_see_health_and_counts() {
    let database = Database::new().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let service = Service::start_with(&database, |mut settings| {
        settings.ops_listen = Some(free);
        settings
    })
    .await;
    let ask = async |path: &str| -> Answer {
        let mut client = Client::new(TcpStream::connect(free).await.unwrap());
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
    };
    assert_eq!(ask("/health/live").await.body, "live\n");
    while ask("/health/ready").await.status != 200 {}
    let mut client = service.client().await;
    client.call(&get(ENCODED), None).await;
    client.call(&get("a&secret=hush"), None).await;
    assert_eq!(ask("/health/database").await.body, "up\n");
    let metrics = ask("/metrics").await.body;
    for line in [
        "cimd_cache_calls_total{call=\"get\",outcome=\"miss\"} 1",
        "cimd_cache_problems_total{code=\"unknown-parameter\"} 1",
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
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let service = Service::start_with(&database, |mut settings| {
        settings.max_connections = 2;
        settings.ops_listen = Some(free);
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
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
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

    for (arguments, status, text) in [
        (&["serve"][..], 3, "no database is configured"),
        (
            &["--database-url", "postgres://u@/d?host=/tmp", "serve", "--listen", "tcp:127.0.0.1:0"],
            2,
            "needs a token",
        ),
        (&["--database-url", "postgres://u@/d?host=/tmp", "serve", "--listen", "tcp:0.0.0.0:0"], 2, "no TLS"),
        (
            &["--database-url", "postgres://u@/d?host=/tmp", "serve", "--listen", "unix:/nonexistent/x"],
            2,
            "cannot listen",
        ),
        (&["--database-url", "postgres://u@/d?host=/tmp", "serve", "--listen", "nonsense"], 2, "unix:/path"),
    ] {
        let (exit, _, err) = parts(command(arguments, "").await);
        assert_eq!((exit, err.contains(text)), (status, true), "{arguments:?}: {err}");
    }
}
