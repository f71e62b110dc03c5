//! 13 and 14: when the database is missing, away, slow, or refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cimd_cache::{BuildError, Builder, Cache, CheckError, ConnectError, Error};
use support::{Database, HOUR, ID, Log, document, hit, miss, one, version};

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

/// 14: however many callers want it, a node tries again with pauses.
#[tokio::test]
async fn a_server_that_ends_every_connection_is_not_stormed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://u@{}/d", listener.local_addr().unwrap());
    let attempts = Arc::<AtomicUsize>::default();
    let counted = attempts.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(connection);
        }
    });
    let node = Cache::builder().database_url(&url).read_connections(1).build().unwrap();
    let (until, mut failed) = (Instant::now() + Duration::from_secs(2), 0);
    while Instant::now() < until {
        for answer in futures_util::future::join_all((0..20).map(|_| node.get(ID))).await {
            assert_eq!(answer, Err(Error::Unavailable));
            failed += 1;
        }
    }
    // At the least 12, 25, 50, 100, 200 and then 250 milliseconds lie between two attempts.
    let attempts = attempts.load(Ordering::Relaxed);
    assert!((4..=13).contains(&attempts), "{attempts} attempts for {failed} calls");
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

/// 14
#[tokio::test]
async fn a_lost_connection_is_replaced() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    for round in 0..5 {
        node.put(ID, &document(round), HOUR, None).await.unwrap();
        let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                    where datname = current_database() and usename = 'cimd_cache_app'";
        assert!(one::<i64>(&admin, kill, &[]).await > 0);
        // A get only reads, so it is tried again on a new connection.
        assert_eq!(version(&node.get(ID).await.unwrap()), Some(round));
        // A put is not, but the next one works.
        while let Err(error) = node.put(ID, &document(round), HOUR, None).await {
            assert_eq!(error, Error::Unavailable);
        }
    }
}

/// 14: what a server says of its connections to others (Citus and foreign data wrappers pass it on as an error) is no
/// reason to give up the one to it, with all calls that need it.
#[tokio::test]
async fn an_error_of_another_server_s_connection_ends_none() {
    let database = Database::new().await;
    let admin = database.admin().await;
    let narrow = Cache::builder().database_url(&database.app_url()).read_connections(1).write_connections(1);
    let node = narrow.build().unwrap();
    admin
        .batch_execute(
            "create sequence cimd_cache.gets;
             create function cimd_cache.fail(state text) returns boolean language plpgsql security definer as
             $$ begin raise 'passed on' using errcode = state; end $$;
             create function cimd_cache.fail_put() returns trigger language plpgsql as
             $$ begin perform cimd_cache.fail(pg_catalog.right(new.url, 5)); return new; end $$;
             create trigger fail before insert on cimd_cache.client_id_metadata
             for each row when (new.url like '%/state/_____') execute function cimd_cache.fail_put();",
        )
        .await
        .unwrap();
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    hit(&node, ID).await;
    let connections = node.stats().connections_opened;
    let log = Log::default();
    let _guard = log.listen();

    let states = ["08000", "08003", "08006", "08P01", "57P01", "57P02", "57P03", "57P05", "25006"];
    for (state, other) in states.into_iter().zip(0..) {
        let id = format!("https://client.example/state/{state}");
        let document = document(1).replace(ID, &id);
        let (refused, others) = tokio::join!(
            node.put(&id, &document, HOUR, None),
            futures_util::future::join_all((0..10).map(|number| {
                let (node, id) = (&node, format!("https://client.example/{other}/{number}"));
                async move { node.put(&id, &self::document(1).replace(ID, &id), HOUR, None).await }
            })),
        );
        assert_eq!(refused, Err(Error::Unavailable), "{state}");
        assert!(others.iter().all(Result::is_ok), "{state}: {others:?}");
        assert_eq!(node.stats().connections_opened, connections, "{state}");
    }

    // Nor does a statement that another server does not know mean that a pooler mixes up ours.
    assert!(!log.text().contains("a pooler mixes up"), "{}", log.text());

    // A get is sent once more on the same connection: the server's own next one may be as good as new.
    admin
        .batch_execute(
            "alter table cimd_cache.client_id_metadata rename to moved;
             create function cimd_cache.pass() returns boolean language sql security definer as
             $$ select case when nextval('cimd_cache.gets') in (1, 3, 4) then cimd_cache.fail('08006') else true end $$;
             create view cimd_cache.client_id_metadata as
             select * from cimd_cache.moved where (select cimd_cache.pass());
             grant select on cimd_cache.client_id_metadata to cimd_cache_app;",
        )
        .await
        .unwrap();
    hit(&node, ID).await;
    assert_eq!(node.get(ID).await, Err(Error::Unavailable));
    hit(&node, ID).await;
    assert_eq!(node.stats().connections_opened, connections);
}

/// 14: a firewall that forgot the connection, say.
#[tokio::test]
async fn a_connection_that_falls_silent_is_replaced() {
    let database = Database::new().await;
    let (url, silence) = database.tunnel().await;
    let node = Cache::builder().database_url(&url).deadline(Duration::from_secs(1)).build().unwrap();
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    hit(&node, ID).await;
    for check_notices in [false, true] {
        silence.send(()).unwrap();
        if check_notices {
            assert_eq!(node.check().await, Err(CheckError::Connection(ConnectError::TimedOut)));
            assert!(node.check().await.is_ok());
        } else {
            assert_eq!(node.get(ID).await, Err(Error::TimedOut));
        }
        hit(&node, ID).await;
    }
}

/// 14: also if no caller waits so long that its call times out.
#[tokio::test]
async fn a_connection_that_falls_silent_is_replaced_though_all_callers_give_up() {
    let database = Database::new().await;
    let (url, silence) = database.tunnel().await;
    let builder = Cache::builder().database_url(&url).deadline(Duration::from_secs(1)).read_connections(1);
    let node = builder.build().unwrap();
    hit_or_miss(&node).await;
    silence.send(()).unwrap();
    let found =
        async { while tokio::time::timeout(Duration::from_millis(100), node.get(ID)).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(10), found).await.unwrap();
}

/// 14: what was sent for callers who gave up must not count for ever.
#[tokio::test]
async fn calls_that_were_given_up_keep_no_place() {
    let database = Database::new().await;
    let builder = Cache::builder().database_url(&database.app_url()).read_connections(1);
    let node = builder.build().unwrap();
    hit_or_miss(&node).await;
    let mut admin = database.admin().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.client_id_metadata").await.unwrap();
    for _ in 0..5 {
        let given_up = tokio::time::timeout(Duration::from_millis(20), node.get(ID)).await;
        assert!(given_up.is_err());
    }
    lock.rollback().await.unwrap();
    hit_or_miss(&node).await;
    hit_or_miss(&node).await;
    assert_eq!(node.stats().connections_opened, 1);
}

/// The server's own time limits: what nobody waits for any more is stopped there too, while the lock is still held.
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

/// 14: of several hosts one that accepts and says nothing does not hold up the others.
#[tokio::test]
async fn a_silent_host_does_not_hold_up_the_next() {
    let database = Database::new().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (user, other) = ("postgres://cimd_cache_app@", database.app_url());
    let other = other.strip_prefix(user).unwrap();
    let url = format!("{user}{},{other}", silent.local_addr().unwrap());
    let node = Cache::builder().database_url(&url).build().unwrap();
    hit_or_miss(&node).await;
}

async fn hit_or_miss(node: &Cache) {
    node.get(ID).await.unwrap();
}

/// 14
#[tokio::test]
async fn what_only_an_operator_can_mend_is_storage() {
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
