//! Many callers at once, on two nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cimd_cache::{Cache, Lookup, PutOutcome, Ticket};
use support::{Database, HOUR, ID, document, miss, ticket, version};

/// Deterministic, so that a failure can be run again; different for each use.
fn shuffled<T>(mut items: Vec<T>, seed: u64) -> Vec<T> {
    let mut state = seed;
    for at in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(at, (state >> 33) as usize % (at + 1));
    }
    items
}

async fn put_all(nodes: &[Cache], puts: Vec<(u64, Ticket)>) -> Vec<(u64, PutOutcome)> {
    let puts = puts.into_iter().enumerate().map(|(at, (number, ticket))| {
        let node = nodes[at % nodes.len()].clone();
        tokio::spawn(
            async move { (number, node.put(ID, &document(number), HOUR, Some(&ticket)).await.unwrap()) },
        )
    });
    let mut outcomes = Vec::new();
    for put in puts.collect::<Vec<_>>() {
        outcomes.push(put.await.unwrap());
    }
    outcomes
}

async fn tickets(node: &Cache, count: u64) -> Vec<(u64, Ticket)> {
    let mut tickets = Vec::new();
    for number in 1..=count {
        tickets.push((number, ticket(node, ID).await));
    }
    tickets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_puts_at_once_the_newest_ticket_remains() {
    let database = Database::new().await;
    let nodes = [database.node(), database.node()];
    for round in 0..10 {
        let puts = tickets(&nodes[0], 50).await;
        let outcomes = put_all(&nodes, shuffled(puts, round)).await;
        assert!(outcomes.contains(&(50, PutOutcome::Stored)), "{outcomes:?}");
        assert_eq!(version(&nodes[1].get(ID).await.unwrap()), Some(50), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_put_that_began_before_a_delete_or_purge_survives_it() {
    let database = Database::new().await;
    let nodes = [database.node(), database.node()];
    for round in 0..20 {
        let puts = shuffled(tickets(&nodes[0], 20).await, round);
        let remover = nodes[1].clone();
        let putting = put_all(&nodes, puts);
        let removing =
            async { if round % 2 == 0 { remover.delete(ID).await.map(drop) } else { remover.purge().await } };
        let (_, removed) = tokio::join!(putting, removing);
        removed.unwrap();
        for node in &nodes {
            miss(node, ID).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweeps_disturb_neither_gets_nor_puts() {
    let database = Database::new().await;
    let admin = database.admin().await;
    let nodes = [database.node(), database.node()];
    let done = Arc::new(AtomicBool::new(false));
    let sweepers = nodes.clone().map(|node| {
        let done = done.clone();
        tokio::spawn(async move {
            let mut removed = 0;
            while !done.load(Ordering::Relaxed) {
                removed += node.sweep(50).await.unwrap().removed;
            }
            removed
        })
    });
    let callers = (0..16).map(|caller| {
        let node = nodes[caller % 2].clone();
        tokio::spawn(async move {
            for round in 0..100 {
                let id = format!("{ID}?{}", (caller * 7 + round) % 24);
                let given = match node.get(&id).await.unwrap() {
                    Lookup::Hit(entry) => entry.ticket,
                    Lookup::Miss(ticket) => ticket,
                };
                // A ticket of another caller may be newer; then that document is there.
                node.put(&id, &document(1), HOUR, Some(&given)).await.unwrap();
                assert_eq!(version(&node.get(&id).await.unwrap()), Some(1), "{id}");
            }
        })
    });
    let aged = "insert into cimd_cache.client_id_metadata (url, metadata, expires_at, inserted_at, fetched_at, after_purge)
                select 'old' || n, '{}', now() - interval '1 hour', now(), now() - interval '1 hour', now()
                from generate_series(1, 2000) n";
    assert_eq!(admin.execute(aged, &[]).await.unwrap(), 2_000);
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let old = "select count(*) from cimd_cache.client_id_metadata where url like 'old%'";
    while support::one::<i64>(&admin, old, &[]).await > 0 {
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Relaxed);
    let mut removed = 0;
    for sweeper in sweepers {
        removed += sweeper.await.unwrap();
    }
    assert_eq!(removed, 2_000);
}
