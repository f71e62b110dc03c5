//! What goes over the wire, and how long connections stay.

use std::time::Duration;

use cimd_cache::Cache;
use support::{Database, HOUR, ID, document, hit, one};

/// 1: counted on the wire, and the numbers that the cache reports of itself are the same.
#[tokio::test]
async fn a_get_is_one_round_trip_and_prepares_nothing_after_the_first() {
    let database = Database::new().await;
    let (url, wire) = database.observed().await;
    let node = Cache::builder().database_url(&url).read_connections(1).write_connections(1).build().unwrap();
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    hit(&node, ID).await;
    let (warm, stats) = (wire.seen(), node.stats());
    for _ in 0..50 {
        hit(&node, ID).await;
    }
    assert_eq!((wire.seen().prepared - warm.prepared, wire.seen().round_trips - warm.round_trips), (0, 50));
    assert_eq!(
        (
            node.stats().statements_prepared - stats.statements_prepared,
            node.stats().statements - stats.statements
        ),
        (0, 50)
    );
    for number in 0..50 {
        node.put(ID, &document(number), HOUR, None).await.unwrap();
    }
    assert_eq!((wire.seen().prepared - warm.prepared, wire.seen().round_trips - warm.round_trips), (0, 100));
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed_and_opened_again_when_needed() {
    let database = Database::new().await;
    let admin = database.admin().await;
    let node = Cache::builder()
        .database_url(&database.app_url())
        .idle_timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    hit(&node, ID).await;
    let open = "select count(*) from pg_stat_activity where usename = 'cimd_cache_app' and datname = $1";
    let closed = async { while one::<i64>(&admin, open, &[&database.name]).await > 0 {} };
    tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap();
    hit(&node, ID).await;
    assert_eq!(node.stats().connections_opened, 3);
}
