//! The network between nodes and server: slow, cut, silent.

use std::time::Duration;

use cimd_cache_simulator::history::{Answer, Failure};

use crate::load::Load;
use crate::proxy::{Proxy, Weather};
use crate::record::{Caller, Record, Seconds};
use crate::scene::{Allowed, Scene, Stage, node, turn};
use crate::server::Server;

/// Two nodes, each behind a network of its own, of which the second one's turns bad for a while.
async fn behind_a_network(name: &'static str, weather: Weather, seconds: u64, allowed: Allowed<'_>) {
    let turn = turn().await;
    let server = Server::start(&[], None).await;
    let (good, bad) = (Proxy::to(server.socket()).await, Proxy::to(server.socket()).await);
    let nodes = [&good, &bad].map(|proxy| node(&proxy.url("cimd_cache_app"))).to_vec();
    let load = Load { purges: 1, ..Load::default() };
    let mut scene = Scene::play(name, Stage { turn, server, nodes }, load).await;
    scene
        .fault(async |_| {
            bad.set(weather);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            bad.set(Weather::Fair);
        })
        .await;
    scene.end(allowed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_200_ms_late() {
    let weather = Weather::Delay(Duration::from_millis(200));
    // Slow is not wrong: no call fails.
    behind_a_network("network: 200 ms delay", weather, 4, Allowed::NOTHING).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_cut_in_the_middle() {
    behind_a_network("network: cut in mid-answer, for 3 s", Weather::CutAnswers, 3, Allowed::default()).await;
}

/// What the server still counts of the connections that fell into the hole, nobody can tell it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole() {
    let allowed = Allowed { left_over: 5, ..Allowed::default() };
    behind_a_network("network: black hole for 5 s", Weather::Hole, 5, allowed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_a_second() {
    let allowed = Allowed { left_over: 5, ..Allowed::default() };
    behind_a_network("network: one byte a second for 5 s", Weather::Trickle, 5, allowed).await;
}

/// Contract 10: what was sent may have been applied, so it is not sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_whose_answer_is_lost_is_not_sent_again() {
    let _turn = turn().await;
    let server = Server::start(&["-c", "log_statement=mod"], None).await;
    let proxy = Proxy::to(server.socket()).await;
    let (record, cache) = (Record::new(), node(&proxy.url("cimd_cache_app")));
    let caller = Caller { record: &record, node: 0, cache: &cache };
    assert_eq!(caller.put(1, Seconds(3_600), None).await, Answer::Stored);
    proxy.set(Weather::CutAnswers);
    assert_eq!(caller.put(1, Seconds(3_600), None).await, Answer::Failed(Failure::Unavailable));
    proxy.set(Weather::Fair);
    assert!(caller.get(1).await.unwrap().0);
    let log = server.log();
    let puts = log
        .lines()
        .filter(|line| line.contains("execute") && line.contains("insert into cimd_cache.client_id"));
    assert_eq!(puts.count(), 2, "{log}");
}
