//! The files of service/deploy: what they name is there.

use std::collections::BTreeSet;

use support::Database;
use support::http::Client;
use support::service::Service;
use tokio::net::UnixStream;

use super::get;
use crate::program::{parts, program};

const DASHBOARD: &str = include_str!("../../service/deploy/grafana.json");
const MANUAL: &str = include_str!("../../docs/operating.md");
const UNIT: &str = include_str!("../../service/deploy/cimd-cache.service");
const SOCKET: &str = include_str!("../../service/deploy/cimd-cache.socket");

/// The names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    text.split(|letter: char| !(letter.is_ascii_lowercase() || letter == '_'))
        .filter(|word| word.starts_with("cimd_cache_") || word.starts_with("process_"))
        .collect()
}

#[tokio::test]
async fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
    let database = Database::new().await;
    let directory = tempfile::tempdir().unwrap();
    let ops = directory.path().join("ops.sock");
    let service = Service::start_with(&database, |mut settings| {
        settings.ops_listen = Some(format!("unix:{}", ops.display()).parse().unwrap());
        settings
    })
    .await;
    let mut client = service.client().await;
    // A family has no series before its first value.
    for id in ["a", "a&b=c"] {
        client.call(&get(id), None).await;
    }
    let mut operator = Client::new(UnixStream::connect(&ops).await.unwrap());
    let text = operator.call("GET /metrics", None).await.body;
    let has = |name: &str| {
        text.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
    };
    let rules = MANUAL.split("```yaml\ngroups:").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let asked: BTreeSet<_> = metrics_in(DASHBOARD).union(&metrics_in(rules)).copied().collect();
    assert!(asked.len() > 20, "{asked:?}");
    let missing: Vec<_> = asked.into_iter().filter(|name| !has(name)).collect();
    assert!(missing.is_empty(), "{missing:?}: {text}");
    service.stop().await;
}

/// The units fit each other and the command.
#[tokio::test]
async fn the_unit_starts_the_service_as_it_can_be_started() {
    let exec =
        UNIT.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/cimd-cache ")).unwrap();
    let mut serve = program();
    serve.args(exec.split(' '));
    let (status, _, err) = parts(tokio::task::spawn_blocking(move || serve.output().unwrap()).await.unwrap());
    // What is wrong with it is only that there is no database.
    assert_eq!(
        (status, err.as_str()),
        (3, "error: no database is configured: give --database-url or set DATABASE_URL\n")
    );
    assert!(exec.contains("--listen systemd:cache ") && SOCKET.contains("\nFileDescriptorName=cache\n"));
    assert!(!UNIT.contains("\nMemoryDenyWriteExecute="));
}
