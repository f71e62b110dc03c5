//! 11: deletes and purges, and in-flight fetches.

use std::time::Duration;

use cimd_cache::{Expiry, PutOutcome};
use support::{Database, HOUR, ID, document, documents, hit, miss, one, row, shifted, ticket, version};

#[tokio::test]
async fn a_delete_says_whether_there_was_a_document() {
    let database = Database::new().await;
    let (a, b, admin) = (database.node(), database.node(), database.admin().await);
    assert!(!a.delete(ID).await.unwrap(), "never stored");
    a.put(ID, &document(1), HOUR, None).await.unwrap();
    assert!(b.delete(ID).await.unwrap(), "stored");
    miss(&a, ID).await;
    assert!(!a.delete(ID).await.unwrap(), "deleted");

    a.put(ID, &document(2), Expiry::After(Duration::ZERO), None).await.unwrap();
    assert!(!a.delete(ID).await.unwrap(), "expired");
    a.put(ID, &document(3), HOUR, None).await.unwrap();
    a.purge().await.unwrap();
    assert!(!a.delete(ID).await.unwrap(), "purged");
    assert_eq!(one::<i64>(&admin, "select count(*) from cimd_cache.client_id_metadata", &[]).await, 1);
}

#[tokio::test]
async fn a_fetch_under_way_does_not_bring_back_what_was_deleted() {
    let database = Database::new().await;
    let (a, b) = (database.node(), database.node());
    for stored_before in [true, false] {
        let id = format!("{ID}?{stored_before}");
        if stored_before {
            a.put(&id, &document(1), HOUR, None).await.unwrap();
        }
        let under_way = ticket(&a, &id).await;
        b.delete(&id).await.unwrap();
        assert_eq!(a.put(&id, &document(1), HOUR, Some(&under_way)).await.unwrap(), PutOutcome::Superseded);
        let after = miss(&a, &id).await;
        assert_eq!(a.put(&id, &document(2), HOUR, Some(&after)).await.unwrap(), PutOutcome::Stored);
        assert_eq!(version(&b.get(&id).await.unwrap()), Some(2));
    }
}

#[tokio::test]
async fn a_purge_removes_all_documents_by_one_write() {
    let database = Database::new().await;
    let (a, b, admin) = (database.node(), database.node(), database.admin().await);
    for (id, text) in documents() {
        a.put(&id, &text, HOUR, None).await.unwrap();
    }
    let rows = "select string_agg(xmin::text || url, ',' order by url) from cimd_cache.client_id_metadata";
    let before: String = one(&admin, rows, &[]).await;
    b.purge().await.unwrap();
    assert_eq!(one::<String>(&admin, rows, &[]).await, before, "no row of a document was written");
    for (id, text) in documents() {
        let after = miss(&a, &id).await;
        assert_eq!(a.put(&id, &text, HOUR, Some(&after)).await.unwrap(), PutOutcome::Stored);
        hit(&b, &id).await;
    }
}

#[tokio::test]
async fn a_fetch_under_way_does_not_bring_back_what_was_purged() {
    let database = Database::new().await;
    let (a, b, admin) = (database.node(), database.node(), database.admin().await);
    a.put(ID, &document(1), HOUR, None).await.unwrap();
    let under_way = hit(&a, ID).await.ticket;
    let unknown = "https://unknown.example/";
    let of_unknown = miss(&a, unknown).await;
    b.purge().await.unwrap();
    assert_eq!(a.put(ID, &document(1), HOUR, Some(&under_way)).await.unwrap(), PutOutcome::Superseded);
    assert_eq!(a.put(unknown, &document(1), HOUR, Some(&of_unknown)).await.unwrap(), PutOutcome::Superseded);
    assert_eq!(row(&admin, unknown).await, None);
    miss(&b, ID).await;
}

/// It is the get that no race can defeat: a document that was put just before a purge, and committed just
/// after.
#[tokio::test]
async fn a_document_committed_after_a_purge_that_it_did_not_see_is_not_served() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    let mut other = database.admin().await;
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    let transaction = other.transaction().await.unwrap();
    let late = "insert into cimd_cache.client_id_metadata (url, metadata, expires_at, inserted_at, fetched_at, after_purge)
                select url || 'late', metadata, expires_at, now(), now(), after_purge from cimd_cache.client_id_metadata";
    transaction.execute(late, &[]).await.unwrap();
    node.purge().await.unwrap();
    transaction.commit().await.unwrap();
    assert!(row(&admin, &format!("{ID}late")).await.is_some());
    miss(&node, &format!("{ID}late")).await;
}

/// A purge has to work on the day the clock is wrong too, and so has the next one.
#[tokio::test]
async fn purges_hold_also_after_the_clock_was_set_back() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    admin.execute("update cimd_cache.purge set purged_at = now() + interval '1 day'", &[]).await.unwrap();
    let before = miss(&node, ID).await;
    node.put(ID, &document(1), HOUR, Some(&before)).await.unwrap();
    admin
        .execute("update cimd_cache.client_id_metadata set fetched_at = now() + interval '2 days'", &[])
        .await
        .unwrap();
    assert_eq!(version(&node.get(ID).await.unwrap()), Some(1));
    let other = "https://other.example/";
    node.put(other, &document(1), HOUR, None).await.unwrap();

    node.purge().await.unwrap();
    let age =
        "update cimd_cache.client_id_metadata set fetched_at = now() - interval '12 minutes' where url = $1";
    admin.execute(age, &[&other]).await.unwrap();
    assert_eq!(node.sweep(10).await.unwrap().removed, 1, "a purged row is swept");
    assert_eq!(node.put(ID, &document(1), HOUR, Some(&before)).await.unwrap(), PutOutcome::Superseded);
    let after = miss(&node, ID).await;
    assert_eq!(node.put(ID, &document(2), HOUR, Some(&after)).await.unwrap(), PutOutcome::Stored);
    assert_eq!(version(&node.get(ID).await.unwrap()), Some(2));
}

/// The tombstone of a delete takes the place of a row from the future, and yet holds off tickets older than
/// itself.
#[tokio::test]
async fn a_delete_of_a_row_from_the_future_still_holds_off_older_fetches() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    let ahead = "update cimd_cache.client_id_metadata set fetched_at = now() + interval '1 day'";
    admin.execute(ahead, &[]).await.unwrap();
    let under_way = ticket(&node, ID).await;
    assert!(node.delete(ID).await.unwrap());
    assert_eq!(node.put(ID, &document(1), HOUR, Some(&under_way)).await.unwrap(), PutOutcome::Superseded);
    let older = shifted(&under_way, -60);
    assert_eq!(node.put(ID, &document(1), HOUR, Some(&older)).await.unwrap(), PutOutcome::Superseded);
    let after = miss(&node, ID).await;
    assert_eq!(node.put(ID, &document(2), HOUR, Some(&after)).await.unwrap(), PutOutcome::Stored);
}
