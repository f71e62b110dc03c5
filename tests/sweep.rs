//! 12: what a sweep removes, and what it leaves alone.

use cimd_cache::{Cache, PutOutcome, SweepOutcome};
use support::{Database, HOUR, ID, document, hit, one, row, shifted, ticket};
use tokio_postgres::Client;

/// Documents `0..count`, of `minutes` ago; `expired` or good for another hour.
async fn insert(admin: &Client, count: i64, minutes: i64, expired: bool) {
    let sql = "insert into cimd_cache.client_id_metadata (url, metadata, expires_at, inserted_at, fetched_at, after_purge)
               select 'https://' || $2 || $3 || '.example/' || n, '{}', now() + case when $3 then -1 else 1 end * interval '1 hour',
                      now(), now() - $2 * interval '1 minute', (select purged_at from cimd_cache.purge)
               from generate_series(1, $1) n";
    let sql = sql.replace("$1", &count.to_string()).replace("$2", &minutes.to_string());
    admin.batch_execute(&sql.replace("$3", &expired.to_string())).await.unwrap();
}

async fn rows(admin: &Client) -> i64 {
    one(admin, "select count(*) from cimd_cache.client_id_metadata", &[]).await
}

async fn sweep(node: &Cache, limit: u32) -> (u32, bool) {
    let SweepOutcome { removed, more } = node.sweep(limit).await.unwrap();
    (removed, more)
}

/// Until a sweep has chosen its rows and stands before a lock on one of them.
async fn until_a_delete_waits(admin: &Client) {
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock' and query like 'delete%'";
    while one::<i64>(admin, waiting, &[]).await == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_sweep_removes_what_nobody_can_get_and_only_when_no_ticket_needs_it() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    insert(&admin, 3, 12, true).await;
    insert(&admin, 4, 10, true).await;
    insert(&admin, 5, 12, false).await;
    node.delete("https://tombstone.example/").await.unwrap();
    assert_eq!(sweep(&node, 1_000).await, (3, false));
    assert_eq!(sweep(&node, 1_000).await, (0, false));
    assert_eq!(rows(&admin).await, 4 + 5 + 1);

    // No get can return purged documents or tombstones.
    node.purge().await.unwrap();
    let age = "update cimd_cache.client_id_metadata
               set fetched_at = fetched_at - interval '12 minutes' where url = 'https://tombstone.example/'";
    admin.execute(age, &[]).await.unwrap();
    assert_eq!(sweep(&node, 1_000).await, (5 + 1, false));
    assert_eq!(rows(&admin).await, 4);
}

#[tokio::test]
async fn a_sweep_removes_at_most_its_limit_and_says_whether_more_may_remain() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    insert(&admin, 2_010, 12, true).await;
    assert_eq!(sweep(&node, 0).await, (0, true));
    assert_eq!(sweep(&node, 5).await, (5, true));
    assert_eq!(sweep(&node, u32::MAX).await, (1_000, true), "a batch is a thousand at most");
    assert_eq!(sweep(&node, 1_000).await, (1_000, true));
    assert_eq!(sweep(&node, 1_000).await, (5, false));
}

/// A ticket that is still good loses against a swept row as it did before: there is none.
#[tokio::test]
async fn a_sweep_does_not_change_what_a_put_does() {
    let database = Database::new().await;
    let node = database.node();
    let ten_minutes_ago = shifted(&ticket(&node, ID).await, -595);
    node.delete(ID).await.unwrap();
    sweep(&node, 1_000).await;
    let late = node.put(ID, &document(1), HOUR, Some(&ten_minutes_ago)).await.unwrap();
    assert_eq!(late, PutOutcome::Superseded);
}

#[tokio::test]
async fn a_row_refreshed_while_a_sweep_waits_for_it_stays() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    let mut other = database.admin().await;
    insert(&admin, 1, 12, true).await;
    let refresh = other.transaction().await.unwrap();
    let sql = "update cimd_cache.client_id_metadata
               set expires_at = now() + interval '1 hour', fetched_at = now() returning url";
    let url: String = refresh.query_one(sql, &[]).await.unwrap().get(0);

    let sweeper = node.clone();
    let sweeping = tokio::spawn(async move { sweep(&sweeper, 1_000).await });
    until_a_delete_waits(&admin).await;
    refresh.commit().await.unwrap();
    assert_eq!(sweeping.await.unwrap(), (0, false));
    assert!(row(&admin, &url).await.is_some());
    hit(&node, &url).await;
}

#[tokio::test]
async fn sweepers_on_several_nodes_count_no_row_twice() {
    let database = Database::new().await;
    let admin = database.admin().await;
    insert(&admin, 5_000, 12, true).await;
    insert(&admin, 100, 12, false).await;
    let sweepers = (0..4).map(|_| {
        let node = database.node();
        tokio::spawn(async move {
            let mut total = 0;
            loop {
                let (removed, more) = sweep(&node, 300).await;
                total += removed;
                if !more {
                    return total;
                }
            }
        })
    });
    let mut total = 0;
    for sweeper in sweepers.collect::<Vec<_>>() {
        total += i64::from(sweeper.await.unwrap());
    }
    assert_eq!((total, rows(&admin).await), (5_000, 100));
}

/// 12: one that chose the same rows as another removes none of them, and must not say that there are no more.
#[tokio::test]
async fn a_sweeper_that_met_another_says_that_rows_are_left() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    let mut other = database.admin().await;
    insert(&admin, 20, 12, true).await;
    let order = "update cimd_cache.client_id_metadata
                 set expires_at = expires_at - split_part(url, '/', 4)::integer * interval '1 second'";
    admin.batch_execute(order).await.unwrap();
    let removal = other.transaction().await.unwrap();
    let first = "delete from cimd_cache.client_id_metadata where url in
                 (select url from cimd_cache.client_id_metadata order by expires_at limit 10)";
    removal.execute(first, &[]).await.unwrap();

    let sweeper = node.clone();
    let sweeping = tokio::spawn(async move { sweep(&sweeper, 5).await });
    until_a_delete_waits(&admin).await;
    removal.commit().await.unwrap();
    assert_eq!(sweeping.await.unwrap(), (0, true));
    assert_eq!(sweep(&node, 1_000).await, (10, false));
    assert_eq!(rows(&admin).await, 0);
}
