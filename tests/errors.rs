//! 13 and 14: when the database is missing, away, slow, or refuses.

use std::time::{Duration, Instant};

use cimd_cache::{BuildError, Builder, Cache, CheckError, ConnectError, Error};
use support::{Database, HOUR, ID, document, hit, miss, one, ticket, version};

/// What each call answers.
async fn answers(node: &Cache) -> [Option<Error>; 5] {
    [
        node.get(ID).await.err(),
        node.put(ID, &document(1), HOUR, None).await.err(),
        node.delete(ID).await.err(),
        node.purge().await.err(),
        node.sweep(1).await.err(),
    ]
}

fn all(error: Error) -> [Option<Error>; 5] {
    [(); 5].map(|()| Some(error.clone()))
}

/// 13
#[tokio::test]
async fn without_a_database_every_call_says_so_or_refuses_its_input_first() {
    let node = Cache::builder().build().unwrap();
    assert_eq!(answers(&node).await, all(Error::NotConfigured));
    assert_eq!(node.check().await, Err(CheckError::NotConfigured));
    assert!(matches!(node.get("").await, Err(Error::InvalidUrl(_))));
    assert!(matches!(node.put(ID, "[]", HOUR, None).await, Err(Error::InvalidMetadata(_))));
}

/// 14
#[tokio::test]
async fn a_database_that_cannot_be_reached_is_unavailable() {
    for url in ["postgres://u@127.0.0.1:1/d", "postgres://u@%2Fnonexistent/d"] {
        let node = Cache::builder().database_url(url).build().unwrap();
        assert_eq!(answers(&node).await, all(Error::Unavailable), "{url}");
        assert_eq!(node.check().await, Err(CheckError::Connection(ConnectError::Unavailable)));
    }
}

/// 14: and a server that accepts and never answers is not waited for longer than the deadline.
#[tokio::test]
async fn no_call_waits_much_longer_than_its_deadline() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://u@{}/d", silent.local_addr().unwrap());
    let node = Cache::builder().database_url(&url).deadline(Duration::from_millis(200)).build().unwrap();
    for call in 0..2 {
        let began = Instant::now();
        assert_eq!(node.get(ID).await, Err(Error::Unavailable));
        // Generous: what is meant is that it ends at all.
        assert!(began.elapsed() < Duration::from_secs(5), "call {call}");
    }
}

/// 14
#[tokio::test]
async fn a_database_that_does_not_answer_in_time_is_timed_out_and_then_works_again() {
    let database = Database::new().await;
    let patient = database.node();
    let node = patient.with_deadline(Duration::from_millis(300));
    let mut admin = database.admin().await;
    // Every connection is open and has its statements prepared.
    assert_eq!(answers(&patient).await, [(); 5].map(|()| None));
    patient.check().await.unwrap();
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.client_id_metadata, cimd_cache.purge").await.unwrap();
    assert_eq!(answers(&node).await, all(Error::TimedOut));
    assert_eq!(node.check().await, Err(CheckError::Connection(ConnectError::TimedOut)));
    lock.rollback().await.unwrap();
    // What timed out may or may not have been applied, also later than what follows; but the node works.
    assert_eq!(answers(&patient).await, [(); 5].map(|()| None));
}

/// 14: what was sent for callers who gave up must not count for ever.
#[tokio::test]
async fn calls_that_were_given_up_keep_no_place() {
    let database = Database::new().await;
    let builder = Cache::builder().database_url(&database.app_url()).read_connections(1);
    let node = builder.build().unwrap();
    ticket(&node, ID).await;
    let mut admin = database.admin().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.client_id_metadata").await.unwrap();
    for _ in 0..5 {
        let given_up = tokio::time::timeout(Duration::from_millis(20), node.get(ID)).await;
        assert!(given_up.is_err());
    }
    lock.rollback().await.unwrap();
    ticket(&node, ID).await;
    ticket(&node, ID).await;
    assert_eq!(node.stats().connections_opened, 1);
}

/// The server's own time limits: what nobody waits for any more is stopped there too, while the lock is still
/// held.
#[tokio::test]
async fn the_server_stops_what_took_too_long() {
    let database = Database::new().await;
    let builder = Cache::builder().database_url(&database.app_url()).deadline(Duration::from_secs(1));
    let node = builder.build().unwrap();
    let (mut admin, observer) = (database.admin().await, database.admin().await);
    node.delete(ID).await.unwrap();
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.client_id_metadata").await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(100), node.delete(ID)).await;
    assert!(given_up.is_err());
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and usename = 'cimd_cache_app' and wait_event_type = 'Lock'";
    assert_eq!(one::<i64>(&observer, waiting, &[]).await, 1);
    let stopped = async { while one::<i64>(&observer, waiting, &[]).await > 0 {} };
    tokio::time::timeout(Duration::from_secs(10), stopped).await.unwrap();
    lock.rollback().await.unwrap();
}

/// 14
#[tokio::test]
async fn a_fault_that_only_an_operator_can_fix_is_storage() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    admin.batch_execute("revoke all on all tables in schema cimd_cache from cimd_cache_app").await.unwrap();
    assert_eq!(answers(&node).await, all(Error::Storage));
    assert!(matches!(node.check().await, Err(CheckError::Privilege { .. })));
    admin.batch_execute("drop schema cimd_cache cascade").await.unwrap();
    assert_eq!(answers(&node).await, all(Error::Storage));
    assert!(matches!(node.check().await, Err(CheckError::SchemaMissing { .. })));

    let no_database = format!("{}_not", database.app_url());
    let node = Cache::builder().database_url(&no_database).build().unwrap();
    assert_eq!(answers(&node).await, all(Error::Storage));
    assert_eq!(node.check().await, Err(CheckError::Connection(ConnectError::NoDatabase)));
}

/// 14: without the row that says what counts, a miss would be a lie.
#[tokio::test]
async fn a_missing_purge_row_is_storage_and_never_a_miss() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    admin.execute("delete from cimd_cache.purge", &[]).await.unwrap();
    assert_eq!(answers(&node).await, all(Error::Storage));
    assert!(matches!(node.check().await, Err(CheckError::PurgeRow { .. })));
}

/// 14
#[tokio::test]
async fn a_table_altered_while_in_use_is_not_noticed() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    for round in 0..3 {
        node.put(ID, &document(round), HOUR, None).await.unwrap();
        hit(&node, ID).await;
        admin
            .batch_execute(&format!(
                "alter table cimd_cache.client_id_metadata add column extra_{round} text"
            ))
            .await
            .unwrap();
        assert_eq!(version(&node.get(ID).await.unwrap()), Some(round));
    }
}

/// 14
#[tokio::test]
async fn a_caller_who_gives_up_leaves_nothing_behind() {
    let database = Database::new().await;
    let node = Cache::builder().database_url(&database.app_url()).read_connections(2).build().unwrap();
    let mut admin = database.admin().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.client_id_metadata").await.unwrap();
    for _ in 0..10 {
        let document = document(1);
        let call = node.put(ID, &document, HOUR, None);
        assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
    }
    lock.rollback().await.unwrap();
    // Both turns are free again.
    let (a, b) = tokio::join!(node.get(ID), node.get(ID));
    assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
}

/// 14: more callers than may be in flight wait for their turn, and for no longer than their deadline.
#[tokio::test]
async fn past_the_bound_a_call_waits_until_its_deadline_and_is_unavailable() {
    let database = Database::new().await;
    let builder = Cache::builder().database_url(&database.app_url()).read_connections(1);
    let node = builder.deadline(Duration::from_secs(20)).build().unwrap();
    let (observer, mut admin) = (database.admin().await, database.admin().await);
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.client_id_metadata").await.unwrap();
    let first = node.clone();
    let first = tokio::spawn(async move { first.get(ID).await });
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    while one::<i64>(&observer, waiting, &[]).await == 0 {
        tokio::task::yield_now().await;
    }
    let hurried = node.with_deadline(Duration::from_millis(50));
    assert_eq!(hurried.get(ID).await, Err(Error::Unavailable));
    lock.rollback().await.unwrap();
    assert!(first.await.unwrap().is_ok());
    miss(&hurried.with_deadline(Duration::from_secs(20)), ID).await;
}

#[tokio::test]
async fn a_setting_out_of_range_is_refused_when_the_cache_is_built() {
    let out_of_range = |builder: Builder| matches!(builder.build(), Err(BuildError::OutOfRange(_)));
    assert!(out_of_range(Cache::builder().deadline(Duration::ZERO)));
    assert!(out_of_range(Cache::builder().deadline(Duration::from_secs(31))));
    assert!(out_of_range(Cache::builder().read_connections(0)));
    assert!(out_of_range(Cache::builder().write_connections(0)));
    assert!(out_of_range(Cache::builder().read_connections(1_001)));
    assert!(out_of_range(Cache::builder().max_batch(0)));
    assert!(out_of_range(Cache::builder().max_batch(33)));
    assert!(out_of_range(Cache::builder().max_waiting(0)));
    assert!(out_of_range(Cache::builder().max_instance_reuse_count(0)));
    let url = Cache::builder().database_url("postgres://alice:hunter2@db.example/d?sslmode=prefer").build();
    let error = url.unwrap_err();
    assert!(matches!(error, BuildError::DatabaseUrl(_)));
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
