//! The network between nodes and server: slow, cut, silent.

use std::time::Duration;

use cimd_cache::{Cache, Error};
use cimd_cache_simulator::history::{Answer, CallFailure};

use crate::load::Load;
use crate::node::{Way, node};
use crate::proxy::{Proxy, Weather};
use crate::record::{Caller, Record, Seconds};
use crate::scene::{Allowed, Scene, Stage, turn};
use crate::server::Server;

/// Two nodes, each behind a network of its own, of which the second one's turns bad for a while.
async fn behind_a_network(name: &'static str, weather: Weather, seconds: u64, allowed: Allowed<'_>) {
    ways_behind_a_network(name, Way::Library, weather, seconds, allowed).await;
}

pub(crate) async fn ways_behind_a_network(
    name: &'static str,
    way: Way,
    weather: Weather,
    seconds: u64,
    allowed: Allowed<'_>,
) {
    let turn = turn().await;
    let server = Server::start(&[], None).await;
    let (good, bad) = (Proxy::to(server.socket()).await, Proxy::to(server.socket()).await);
    let nodes = [&good, &bad].map(|proxy| node(&proxy.url("cimd_cache_app"))).to_vec();
    let nodes = way.nodes(nodes).await;
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

/// A login that began while nothing came through, and the statements that wait for the answer over it, may take a
/// little more than the usual second: in about one run of five 1.27 s.
pub(crate) const BACK_FROM_SILENCE: Duration = Duration::from_millis(1_500);

/// The server cannot learn that the connections in the hole are gone, and still counts them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole() {
    let allowed = Allowed { remaining_processes: 5, back_within: BACK_FROM_SILENCE, ..Allowed::default() };
    behind_a_network("network: black hole for 5 s", Weather::Hole, 5, allowed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_a_second() {
    let allowed = Allowed { back_within: BACK_FROM_SILENCE, ..Allowed::default() };
    behind_a_network("network: one byte a second for 5 s", Weather::Trickle, 5, allowed).await;
}

/// For long enough that whoever waits longer from failure to failure would not be back in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_do_not_arrive_though_logins_work() {
    let name = "network: logins work and statements do not, for 20 s";
    behind_a_network(name, Weather::NoStatements, 20, Allowed::default()).await;
}

/// Deadlines that a round trip takes much of: what is slow is the server, and its answers arrive late. A
/// connection that answers is healthy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_deadlines_on_a_slow_network_cost_no_connection() {
    let _turn = turn().await;
    let server = Server::start(&[], None).await;
    let proxy = Proxy::to(server.socket()).await;
    let builder = Cache::builder().database_url(&proxy.url("cimd_cache_app"));
    let node = builder.deadline(Duration::from_millis(50)).read_connections(1).build().unwrap();
    let patient = async || while node.get("https://client.example/").await.is_err() {};
    tokio::time::timeout(Duration::from_secs(10), patient()).await.unwrap();
    proxy.set(Weather::Delay(Duration::from_millis(10)));
    let mut admin = server.admin().await;
    for _ in 0..20 {
        let lock = admin.transaction().await.unwrap();
        lock.batch_execute("lock table cimd_cache.client_id_metadata").await.unwrap();
        let slow = node.get("https://client.example/").await;
        assert_eq!(slow, Err(Error::TimedOut));
        lock.rollback().await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), patient()).await.unwrap();
    }
    // A second one, if the machine was so slow that the server had to be asked what it is at.
    assert!(node.stats().connections_opened <= 2, "{:?}", node.stats());
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
    assert_eq!(caller.put(1, Seconds(3_600), None).await, Answer::Failed(CallFailure::Unavailable));
    proxy.set(Weather::Fair);
    assert!(caller.get(1).await.unwrap().0);
    let log = server.log();
    let puts = log
        .lines()
        .filter(|line| line.contains("execute") && line.contains("insert into cimd_cache.client_id"));
    assert_eq!(puts.count(), 2, "{log}");
}
