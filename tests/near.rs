//! The near tier: documents in the memory of a node, in front of a real database.

use std::time::{Duration, SystemTime};

use cimd_cache::{Cache, Expiry, Lookup, Stored};

use crate::support::{Database, HOUR, ID, document, hit, miss, one, version};

const MINUTE: Duration = Duration::from_secs(60);

fn near(database: &Database, ttl: Duration) -> Cache {
    Cache::builder().database_url(&database.app_url()).near_ttl(ttl).build().unwrap()
}

#[tokio::test]
async fn a_hit_in_memory_asks_nobody_and_is_the_same_document() {
    let database = Database::new().await;
    let node = near(&database, MINUTE);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    let first = hit(&node, ID).await;
    let asked = node.stats().statements;
    let second = hit(&node, ID).await;
    assert_eq!((node.stats().statements, node.stats().near_hits), (asked, 1));
    assert_eq!((&second.metadata, second.expires_at), (&first.metadata, first.expires_at));
    assert!(second.fresh_for <= first.fresh_for);
    // Its ticket is good for a refresh.
    assert_eq!(node.put(ID, &document(2), HOUR, Some(&second.ticket)).await, Ok(Stored::Stored));
}

#[tokio::test]
async fn a_put_or_delete_on_the_node_takes_effect_at_once() {
    let database = Database::new().await;
    let node = near(&database, MINUTE);
    for number in 1..20 {
        node.put(ID, &document(number), HOUR, None).await.unwrap();
        assert_eq!(version(&node.get(ID).await.unwrap()), Some(number));
        assert_eq!(version(&node.get(ID).await.unwrap()), Some(number));
    }
    assert!(node.stats().near_hits > 0);
    assert!(node.delete(ID).await.unwrap());
    miss(&node, ID).await;
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    hit(&node, ID).await;
    node.delete_all().await.unwrap();
    miss(&node, ID).await;
}

/// The one thing that the tier may do otherwise than the contract says, and its end.
#[tokio::test]
async fn what_another_node_does_is_seen_later() {
    let database = Database::new().await;
    let (node, other) = (near(&database, MINUTE), database.node());
    let short = near(&database, Duration::from_millis(50));
    other.put(ID, &document(1), HOUR, None).await.unwrap();
    hit(&node, ID).await;
    hit(&short, ID).await;
    other.put(ID, &document(2), HOUR, None).await.unwrap();
    assert_eq!(version(&node.get(ID).await.unwrap()), Some(1), "within the time to live");
    let seen = async { while version(&short.get(ID).await.unwrap()) != Some(2) {} };
    tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap();
    // What is known to be outdated is not answered again.
    let mut outdated = hit(&node, ID).await.ticket;
    other.delete_all().await.unwrap();
    assert_eq!(node.put(ID, &document(3), HOUR, Some(&outdated)).await, Ok(Stored::Superseded));
    outdated = miss(&node, ID).await;
    assert_eq!(node.put(ID, &document(3), HOUR, Some(&outdated)).await, Ok(Stored::Stored));
}

#[tokio::test]
async fn what_another_node_puts_after_a_miss_is_found_at_once() {
    let database = Database::new().await;
    let (node, other) = (near(&database, MINUTE), database.node());
    miss(&node, ID).await;
    other.put(ID, &document(1), HOUR, None).await.unwrap();
    hit(&node, ID).await;
}

#[tokio::test]
async fn an_expired_document_is_not_served_from_memory() {
    let database = Database::new().await;
    let (node, admin) = (near(&database, MINUTE), database.admin().await);
    node.put(ID, &document(1), Expiry::After(Duration::from_secs(2)), None).await.unwrap();
    let expires_at: SystemTime =
        one(&admin, "select expires_at from cimd_cache.client_id_metadata", &[]).await;
    let until_it_misses = async {
        loop {
            let before: SystemTime = one(&admin, "select clock_timestamp()", &[]).await;
            match node.get(ID).await.unwrap() {
                Lookup::Hit(_) => assert!(before < expires_at, "a hit after the expiry"),
                Lookup::Miss(_) => break,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until_it_misses).await.unwrap();
    assert!(node.stats().near_hits > 0);
}

#[tokio::test]
async fn a_hundred_gets_that_miss_at_once_send_one_query() {
    let database = Database::new().await;
    let (node, admin) = (near(&database, MINUTE), database.admin().await);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    let before = node.stats().statements;
    // Holds the first query until all hundred have come.
    let lock = "begin; lock table cimd_cache.client_id_metadata in access exclusive mode";
    admin.batch_execute(lock).await.unwrap();
    let gets: Vec<_> = (0..100)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.get(ID).await })
        })
        .collect();
    let (watcher, waiting) = (
        database.admin().await,
        "select exists (select from pg_locks where not granted and database = \
         (select oid from pg_database where datname = current_database()))",
    );
    while !one::<bool>(&watcher, waiting, &[]).await {}
    admin.batch_execute("rollback").await.unwrap();
    for get in gets {
        assert_eq!(version(&get.await.unwrap().unwrap()), Some(1));
    }
    assert_eq!(node.stats().statements, before + 1);
}

#[tokio::test]
async fn a_caller_in_a_hurry_does_not_wait_for_the_query_of_others() {
    let database = Database::new().await;
    let (node, admin) = (near(&database, MINUTE), database.admin().await);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    let lock = "begin; lock table cimd_cache.client_id_metadata in access exclusive mode";
    admin.batch_execute(lock).await.unwrap();
    let patient = tokio::spawn({
        let node = node.clone();
        async move { node.get(ID).await }
    });
    let hurried = node.with_deadline(Duration::from_millis(50)).get(ID).await;
    assert_eq!(hurried, Err(cimd_cache::Error::TimedOut));
    admin.batch_execute("rollback").await.unwrap();
    assert_eq!(version(&patient.await.unwrap().unwrap()), Some(1));
}
