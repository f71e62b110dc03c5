//! Callers who leave, who are in a hurry, or who come all at once: what they cost the others, and what stays
//! of them.

use std::time::Duration;

use cimd_cache::{Cache, Error, PutOutcome};
use futures_util::FutureExt;
use futures_util::future::join_all;
use support::{Database, HOUR, ID, document, hit, miss, row, version};
use tokio_postgres::Transaction;

/// Every statement on the table waits until this is rolled back.
async fn lock(admin: &mut tokio_postgres::Client) -> Transaction<'_> {
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.client_id_metadata").await.unwrap();
    lock
}

/// With one connection of each kind.
fn narrow(database: &Database) -> Cache {
    let builder = Cache::builder().database_url(&database.app_url()).read_connections(1).write_connections(1);
    builder.deadline(Duration::from_secs(20)).build().unwrap()
}

/// Until no worker has anything to do.
async fn at_rest(node: &Cache) {
    let at_rest = async {
        while (node.stats().waiting, node.stats().in_flight) != (0, 0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), at_rest).await.unwrap();
}

#[tokio::test]
async fn gets_that_wait_go_together_in_one_statement() {
    let database = Database::new().await;
    let node = narrow(&database);
    let ids: Vec<_> = (0..20).map(|number| format!("https://client.example/{number}\"\\{{}},NULL")).collect();
    for id in ids.iter().step_by(2) {
        node.put(id, &document(id.len() as u64), HOUR, None).await.unwrap();
    }
    miss(&node, ID).await;
    let before = node.stats();
    // Each of them twice.
    let answers = join_all(ids.iter().chain(&ids).map(|id| node.get(id))).await;
    let after = node.stats();
    assert_eq!((after.statements - before.statements, after.batched_keys - before.batched_keys), (1, 20));
    let tickets: std::collections::BTreeSet<_> = answers
        .iter()
        .map(|answer| match answer.as_ref().unwrap() {
            cimd_cache::Lookup::Hit(entry) => entry.ticket.to_string(),
            cimd_cache::Lookup::Miss(ticket) => ticket.to_string(),
        })
        .collect();
    assert_eq!(tickets.len(), 1, "of one moment");
    for (place, answer) in answers.iter().enumerate() {
        let expected = (place % 2 == 0).then_some(ids[place % 20].len() as u64);
        assert_eq!(version(answer.as_ref().unwrap()), expected, "{place}");
    }
}

/// For engines on which many keys are many shards.
#[tokio::test]
async fn with_batches_of_one_each_get_has_a_statement_of_its_own() {
    let database = Database::new().await;
    let builder = Cache::builder().database_url(&database.app_url()).read_connections(2).max_batch(1);
    let node = builder.build().unwrap();
    miss(&node, ID).await;
    let before = node.stats();
    let ids: Vec<_> = (0..20).map(|number| format!("{ID}?{number}")).collect();
    let answers = join_all(ids.iter().map(|id| node.get(id))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let after = node.stats();
    assert_eq!((after.statements - before.statements, after.batches), (20, 0));
}

/// One that cannot be a key, beside others.
#[tokio::test]
async fn one_get_that_fails_does_not_affect_the_others() {
    let database = Database::new().await;
    let node = narrow(&database);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    let before = node.stats().batches;
    let long = "x".repeat(2_049);
    let answers = join_all([ID, "", &long, "a\0b", "https://other.example/"].map(|id| node.get(id))).await;
    assert_eq!(node.stats().batches, before + 1);
    assert_eq!(version(answers[0].as_ref().unwrap()), Some(1));
    for refused in &answers[1..4] {
        assert!(matches!(refused, Err(Error::InvalidUrl(_))), "{refused:?}");
    }
    assert_eq!(version(answers[4].as_ref().unwrap()), None);
}

/// The largest there are, all of them: nothing is too large for a batch that fits its limits.
#[tokio::test]
async fn a_batch_of_the_largest_documents_comes_whole() {
    let database = Database::new().await;
    let node = narrow(&database);
    // As `jsonb` writes it, this has twice the length.
    let metadata = format!("{{\"a\":[{}1]}}", "1,".repeat(8_185));
    assert!(metadata.len() > 16_370 && metadata.len() <= 16_384);
    let ids: Vec<_> =
        (0..32).map(|number| format!("https://client.example/{}{number:02}", "x".repeat(1_500))).collect();
    for id in &ids {
        node.put(id, &metadata, HOUR, None).await.unwrap();
    }
    let before = node.stats();
    let answers = join_all(ids.iter().map(|id| node.get(id))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(cimd_cache::Lookup::Hit(_)))));
    assert_eq!(node.stats().batches - before.batches, 1);
    assert_eq!(node.stats().instances_discarded, 0);
}

/// 5,000 who hang up while the database hangs: neither place, nor task, nor statement is theirs afterwards.
#[tokio::test]
async fn callers_who_hang_up_cost_nothing_that_stays() {
    for near in [false, true] {
        let database = Database::new().await;
        let mut builder = Cache::builder().database_url(&database.app_url());
        if near {
            builder = builder.near_ttl(Duration::from_secs(60));
        }
        let node = builder.build().unwrap();
        miss(&node, ID).await;
        let mut admin = database.admin().await;
        let lock = lock(&mut admin).await;
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let (tasks_before, statements_before) = (tasks(), node.stats().statements);
        for number in 0..5_000 {
            let id = format!("{ID}?{number}");
            let mut get = std::pin::pin!(node.get(&id));
            assert!(get.as_mut().now_or_never().is_none());
            if number % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        assert!(tasks() <= tasks_before + 4, "{} tasks more", tasks() - tasks_before);
        assert!(node.stats().waiting <= 128, "{} wait", node.stats().waiting);
        assert!(node.stats().statements <= statements_before + 4);
        assert_eq!(node.stats().shed, 0);
        lock.rollback().await.unwrap();
        miss(&node, ID).await;
        at_rest(&node).await;
    }
}

/// One with two milliseconds for each put of the largest document, on a server that hangs.
#[tokio::test]
async fn a_caller_in_a_hurry_does_not_fill_the_memory() {
    let database = Database::new().await;
    let node = Cache::builder().database_url(&database.app_url()).build().unwrap();
    let mut admin = database.admin().await;
    let lock = lock(&mut admin).await;
    let hurried = node.with_deadline(Duration::from_millis(2));
    let metadata = format!("{{\"a\":\"{}\"}}", "x".repeat(16_000));
    for number in 0..1_000 {
        let outcome = hurried.put(&format!("{ID}?{number}"), &metadata, HOUR, None).await;
        assert!(matches!(outcome, Err(Error::TimedOut | Error::Unavailable)), "{outcome:?}");
    }
    assert!(node.stats().statements <= 32, "{} were sent", node.stats().statements);
    assert!(node.stats().waiting <= 128, "{} wait", node.stats().waiting);
    lock.rollback().await.unwrap();
}

/// A statement is prepared by the worker, once, whoever gives up meanwhile.
#[tokio::test]
async fn callers_who_give_up_while_a_statement_is_prepared_leave_none_behind() {
    let database = Database::new().await;
    let (url, wire) = database.observed().await;
    let node = Cache::builder().database_url(&url).read_connections(1).build().unwrap();
    node.check().await.unwrap();
    let mut admin = database.admin().await;
    let prepared = wire.seen().prepared;
    let lock = lock(&mut admin).await;
    for _ in 0..20 {
        assert!(tokio::time::timeout(Duration::from_millis(10), node.get(ID)).await.is_err());
    }
    lock.rollback().await.unwrap();
    miss(&node, ID).await;
    assert_eq!(wire.seen().prepared, prepared + 1);
}

/// Its statement is sent and answered, and no other call is affected.
#[tokio::test]
async fn a_caller_that_polls_once_and_never_again_holds_up_nobody() {
    let database = Database::new().await;
    let node = narrow(&database);
    let document = document(1);
    let mut put = std::pin::pin!(node.put(ID, &document, HOUR, None));
    let mut get = std::pin::pin!(node.get("https://other.example/"));
    let mut deletes = std::pin::pin!(node.delete("https://third.example/"));
    assert!(put.as_mut().now_or_never().is_none());
    assert!(get.as_mut().now_or_never().is_none());
    assert!(deletes.as_mut().now_or_never().is_none());
    at_rest(&node).await;
    hit(&node, ID).await;
    assert!(node.delete(ID).await.unwrap());
    assert_eq!(put.await, Ok(PutOutcome::Stored));
    assert_eq!(version(&get.await.unwrap()), None);
    assert_eq!(deletes.await, Ok(false));
}

/// A call that is dropped after it began is still finished, and leaves no trace for the next call.
#[tokio::test]
async fn a_put_whose_caller_has_gone_is_put() {
    let database = Database::new().await;
    let node = narrow(&database);
    let mut admin = database.admin().await;
    let lock = lock(&mut admin).await;
    let document = document(1);
    let given_up =
        tokio::time::timeout(Duration::from_millis(100), node.put(ID, &document, HOUR, None)).await;
    assert!(given_up.is_err());
    lock.rollback().await.unwrap();
    at_rest(&node).await;
    assert!(row(&admin, ID).await.is_some());
    assert_eq!((node.stats().instances_discarded, node.stats().connections_opened), (0, 1));
}

/// A revocation does not stand behind a flood.
#[tokio::test]
async fn a_delete_goes_before_a_flood_of_puts() {
    let database = Database::new().await;
    let node = narrow(&database);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    let mut admin = database.admin().await;
    let lock = lock(&mut admin).await;
    let done = std::cell::Cell::new(0);
    let puts = join_all((0..1_000).map(async |number| {
        let outcome = node.put(&format!("{ID}?{number}"), &document(1), HOUR, None).await;
        done.set(done.get() + 1);
        outcome
    }));
    let delete = async {
        while node.stats().waiting < 900 {
            tokio::task::yield_now().await;
        }
        let delete = node.delete(ID);
        let (deleted, ()) = tokio::join!(delete, async { lock.rollback().await.unwrap() });
        (deleted, done.get())
    };
    let (outcomes, (deleted, before)) = tokio::join!(puts, delete);
    assert_eq!(deleted, Ok(true));
    assert!(before <= 50, "{before} puts went before it");
    assert!(outcomes.iter().all(|outcome| *outcome == Ok(PutOutcome::Stored)));
}
