//! A primary dies, and its standby takes its place.

use std::time::Duration;

use cimd_cache_simulator::history::Answer;

use crate::load::Load;
use crate::record::{Caller, Record, Seconds};
use crate::scene::{Allowed, Scene, Setting, Stage, node, turn};
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

/// A commit that waits for a standby which is gone ends by no time limit of the server's. Puts time out; the connections
/// given up meanwhile are few, and the server is asked to let go of them; gets go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_hang() {
    let mut scene = Scene::set("commits hang for 10 s (no synchronous standby)", Setting::default()).await;
    scene
        .fault(async |server| {
            let admin = server.admin().await;
            for value in ["'nobody'", "''"] {
                // A commit of its own would hang too.
                let set = format!("alter system set synchronous_standby_names = {value}");
                admin.batch_execute(&set).await.unwrap();
                admin.batch_execute("select pg_reload_conf()").await.unwrap();
                if value == "'nobody'" {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
            }
        })
        .await;
    scene.end(Allowed { gets: false, left_over: 4, ..Allowed::default() }).await;
}

/// What is lost with an asynchronous one is the last moments: what was replaced is served again until it expires, and so
/// is what was deleted. The cache cannot know.
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
