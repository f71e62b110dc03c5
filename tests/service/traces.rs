//! Traces for a collector, with the feature `otlp`.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::Database;
use support::service::connected;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{ENCODED, get};
use crate::program::program;

/// A request's span belongs to the trace that the client has begun, and says nothing of whom it is about.
#[tokio::test]
async fn a_span_belongs_to_the_trace_of_its_request_and_names_no_client() {
    let database = Database::new().await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("cache.sock");
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let mut serve = program();
    serve.args(["serve", "--listen", &format!("unix:{}", socket.display()), "--otlp-endpoint", &endpoint]);
    let mut serve = serve.env("DATABASE_URL", database.app_url()).spawn().unwrap();
    let mut client = connected(&socket).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let request = format!(
        "{} HTTP/1.1\r\nHost: x\r\ntraceparent: 00-{trace}-b7ad6b7169203331-01\r\n\r\n",
        get(ENCODED)
    );
    assert_eq!(client.send(&request).await.json()["outcome"], "miss");
    // What has not been sent when it ends is sent then.
    kill_process(Pid::from_raw(serve.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    let (mut sent, mut received) = (collector.accept().await.unwrap().0, Vec::new());
    let bytes: Vec<u8> = trace
        .as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect();
    let has = |received: &[u8], part: &[u8]| received.windows(part.len()).any(|window| window == part);
    // Two spans: of the request, and of the library's call.
    let spans = |received: &[u8]| received.windows(bytes.len()).filter(|window| *window == bytes).count();
    while spans(&received) < 2 || !has(&received, b"lookup") || !has(&received, b"miss") {
        let read = tokio::time::timeout(Duration::from_secs(10), sent.read_buf(&mut received)).await;
        assert_ne!(read.expect("no more is sent").unwrap(), 0, "{}", String::from_utf8_lossy(&received));
    }
    sent.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert!(received.starts_with(b"POST /v1/traces "));
    assert!(!has(&received, b"client.example") && !has(&received, b"metadata.json"));
    assert_eq!(tokio::task::spawn_blocking(move || serve.wait().unwrap().code()).await.unwrap(), Some(0));
}
