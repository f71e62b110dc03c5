//! What the log tells an operator, and what it never does.

use std::time::Duration;

use cimd_cache::{Cache, Error};
use cimd_cache_hostile::COMPONENT as HOSTILE;
use support::{Database, HOUR, Log, document, hit, miss, one};
use tracing::Instrument;

/// The lines at info and above, which are what runs in production.
fn loud(log: &Log) -> Vec<String> {
    let levels = [" INFO ", " WARN ", "ERROR "];
    let text = log.text();
    text.lines().filter(|line| levels.iter().any(|level| line.contains(level))).map(str::to_owned).collect()
}

fn has(lines: &[String], words: &[&str]) -> bool {
    lines.iter().any(|line| words.iter().all(|word| line.contains(word)))
}

const SECRET_ID: &str = "https://client.example/metadata.json?token=hush";

#[tokio::test]
async fn a_connection_that_is_lost_and_regained_is_told_by_its_purpose() {
    let (database, log) = (Database::new().await, Log::default());
    let _listening = log.listen();
    let (node, admin) = (database.node(), database.admin().await);
    node.put(SECRET_ID, &document(1), HOUR, None).await.unwrap();
    hit(&node, SECRET_ID).await;
    assert_eq!(loud(&log), [""; 0], "nothing is said while all is well");
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                where datname = current_database() and usename = 'cimd_cache_app'";
    assert_eq!(one::<i64>(&admin, kill, &[]).await, 2);
    hit(&node, SECRET_ID).await;
    let lines = loud(&log);
    assert!(has(&lines, &["WARN", "the database connection is lost", "purpose"]), "{lines:#?}");
    assert!(has(&lines, &["INFO", "connected to the database again", "purpose"]), "{lines:#?}");
    assert!(!has(&lines, &["client.example"]), "{lines:#?}");
}

#[tokio::test]
async fn a_database_that_is_away_is_told_once_a_second_and_not_for_each_call() {
    let log = Log::default();
    let _listening = log.listen();
    let url = "postgres://alice:hunter2@127.0.0.1:1/d";
    let node = Cache::builder().database_url(url).read_connections(1).build().unwrap();
    for _ in 0..20 {
        let calls = (0..20).map(|_| node.get(SECRET_ID));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer, Err(Error::Unavailable));
        }
    }
    let lines = loud(&log);
    let failed: Vec<_> = lines.iter().filter(|line| line.contains("a statement failed")).collect();
    // The 400 calls take some seconds, because attempts to connect wait longer and longer.
    assert!((1..40).contains(&failed.len()), "{failed:#?}");
    assert!(has(&lines, &["WARN", "cannot connect to the database", "Connection refused"]), "{lines:#?}");
    assert!(!log.text().contains("hunter2"));
    assert!(!has(&lines, &["client.example"]), "{lines:#?}");
}

/// However many calls and connections there are: a kind of line is a kind for all of them.
#[tokio::test]
async fn each_kind_of_line_is_written_once_a_second_at_most() {
    let (database, log) = (Database::new().await, Log::default());
    let _listening = log.listen();
    let node = Cache::builder().database_url(&database.app_url()).build().unwrap();
    let admin = database.admin().await;
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let document = document(1);
        let gets = futures_util::future::join_all((0..40).map(|_| node.get(SECRET_ID)));
        let ids: Vec<_> = (0..40).map(|number| format!("{SECRET_ID}{number}")).collect();
        let puts = futures_util::future::join_all(ids.iter().map(|id| node.put(id, &document, HOUR, None)));
        let kill = "select pg_terminate_backend(pid) from pg_stat_activity
                    where datname = current_database() and usename = 'cimd_cache_app'";
        let (_, _, killed) = tokio::join!(gets, puts, admin.batch_execute(kill));
        killed.unwrap();
    }
    let most = began.elapsed().as_secs() as usize + 1;
    let lines = loud(&log);
    for kind in [
        "the database connection is lost",
        "cannot connect",
        "connected to the database again",
        "a call is shed",
    ] {
        let count = lines.iter().filter(|line| line.contains(kind)).count();
        assert!(count <= most, "{count} lines in {most} s: {kind}");
    }
    assert!(has(&lines, &["the database connection is lost", "suppressed="]), "{lines:#?}");
    for statement in ["get", "get-many", "put", "clock"] {
        let failed = format!("statement=\"{statement}\"");
        let count = lines.iter().filter(|line| line.contains(&failed)).count();
        assert!(count <= most, "{count} lines in {most} s: {statement}");
    }
}

/// Two calls wait where one may: the third fails at once, and not after its deadline.
#[tokio::test]
async fn a_call_that_is_shed_is_told_and_counted() {
    let (database, log) = (Database::new().await, Log::default());
    let _listening = log.listen();
    let node = Cache::builder()
        .database_url(&database.app_url())
        .read_connections(1)
        .max_waiting(1)
        .build()
        .unwrap();
    node.check().await.unwrap();
    let mut admin = database.admin().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.client_id_metadata").await.unwrap();
    let first = tokio::spawn({
        let node = node.clone();
        async move { node.get(SECRET_ID).await }
    });
    while node.stats().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    let patient = node.with_deadline(Duration::from_secs(20));
    let (second, third) = tokio::join!(patient.get(SECRET_ID), node.get(SECRET_ID));
    assert_eq!((first.await.unwrap(), third), (Err(Error::TimedOut), Err(Error::Unavailable)));
    assert_eq!(second, Err(Error::TimedOut));
    assert_eq!(node.stats().shed, 1);
    let lines = loud(&log);
    assert!(has(&lines, &["WARN", "a call is shed", "queue=\"reads\"", "waiting=1"]), "{lines:#?}");
    lock.rollback().await.unwrap();
}

#[tokio::test]
async fn an_instance_that_is_discarded_and_a_statement_that_is_refused_are_told_with_the_reason() {
    let (database, log) = (Database::new().await, Log::default());
    let _listening = log.listen();
    let builder = Cache::builder().database_url(&database.app_url()).component(HOSTILE).read_connections(1);
    let node = builder.build().unwrap();
    assert_eq!(node.get("trap").await, Err(Error::Storage));
    let refused = hit(&node, "query t\nselect 'hush'").await.metadata;
    assert_eq!(refused, "not-allowed");
    let lines = loud(&log);
    assert!(has(&lines, &["ERROR", "its instance is discarded", "unreachable"]), "{lines:#?}");
    assert!(has(&lines, &["ERROR", "a statement that is not on the list was refused"]), "{lines:#?}");
    assert!(!has(&lines, &["hush"]), "{lines:#?}");
    assert_eq!(node.stats().instances_discarded, 1);
}

/// Refused input, and a database that objects to what is put: the log has the server's words, and none of
/// ours.
#[tokio::test]
async fn no_document_and_no_query_part_of_a_url_is_logged() {
    let (database, log) = (Database::new().await, Log::default());
    let _listening = log.listen();
    let (node, admin) = (database.node(), database.admin().await);
    let refuse = "alter table cimd_cache.client_id_metadata add check (metadata->>'version' <> '1')";
    admin.batch_execute(refuse).await.unwrap();
    assert_eq!(node.put(SECRET_ID, &document(1), HOUR, None).await, Err(Error::Storage));
    assert!(node.put(SECRET_ID, "{\"hush\":1", HOUR, None).await.is_err());
    let lines = loud(&log);
    assert!(has(&lines, &["WARN", "a statement failed", "put", "23514"]), "{lines:#?}");
    for secret in ["hush", "client.example", "version"] {
        assert!(!has(&lines, &[secret]), "{secret}: {lines:#?}");
    }
}

/// A trace of a login goes on in the cache: each call is a span within whatever the caller is in.
#[tokio::test]
async fn each_call_is_a_span_of_its_caller_and_says_how_it_ended() {
    let (database, log) = (Database::new().await, Log::default());
    let node =
        Cache::builder().database_url(&database.app_url()).near_ttl(Duration::from_secs(60)).build().unwrap();
    let _listening = log.listen_to_spans();
    let calls = async {
        let ticket = miss(&node, SECRET_ID).await;
        node.put(SECRET_ID, &document(1), HOUR, Some(&ticket)).await.unwrap();
        hit(&node, SECRET_ID).await;
        hit(&node, SECRET_ID).await;
        assert!(node.delete(SECRET_ID).await.unwrap());
        assert!(!node.delete(SECRET_ID).await.unwrap());
        node.put(SECRET_ID, &document(1), HOUR, Some(&ticket)).await.unwrap();
        node.purge().await.unwrap();
        node.sweep(1).await.unwrap();
        node.check().await.unwrap();
        node.get("").await.unwrap_err();
        let url = |number: usize| format!("{SECRET_ID}{number}");
        let many = (0..3).map(|number| {
            let (node, url) = (node.clone(), url(number));
            async move { miss(&node, &url).await }
        });
        futures_util::future::join_all(many).await;
    };
    calls.instrument(tracing::info_span!("login", user = "alice")).await;
    let text = log.text();
    let ended = |call: &str| {
        let begins = format!("login{{user=\"alice\"}}:cimd_cache::{call}{{");
        let lines =
            text.lines().filter(|line| line.contains(" close ")).filter_map(|line| line.split_once(&begins));
        lines.map(|(_, rest)| rest.split('}').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let gets = [
        "keys=1 outcome=\"miss\"",
        "keys=1 outcome=\"hit\"",
        "outcome=\"near_hit\"",
        "keys=1 outcome=\"invalid-url\"",
    ];
    let many = "keys=3 outcome=\"miss\"";
    assert_eq!(ended("get"), [&gets[..], &[many, many, many]].concat(), "{text}");
    assert_eq!(ended("put"), ["outcome=\"stored\"", "outcome=\"superseded\""]);
    assert_eq!(ended("delete"), ["outcome=\"deleted\"", "outcome=\"absent\""]);
    for (call, outcome) in [("purge", "purged"), ("sweep", "swept"), ("check", "ready")] {
        assert_eq!(ended(call), [format!("outcome=\"{outcome}\"")]);
    }
    assert!(!text.contains("client.example") && !text.contains("hush"), "{text}");
}

/// Though workers serve the calls of many, what goes wrong is told within the trace of whoever it goes wrong
/// for.
#[tokio::test]
async fn a_call_s_log_lines_are_in_its_span() {
    let (database, log) = (Database::new().await, Log::default());
    let (node, admin) = (database.node(), database.admin().await);
    node.get(SECRET_ID).await.unwrap();
    admin.batch_execute("alter table cimd_cache.client_id_metadata rename to gone").await.unwrap();
    let _listening = log.listen_to_spans();
    let put = async { node.put(SECRET_ID, &document(1), HOUR, None).await };
    let put = put.instrument(tracing::info_span!("login", user = "alice"));
    assert_eq!(put.await, Err(Error::Storage));
    let get = async { node.get(SECRET_ID).await };
    assert_eq!(get.instrument(tracing::info_span!("login", user = "bob")).await.unwrap_err(), Error::Storage);
    let lines: Vec<_> = log.text().lines().map(str::to_owned).collect();
    let of = |user: &str, call: &str| format!("login{{user=\"{user}\"}}:cimd_cache::{call}");
    assert!(has(&lines, &["a statement failed", "42P01", &of("alice", "put")]), "{lines:#?}");
    assert!(has(&lines, &["a statement failed", "42P01", &of("bob", "get")]), "{lines:#?}");
}
