//! Puts that hang, and puts that all want the same row: others go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cimd_cache::{Error, Expiry};
use cimd_cache_simulator::history::Answer;

use crate::load::Load;
use crate::node::Node;
use crate::record::{Caller, Seconds};
use crate::scene::{Allowed, Scene, Setting};

const HOUR: Seconds = Seconds(3_600);

/// 300 puts a second, each of which waits for a row that somebody else has locked until the server stops it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gets_go_on_while_300_puts_a_second_hang() {
    // Of the recorded calls only gets: the puts of the load would stand behind those that hang.
    let load = Load { only_gets: true, ..Load::default() };
    let mut scene =
        Scene::set("300 puts a second hang for 4 s", Setting { load, ..Setting::default() }).await;
    let nodes = scene.nodes.clone();
    let hung = Arc::<AtomicUsize>::default();
    let counted = hung.clone();
    scene
        .fault(async |server| {
            let mut admin = server.admin().await;
            let put = "insert into cimd_cache.client_id_metadata (url, metadata, expires_at, inserted_at, fetched_at, after_purge)
                       values ('https://hung.example/', '{}', now(), now(), now(), now())";
            let lock = admin.transaction().await.unwrap();
            lock.batch_execute(put).await.unwrap();
            let (end, mut puts) = (Instant::now() + Duration::from_secs(4), Vec::new());
            while Instant::now() < end {
                for cache in &nodes {
                    let (cache, counted) = (cache.clone(), counted.clone());
                    puts.push(tokio::spawn(async move {
                        let hour = Expiry::After(Duration::from_secs(3_600));
                        match cache.put("https://hung.example/", "{}", hour, None).await {
                            Err(Error::TimedOut | Error::Unavailable) => counted.fetch_add(1, Ordering::Relaxed),
                            other => panic!("{other:?}"),
                        }
                    }));
                }
                tokio::time::sleep(Duration::from_secs(2) / 300).await;
            }
            for put in puts {
                put.await.unwrap();
            }
            lock.rollback().await.unwrap();
        })
        .await;
    let hung = hung.load(Ordering::Relaxed);
    assert!(hung > 600, "only {hung} puts hung");
    let prompt = |call: &&cimd_cache_simulator::history::Call| call.ended - call.began < 300_000_000;
    let (all, prompt) = (scene.record.count(|_| true), scene.record.count(prompt));
    // No get fails, and hardly any is slow: those of a moment in which the machine itself was.
    assert!(prompt * 100 >= all * 99, "{prompt} of {all} gets were prompt");
    scene.end(Allowed::NOTHING).await;
}

/// A client that cannot be kept, or that everybody logs in with: its row is in every second put.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_in_every_put_fails_nobody() {
    let mut scene = Scene::set("one key in every second put, for 3 s", Setting::default()).await;
    let (record, nodes) = (scene.record.clone(), scene.nodes.clone());
    scene
        .fault(async |_| {
            let end = Instant::now() + Duration::from_secs(3);
            let callers = (0..32).map(|number| {
                let (record, node) = (record.clone(), number % nodes.len());
                let cache: Node = nodes[node].clone();
                tokio::spawn(async move {
                    let caller = Caller { record: &record, node, cache: &cache };
                    while Instant::now() < end {
                        // Beyond those of the load.
                        for key in [1_000_000, 1_000_001 + number] {
                            let stored = caller.put(key, HOUR, None).await;
                            assert!(matches!(stored, Answer::Stored | Answer::Superseded), "{stored:?}");
                        }
                    }
                })
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await.unwrap();
            }
        })
        .await;
    scene.end(Allowed::NOTHING).await;
}
