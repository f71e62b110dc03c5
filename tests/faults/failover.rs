//! A primary dies, and its standby takes its place.

use std::time::{Duration, Instant};

use cimd_cache::{Expiry, Lookup, PutOutcome};
use cimd_cache_simulator::history::Answer;

use crate::load::Load;
use crate::node::{CONNECTIONS, node};
use crate::record::{Caller, Record, Seconds};
use crate::scene::{Allowed, Scene, Setting, Stage, turn};
use crate::server::Server;

/// A primary with a standby that has caught up, and a URL that names both.
async fn pair() -> (Server, Server, String) {
    let primary = Server::start(&[], None).await;
    let standby = primary.start_standby(&[]);
    until(&primary, "select count(*) = 1 from pg_stat_replication where state = 'streaming'").await;
    let url = format!("postgres://cimd_cache_app@{},{}/auth", primary.host(), standby.host());
    (primary, standby, url)
}

async fn until(server: &Server, condition: &str) {
    let admin = server.admin().await;
    let fulfilled = async {
        while !admin.query_one(condition, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), fulfilled).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_standby_loses_nothing() {
    let turn = turn().await;
    let (primary, standby, url) = pair().await;
    let admin = primary.admin().await;
    admin.batch_execute("alter system set synchronous_standby_names = 'standby'").await.unwrap();
    admin.batch_execute("select pg_reload_conf()").await.unwrap();
    until(&primary, "select count(*) = 1 from pg_stat_replication where sync_state = 'sync'").await;
    let nodes = vec![node(&url), node(&url)];
    let mut scene = Scene::play(
        "primary killed, synchronous standby promoted",
        Stage { turn, server: primary, nodes },
        Load::default(),
    )
    .await;
    scene
        .fault(async |primary| {
            primary.crash().await;
            let promoted = standby.admin().await.query_one("select pg_promote()", &[]).await.unwrap();
            assert!(promoted.get::<_, bool>(0));
        })
        .await;
    scene.end(Allowed::default()).await;
}

/// Makes commits wait for a standby that there is not, or not any more. A commit of its own would wait too.
async fn commits_wait(server: &Server, wait: bool) {
    let admin = server.admin().await;
    let name = if wait { "'nobody'" } else { "''" };
    admin.batch_execute(&format!("alter system set synchronous_standby_names = {name}")).await.unwrap();
    admin.batch_execute("select pg_reload_conf()").await.unwrap();
}

/// A commit that waits for a standby which is gone ends by no time limit of the server's. Puts time out;
/// their connections are kept, because the server says that it is at work for them, so that no process is
/// left behind; gets go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_hang() {
    let mut scene = Scene::set("commits hang for 10 s (no synchronous standby)", Setting::default()).await;
    scene
        .fault(async |server| {
            commits_wait(server, true).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
            commits_wait(server, false).await;
        })
        .await;
    scene.end(Allowed { gets: false, ..Allowed::default() }).await;
}

/// What a failover would take back must not be seen before it is safe: so a commit that waits is never
/// cancelled, which would end the wait and make it visible.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_waits_for_a_standby_is_not_shown_early() {
    let _turn = turn().await;
    let server = Server::start(&[], None).await;
    let cache = node(&server.url("cimd_cache_app"));
    let hour = Expiry::After(Duration::from_secs(3_600));
    let ids: Vec<_> = (0..8).map(|number| format!("https://client.example/{number}")).collect();
    let seen = async |text: &str| {
        let mut seen = 0;
        for id in &ids {
            seen +=
                usize::from(matches!(cache.get(id).await, Ok(Lookup::Hit(entry)) if entry.metadata == text));
        }
        seen
    };
    for id in &ids {
        assert_eq!(cache.put(id, r#"{"a": 1}"#, hour, None).await, Ok(PutOutcome::Stored));
    }
    commits_wait(&server, true).await;
    // Each process of the server learns of it by itself.
    let warm = async || {
        let puts = [0, 1]
            .map(|number| cache.put(["https://a.example/", "https://b.example/"][number], "{}", hour, None));
        futures_util::future::join_all(puts).await.iter().all(Result::is_err)
    };
    while !warm().await {}
    let end = Instant::now() + 4 * crate::node::DEADLINE;
    while Instant::now() < end {
        let puts = ids.iter().map(|id| cache.put(id, r#"{"a": 2}"#, hour, None));
        let outcomes = futures_util::future::join_all(puts).await;
        assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
        assert_eq!(seen(r#"{"a": 1}"#).await, ids.len());
    }
    let processes = "select count(*) <= 5 from pg_stat_activity where usename = 'cimd_cache_app'";
    until(&server, processes).await;
    assert_eq!(cache.stats().silent, 2);
    commits_wait(&server, false).await;
    // Each connection is as good as before.
    let back = async {
        while cache.stats().silent > 0 {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(10), back).await.unwrap();
    assert_eq!(cache.put(&ids[0], r#"{"a": 3}"#, hour, None).await, Ok(PutOutcome::Stored));
    assert!(cache.stats().connections_opened <= CONNECTIONS as u64, "{:?}", cache.stats());
}

/// What is lost with an asynchronous one is the last moments: what was replaced is served again until it
/// expires, and so is what was deleted. The cache cannot know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asynchronous_standby_loses_the_last_moments() {
    let _turn = turn().await;
    let (primary, standby, url) = pair().await;
    let (record, cache) = (Record::new(), node(&url));
    let caller = Caller { record: &record, node: 0, cache: &cache };
    let hour = Seconds(3_600);
    for key in [1, 2] {
        assert_eq!(caller.put(key, hour, None).await, Answer::Stored);
    }
    until(
        &primary,
        "select coalesce(bool_and(replay_lsn = pg_current_wal_lsn()), false) from pg_stat_replication",
    )
    .await;
    // It falls behind.
    let behind = standby.admin().await;
    behind.batch_execute("alter system set primary_conninfo = ''").await.unwrap();
    behind.batch_execute("select pg_reload_conf()").await.unwrap();
    until(&primary, "select count(*) = 0 from pg_stat_replication").await;
    assert_eq!(caller.put(1, hour, None).await, Answer::Stored);
    caller.delete(2).await;
    assert_eq!(caller.put(3, hour, None).await, Answer::Stored);
    primary.crash().await;
    behind.batch_execute("select pg_promote()").await.unwrap();

    let back = async { while caller.get(1).await.is_none() {} };
    tokio::time::timeout(Duration::from_secs(30), back).await.unwrap();
    for key in [2, 3] {
        caller.get(key).await.unwrap();
    }
    let found = |call: &cimd_cache_simulator::history::Call| match call.answer {
        Answer::Hit { document, .. } => Some(Some(document)),
        Answer::Miss { .. } => Some(None),
        _ => None,
    };
    let found: Vec<_> = record.take().iter().filter_map(found).collect();
    assert_eq!(found, [Some(0), Some(1), None], "the first document, the deleted one, and none");
}
