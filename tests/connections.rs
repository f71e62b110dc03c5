//! What goes over the wire, and how long connections stay.

use std::time::Duration;

use cimd_cache::{Cache, Error, PutOutcome};
use futures_util::FutureExt;
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

/// Calls that were admitted are served first, later calls fail, and then there is no connection any more.
#[tokio::test]
async fn a_cache_that_is_closed_serves_what_it_let_in_and_ends_its_connections() {
    let database = Database::new().await;
    let node = Cache::builder()
        .database_url(&database.app_url())
        .near_ttl(Duration::from_secs(60))
        .deadline(Duration::from_secs(10))
        .build()
        .unwrap();
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    hit(&node, ID).await;
    let mut admin = database.admin().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.client_id_metadata in exclusive mode").await.unwrap();
    let (waiting, closing) = (node.clone(), node.clone());
    let put = tokio::spawn(async move { waiting.put(ID, &document(2), HOUR, None).await });
    while node.stats().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    let mut close = tokio::spawn(async move { closing.close().await });
    while !matches!(node.get("https://later.example/").await, Err(Error::Unavailable)) {}
    assert_eq!(node.get(ID).await, Err(Error::Unavailable), "not even from memory");
    assert_eq!(node.put(ID, &document(3), HOUR, None).await, Err(Error::Unavailable));
    assert!((&mut close).now_or_never().is_none(), "a put is in flight");
    lock.rollback().await.unwrap();
    assert_eq!(put.await.unwrap(), Ok(PutOutcome::Stored));
    close.await.unwrap();
    assert_eq!((node.stats().connections, node.stats().workers), (0, 0));
    let count = "select count(*) from pg_stat_activity where usename = 'cimd_cache_app' and datname = current_database()";
    while one::<i64>(&admin, count, &[]).await > 0 {}
    // Again, and of a clone.
    node.clone().close().await;
}
