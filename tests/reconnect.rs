//! 14: connections that are lost, fall silent or cannot be had, and what becomes of the calls meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cimd_cache::{Cache, CheckError, ConnectError, Error};
use support::{Database, HOUR, ID, Log, document, hit, one, ticket, version};

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

/// 14: what a server says of its connections to others (Citus and foreign data wrappers pass it on as an
/// error) is no reason to give up the one to it, with all calls that need it.
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

/// 14: even if no caller waits until its call times out.
#[tokio::test]
async fn a_connection_that_falls_silent_is_replaced_though_all_callers_give_up() {
    let database = Database::new().await;
    let (url, silence) = database.tunnel().await;
    let builder = Cache::builder().database_url(&url).deadline(Duration::from_secs(1)).read_connections(1);
    let node = builder.build().unwrap();
    ticket(&node, ID).await;
    silence.send(()).unwrap();
    let found =
        async { while tokio::time::timeout(Duration::from_millis(100), node.get(ID)).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(10), found).await.unwrap();
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
    ticket(&node, ID).await;
}
