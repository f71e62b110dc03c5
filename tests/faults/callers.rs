//! Callers who give up half-way, and one that was asleep.

use std::sync::Arc;
use std::time::Duration;

use cimd_cache_simulator::history::Answer;

use crate::node::CONNECTIONS;
use crate::record::{Caller, Record, Seconds};
use crate::scene::{Allowed, Scene, Setting};
use crate::server::Server;

const HOUR: Seconds = Seconds(3_600);

/// Each is dropped at a random moment: before a worker has begun with it, in the guest, while its statement
/// is in flight. What was begun is ended, so that nothing is thrown away for it: neither instances nor
/// connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_callers_that_give_up() {
    let mut scene = Scene::set("10,000 callers that drop their calls", Setting::default()).await;
    let (record, nodes) = (scene.record.clone(), scene.nodes.clone());
    scene
        .fault(async |_| {
            let mut random = fastrand::Rng::with_seed(13);
            for _ in 0..100 {
                let callers = (0..100).map(|_| {
                    let (record, node) = (record.clone(), random.usize(..2));
                    let (cache, key, put) = (nodes[node].clone(), random.usize(..24), random.bool());
                    let patience = Duration::from_micros(random.u64(..3_000));
                    tokio::spawn(async move {
                        let caller = Caller { record: &record, node, cache: &cache };
                        let call = async {
                            if put {
                                caller.put(key, HOUR, None).await;
                            } else {
                                caller.get(key).await;
                            }
                        };
                        let _ = tokio::time::timeout(patience, call).await;
                    })
                });
                for caller in callers.collect::<Vec<_>>() {
                    caller.await.unwrap();
                }
            }
        })
        .await;
    let dropped = scene.record.count(|call| call.answer == Answer::Lost);
    assert!(dropped > 1_000, "only {dropped} were in flight when they were dropped");
    for node in &scene.nodes {
        assert_eq!(node.stats().instances_discarded, 0);
        assert!(node.stats().connections_opened <= CONNECTIONS as u64, "{:?}", node.stats());
    }
    scene.end(Allowed::NOTHING).await;
}

/// A node that sleeps between its fetch and its put for longer than another node's fetch and put.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_paused_does_not_undo_what_another_did_meanwhile() {
    let _turn = crate::scene::turn().await;
    let server = Server::start(&[], None).await;
    let nodes = [0, 1].map(|_| crate::node::node(&server.url("cimd_cache_app")));
    let record = Arc::new(Record::new());
    let [paused, other] = [0, 1].map(|node| Caller { record: &record, node, cache: &nodes[node] });
    for key in 0..50 {
        let (_, old) = paused.get(key).await.unwrap();
        // Meanwhile the client's keys change, and the other node fetches, stores, or is told to delete.
        let (_, new) = other.get(key).await.unwrap();
        if key % 2 == 0 {
            assert_eq!(other.put(key, HOUR, Some(&new)).await, Answer::Stored);
        } else {
            other.delete(key).await;
        }
        assert_eq!(paused.put(key, HOUR, Some(&old)).await, Answer::Superseded);
        assert_eq!(other.get(key).await.unwrap().0, key % 2 == 0);
    }
}
