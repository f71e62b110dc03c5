//! The service: arguments in, and it runs until a signal.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cimd_cache::Cache;
use cimd_cache_service::{Settings, SocketAccess};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Database, Health, Serve};
use crate::outcome::{Failed, Outcome, print, say, with_causes};

/// How long a probe waits.
const PROBE_WITHIN: Duration = Duration::from_secs(2);

pub(super) async fn serve(database: &Database, arguments: Serve) -> Result<Outcome, Failed> {
    let url = database.url().ok_or(cimd_cache::CheckError::NotConfigured)?;
    let mut builder = Cache::builder()
        .database_url(url)
        .schema(database.schema.clone())
        .deadline(Duration::from_millis(arguments.deadline_ms));
    if arguments.near_ttl_ms > 0 {
        builder = builder.near_ttl(Duration::from_millis(arguments.near_ttl_ms));
    }
    let cache = builder.build()?;
    let mut settings = Settings::default();
    settings.listen = arguments.listen;
    settings.socket = SocketAccess { mode: arguments.socket_mode, group: arguments.socket_group };
    settings.token_files = arguments.token_file;
    settings.hosts = arguments.host;
    settings.ops_listen = arguments.ops_listen;
    settings.sweep_every =
        Some(Duration::from_secs(60 * u64::from(arguments.sweep_every))).filter(|every| !every.is_zero());
    settings.max_connections = arguments.max_connections as usize;
    settings.drain = Duration::from_secs(arguments.drain.into());
    let addresses: Vec<_> = settings.listen.iter().map(|listen| listen.address.to_string()).collect();
    let listening = move || say(&format!("listening on {}", addresses.join(" and ")));
    cimd_cache_service::serve(cache, settings, listening, stopped())
        .await
        .map_err(|error| Failed::usage(with_causes(&error)))?;
    Ok(Outcome::Done)
}

/// Returns at the first SIGTERM or SIGINT. The second one ends the process at once.
async fn stopped() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(Outcome::Interrupted.status().into());
    });
}

pub(super) fn health(arguments: &Health) -> Result<Outcome, Failed> {
    let path = if arguments.ready { "/health/ready" } else { "/health/live" };
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&arguments.ops, PROBE_WITHIN)?;
        stream.set_read_timeout(Some(PROBE_WITHIN))?;
        let host = arguments.ops;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(4_096).read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let unreachable = |error: std::io::Error| {
        Failed::database(format!("the service at {} does not answer: {}", arguments.ops, error.kind()))
    };
    let answer = ask().map_err(unreachable)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    if answer.starts_with("HTTP/1.1 200 ") {
        print(format!("{body}\n"))?;
        Ok(Outcome::Done)
    } else {
        Err(Failed::database(format!(
            "the service at {} is {}",
            arguments.ops,
            if body.is_empty() { "not well" } else { body }
        )))
    }
}
