//! 1 to 3: what a get answers, and what it costs.

use std::time::{Duration, SystemTime};

use cimd_cache::{Expiry, PutOutcome, statements};
use support::{Database, HOUR, ID, connect, document, documents, hit, json_of, miss, one, row, version};
use tokio_postgres::SimpleQueryMessage;

/// 1
#[tokio::test]
async fn a_get_is_one_statement_and_writes_nothing() {
    let database = Database::new().await;
    let admin = database.admin().await;
    database.log_statements().await;
    let node = database.node();
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    hit(&node, ID).await;

    let before = row(&admin, ID).await;
    let so_far = database.logged().len();
    hit(&node, ID).await;
    miss(&node, "https://unknown.example/").await;

    let logged = database.logged().split_off(so_far);
    assert_eq!(logged.len(), 2, "{logged:?}");
    assert!(logged.iter().all(|statement| statement.contains(": select")), "{logged:?}");
    assert_eq!(row(&admin, ID).await, before);
    assert_eq!(one::<i64>(&admin, "select count(*) from cimd_cache.client_id_metadata", &[]).await, 1);
}

/// 2
#[tokio::test]
async fn an_expired_row_is_a_miss_though_it_is_there() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    for _ in 0..2 {
        // A read consumes nothing.
        assert_eq!(version(&node.get(ID).await.unwrap()), Some(1));
    }
    let expire = "update cimd_cache.client_id_metadata set expires_at = now()";
    assert_eq!(admin.execute(expire, &[]).await.unwrap(), 1);
    miss(&node, ID).await;
    assert!(row(&admin, ID).await.is_some());
}

/// 3
#[tokio::test]
async fn every_document_reads_back_equal_on_another_node() {
    let database = Database::new().await;
    let (a, b) = (database.node(), database.node());
    for (id, text) in documents() {
        let ticket = miss(&a, &id).await;
        assert_eq!(a.put(&id, &text, HOUR, Some(&ticket)).await.unwrap(), PutOutcome::Stored);
        for node in [&a, &b] {
            assert_eq!(json_of(&hit(node, &id).await.metadata), json_of(&text), "{id}");
        }
    }
}

/// 3
#[tokio::test]
async fn json_of_every_kind_reads_back_equal() {
    let database = Database::new().await;
    let node = database.node();
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(63), "]".repeat(63));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(16 * 1_024 - 8));
    let many = format!("{{\"a\":[{}0]}}", "1,".repeat(8_180));
    for text in [
        "{}",
        r#" { "z" : 1 , "a" : [ true , false , null , {} , [] , "" ] , "" : { "" : 0 } } "#,
        r#"{"a":"\"\\\/\b\f\n\r\té\u00e9\ud83d\ude00","ключ":"值","$":"${x}","q":"'; drop table x --"}"#,
        r#"{"a":[0,-1,1.5,1.0e-1,-2.5e-3,9007199254740993,123456789012345678901234567890]}"#,
        &deep,
        &long,
        &many,
    ] {
        assert_eq!(node.put(ID, text, HOUR, None).await.unwrap(), PutOutcome::Stored, "{text}");
        assert_eq!(json_of(&hit(&node, ID).await.metadata), json_of(text), "{text}");
    }
}

/// 3
#[tokio::test]
async fn a_hit_says_until_when_it_is_fresh() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    let entry = hit(&node, ID).await;
    let stored = "select expires_at from cimd_cache.client_id_metadata";
    let stored: SystemTime = one(&admin, stored, &[]).await;
    let rounded_off = stored.duration_since(entry.expires_at).unwrap();
    assert!(rounded_off < Duration::from_secs(1), "{rounded_off:?}");
    let hour = Duration::from_secs(3_600);
    assert!(
        entry.fresh_for < hour && entry.fresh_for > hour - Duration::from_secs(60),
        "{:?}",
        entry.fresh_for
    );

    // Its ticket is good for a refresh ahead of time.
    let refreshed = node.put(ID, &document(2), Expiry::After(hour), Some(&entry.ticket)).await.unwrap();
    assert_eq!(refreshed, PutOutcome::Stored);
    assert_eq!(version(&node.get(ID).await.unwrap()), Some(2));
}

/// A plan is kept for as long as a connection lives, and made when the table is as a new deployment has it.
/// With it the table may have grown by any number of rows that nobody has analysed.
#[tokio::test]
async fn many_gets_find_their_rows_by_the_key_whatever_the_plan_was_made_on() {
    let database = Database::new().await;
    let (admin, app) = (database.admin().await, connect(&database.app_url()).await);
    admin
        .batch_execute("alter table cimd_cache.client_id_metadata set (autovacuum_enabled = false)")
        .await
        .unwrap();
    let fill = |from: u32, to: u32| {
        format!(
            "insert into cimd_cache.client_id_metadata (url, metadata, expires_at, inserted_at, fetched_at, after_purge)
             select 'https://client.example/' || n, '{{}}', now() + interval '1 hour', now(), now(), purged_at
             from generate_series({from}, {to}) n, cimd_cache.purge"
        )
    };
    let urls: Vec<_> = (1..=32).map(|number| format!("\"https://client.example/{number}\"")).collect();
    let execute = format!("execute many('{{{}}}', 32)", urls.join(","));
    let plan = async || {
        let rows = app.simple_query(&format!("explain (analyze, timing off) {execute}")).await.unwrap();
        let lines = rows.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let by_the_key = async |state: &str| {
        let plan = plan().await;
        assert!(
            plan.contains("client_id_metadata_pkey") && !plan.contains("Seq Scan on client_id"),
            "{state}: {plan}"
        );
    };
    let prepare = format!("prepare many(text, bigint) as {}", statements::GET_MANY.sql);
    for plans in ["auto", "force_generic_plan"] {
        admin.batch_execute("truncate cimd_cache.client_id_metadata").await.unwrap();
        app.batch_execute(&format!("set plan_cache_mode = {plans}; {prepare}")).await.unwrap();
        // As often as it takes for one plan to be made for all.
        for _ in 0..6 {
            app.batch_execute(&execute).await.unwrap();
        }
        admin.batch_execute(&fill(1, 1_000)).await.unwrap();
        by_the_key("a thousand rows, never analysed").await;
        admin.batch_execute(&fill(1_001, 50_000)).await.unwrap();
        by_the_key("50,000 rows, never analysed").await;
        admin.batch_execute("analyze cimd_cache.client_id_metadata").await.unwrap();
        by_the_key("analysed").await;
        app.batch_execute("deallocate many").await.unwrap();
    }
}
