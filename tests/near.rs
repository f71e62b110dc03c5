//! The near cache: documents in the memory of a node, in front of a real database.

use std::time::{Duration, SystemTime};

use cimd_cache::{Cache, Error, Expiry, Lookup, PutOutcome};
use support::{Database, HOUR, ID, document, hit, miss, one, version};

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
    assert_eq!(node.put(ID, &document(2), HOUR, Some(&second.ticket)).await, Ok(PutOutcome::Stored));
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
    node.purge().await.unwrap();
    miss(&node, ID).await;
}

/// The one thing that the near cache may do otherwise than the contract says, and its end.
#[tokio::test]
async fn changes_by_another_node_are_seen_later() {
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
    // A document that is known to be outdated is not served again.
    let mut outdated = hit(&node, ID).await.ticket;
    other.purge().await.unwrap();
    assert_eq!(node.put(ID, &document(3), HOUR, Some(&outdated)).await, Ok(PutOutcome::Superseded));
    outdated = miss(&node, ID).await;
    assert_eq!(node.put(ID, &document(3), HOUR, Some(&outdated)).await, Ok(PutOutcome::Stored));
}

#[tokio::test]
async fn a_put_by_another_node_after_a_miss_is_found_at_once() {
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

/// However many gets of a key come at once: one that began after the expiry is not answered by a statement
/// from before.
#[tokio::test]
async fn a_get_never_shares_an_answer_from_before_it_began() {
    let database = Database::new().await;
    let builder = Cache::builder().database_url(&database.app_url()).deadline(Duration::from_secs(20));
    let node = builder.near_ttl(MINUTE).build().unwrap();
    let (admin, watcher) = (database.admin().await, database.admin().await);
    // Once it is prepared, a get's now is that of its arrival, and not of the end of its wait for the lock.
    miss(&node, "https://other.example/").await;
    node.put(ID, &document(1), Expiry::After(Duration::from_secs(1)), None).await.unwrap();
    let lock = "begin; lock table cimd_cache.client_id_metadata in access exclusive mode";
    admin.batch_execute(lock).await.unwrap();
    let ask = || {
        let node = node.clone();
        tokio::spawn(async move { node.get(ID).await.map(|lookup| version(&lookup)) })
    };
    let before = ask();
    let waiting = "select exists (select from pg_locks where not granted and database = \
                   (select oid from pg_database where datname = current_database()))";
    while !one::<bool>(&watcher, waiting, &[]).await {}
    let until = "select clock_timestamp() + interval '1100 milliseconds'";
    let until: SystemTime = one(&watcher, until, &[]).await;
    while one::<SystemTime>(&watcher, "select clock_timestamp()", &[]).await < until {}
    let after = ask();
    while node.stats().in_flight < 2 {
        tokio::task::yield_now().await;
    }
    admin.batch_execute("rollback").await.unwrap();
    assert_eq!(before.await.unwrap(), Ok(Some(1)), "it was fresh when that was read");
    assert_eq!(after.await.unwrap(), Ok(None));
}

/// When the database is in trouble, hits are what is left.
#[tokio::test]
async fn puts_that_are_refused_or_shed_or_never_sent_cost_no_hits() {
    let database = Database::new().await;
    let builder = Cache::builder().database_url(&database.app_url()).near_ttl(MINUTE);
    let node = builder.write_connections(1).max_waiting(8).build().unwrap();
    let mut admin = database.admin().await;
    let ids: Vec<_> = (0..8).map(|number| format!("https://client.example/{number}")).collect();
    for id in &ids {
        node.put(id, &document(1), HOUR, None).await.unwrap();
        hit(&node, id).await;
    }
    let hits_cost_nothing = async || {
        let before = node.stats();
        for id in &ids {
            hit(&node, id).await;
        }
        let after = node.stats();
        assert_eq!((after.near_hits - before.near_hits, after.statements - before.statements), (8, 0));
    };
    hits_cost_nothing().await;
    // By the rules, and by the database: as if its disk were full.
    let refuse = "create function cimd_cache.refuse() returns trigger language plpgsql as
                    $$ begin raise 'full' using errcode = '53100'; end $$;
                  create trigger refuse before insert on cimd_cache.client_id_metadata
                    for each row execute function cimd_cache.refuse();";
    admin.batch_execute(refuse).await.unwrap();
    for id in &ids {
        assert!(matches!(node.put(id, "none", HOUR, None).await, Err(Error::InvalidMetadata(_))));
        assert_eq!(node.put(id, &document(2), HOUR, None).await, Err(Error::Storage));
    }
    hits_cost_nothing().await;
    admin.batch_execute("drop trigger refuse on cimd_cache.client_id_metadata").await.unwrap();

    // One hangs, and those behind it are shed, or their callers leave: none of them is ever sent.
    let lock = admin.transaction().await.unwrap();
    let row = "insert into cimd_cache.client_id_metadata (url, metadata, expires_at, inserted_at, fetched_at, after_purge)
               values ('https://other.example/', '{}', now(), now(), now(), now())";
    lock.batch_execute(row).await.unwrap();
    let hangs = tokio::spawn({
        let node = node.clone();
        async move { node.put("https://other.example/", "{}", HOUR, None).await }
    });
    while node.stats().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    let hurried = node.with_deadline(Duration::from_millis(20));
    for _ in 0..4 {
        let document = document(2);
        let puts = ids.iter().map(|id| hurried.put(id, &document, HOUR, None));
        let outcomes = futures_util::future::join_all(puts).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Err(Error::Unavailable)), "{outcomes:?}");
    }
    hits_cost_nothing().await;
    lock.rollback().await.unwrap();
    assert_eq!(hangs.await.unwrap(), Ok(PutOutcome::Stored));
    hits_cost_nothing().await;
}

/// A caller that does not wait for its delete must not be answered from memory as if there had been none.
#[tokio::test]
async fn a_write_in_flight_is_not_answered_from_memory_though_its_caller_has_gone() {
    let database = Database::new().await;
    let node = near(&database, MINUTE);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    hit(&node, ID).await;
    let mut admin = database.admin().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("select from cimd_cache.client_id_metadata for update").await.unwrap();
    let hurried = node.with_deadline(Duration::from_millis(50));
    assert_eq!(hurried.delete(ID).await, Err(Error::TimedOut));
    let before = node.stats();
    hit(&node, ID).await;
    assert_eq!(node.stats().near_hits, before.near_hits, "the database was asked");
    lock.rollback().await.unwrap();
    // The delete goes on without its caller.
    let gone = async { while version(&node.get(ID).await.unwrap()).is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
}
