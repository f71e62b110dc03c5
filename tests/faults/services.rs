//! The same faults with a service between callers and cache, and those that only a service has: clients that
//! are slow, too many, or turned away while it stops.

use std::time::Duration;

use cimd_cache::{Schema, migrations};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::disk::a_full_disk;
use crate::network::{BACK_FROM_SILENCE, ways_behind_a_network};
use crate::node::{CONNECTIONS, CONNECTIONS_OF_CLIENTS, Way, node};
use crate::proxy::Weather;
use crate::record::{Caller, Seconds};
use crate::scene::{Allowed, Scene, Setting};

fn services() -> Setting<'static> {
    Setting { way: Way::Service, ..Setting::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_on_a_server_that_crashes_restarts_and_stops() {
    let mut scene = Scene::set("services: crashes, restarts, SIGSTOP for 3 s", services()).await;
    scene.brief_fault(async |server| server.crash_and_return().await).await;
    scene
        .brief_fault(async |server| {
            server.shut_down(Signal::INT).await;
            server.start_again();
        })
        .await;
    scene
        .fault(async |server| {
            server.freeze();
            tokio::time::sleep(Duration::from_secs(3)).await;
            server.thaw();
        })
        .await;
    scene.end(Allowed::default()).await;
}

/// What is allowed is what is allowed without a service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_behind_a_black_hole() {
    let allowed = Allowed { remaining_processes: 5, back_within: BACK_FROM_SILENCE, ..Allowed::default() };
    let name = "services: black hole for 5 s";
    ways_behind_a_network(name, Way::Service, Weather::Hole, 5, allowed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_on_a_full_disk() {
    a_full_disk("services: disk full for 4 s", Way::Service).await;
}

/// Clients that send a byte a second, that stop in the middle of a request, and that never read what they are
/// sent: whoever behaves does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_hold_up_nobody() {
    let mut scene = Scene::set("services: 300 slow clients for 4 s", services()).await;
    let socket = scene.nodes[0].socket();
    scene
        .fault(async |_| {
            let mut slow = JoinSet::new();
            for number in 0..300 {
                let mut stream = UnixStream::connect(&socket).await.unwrap();
                slow.spawn(async move {
                    match number % 3 {
                        0 => {
                            for byte in b"GET /v1/document?client_id=a HTTP/1.1\r\n" {
                                stream.write_all(&[*byte]).await.unwrap();
                                tokio::time::sleep(Duration::from_secs(1)).await;
                            }
                        }
                        1 => {
                            let half = "PUT /v1/document?client_id=a&ticket=none&expires_in=1 HTTP/1.1\r\nHost: x\r\n\
                                        Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
                            stream.write_all(half.as_bytes()).await.unwrap();
                            std::future::pending().await
                        }
                        _ => {
                            // Until the service has stopped writing, and therefore reading.
                            let request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
                            while stream.write_all(request).await.is_ok() {}
                        }
                    }
                });
            }
            tokio::time::sleep(Duration::from_secs(4)).await;
            slow.shutdown().await;
        })
        .await;
    scene.end(Allowed::NOTHING).await;
}

/// Beyond the limit connections are closed at once; those within it are served as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_hold_up_nobody() {
    let mut scene = Scene::set("services: 2,000 connections beyond the limit", services()).await;
    let socket = scene.nodes[0].socket();
    scene
        .fault(async |_| {
            let mut held = Vec::new();
            // The callers of the load have theirs already.
            while held.len() < CONNECTIONS_OF_CLIENTS {
                held.push(UnixStream::connect(&socket).await.unwrap());
            }
            // They are accepted in their order: the last of them was refused.
            assert_eq!(held.last_mut().unwrap().read(&mut [0]).await.unwrap(), 0);
            for _ in 0..2_000 {
                let mut refused = UnixStream::connect(&socket).await.unwrap();
                assert_eq!(refused.read(&mut [0]).await.unwrap(), 0);
            }
        })
        .await;
    // The callers of the load have connections already; a new one may be among those that are refused.
    scene.end(Allowed::default()).await;
}

/// A rolling update: the schema is migrated under the services, and new ones come and go beside them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_come_and_go_while_the_schema_is_migrated() {
    let mut scene = Scene::set("services: `migrate` and a new service, three times", services()).await;
    let record = scene.record.clone();
    scene
        .fault(async |server| {
            for round in 0..3 {
                migrations::migrate(&server.url("cimd_cache_owner"), &Schema::default()).await.unwrap();
                let new = Way::Service.nodes(vec![node(&server.url("cimd_cache_app"))]).await;
                let caller = Caller { record: &record, node: 2 + round, cache: &new[0] };
                for key in 0..24 {
                    let (_, ticket) = caller.get(key).await.unwrap();
                    caller.put(key, Seconds(3_600), Some(&ticket)).await;
                }
            }
        })
        .await;
    // Those of the new ones, of which the next may come while the one before still closes its own.
    let remaining_processes = 2 * CONNECTIONS;
    scene.end(Allowed { remaining_processes, ..Allowed::NOTHING }).await;
}
