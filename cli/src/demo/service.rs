//! The end of the demo: the same cache, called over HTTP.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cimd_cache::Cache;
use cimd_cache_service::{Address, Listen, Roles, Settings, start};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{example, heading, hit, line};

/// Serves one node, and calls it as a program in any language does.
pub(super) async fn show(served: &Cache, other: &Cache) -> Result<()> {
    heading("A program in any language calls the service, `cimd-cache serve`, over a Unix socket.")?;
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("cache.sock");
    let mut settings = Settings::default();
    settings.listen = vec![Listen { address: Address::Unix(socket.clone()), roles: Roles::ALL }];
    let service = start(served.clone(), settings).await?;

    let (id, document) = example("served");
    let path = format!("/v1/document?client_id={}", id.replace(':', "%3A").replace('/', "%2F"));
    let since = Instant::now();
    let missed = call(&socket, &format!("GET {path}"), "").await?;
    ensure!(missed["outcome"] == "miss", "the service answers {missed}");
    line("GET     misses, with a ticket", since)?;
    let since = Instant::now();
    let ticket = missed["ticket"].as_str().context("a miss without a ticket")?;
    let stored = call(&socket, &format!("PUT {path}&ticket={ticket}&expires_in=3600"), &document).await?;
    ensure!(stored["outcome"] == "stored", "the service answers {stored}");
    line("PUT     stores the document with that ticket", since)?;
    let since = Instant::now();
    let found = call(&socket, &format!("GET {path}"), "").await?;
    ensure!(found["metadata"] == serde_json::from_str::<Value>(&document)?, "the service answers {found}");
    line("GET     hits", since)?;
    let since = Instant::now();
    hit(other, &id, &document).await?;
    line("B hits  it too: the service is one more node", since)?;
    let since = Instant::now();
    let deleted = call(&socket, &format!("DELETE {path}"), "").await?;
    ensure!(deleted["had_document"] == true, "the service answers {deleted}");
    line("DELETE  removes it, for all nodes", since)?;
    Ok(service.stop().await?)
}

/// A call over a connection of its own: what curl does.
async fn call(socket: &Path, request: &str, body: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).await?;
    let length = body.len();
    let request = format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    Ok(serde_json::from_str(body)?)
}
