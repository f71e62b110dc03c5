//! The server dies, stops, or starts again.

use std::time::Duration;

use rustix::process::Signal;

use crate::scene::{Allowed, Scene, Setting};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_ten_crashes() {
    let mut scene = Scene::set("`kill -9` of the server, ten times", Setting::default()).await;
    for _ in 0..9 {
        // The next one comes while the cache is returning from the one before.
        scene.brief_fault(async |server| server.crash_and_return().await).await;
    }
    scene.fault(async |server| server.crash_and_return().await).await;
    scene.end(Allowed::default()).await;
}

/// Where commits do not wait for the disk (README, Durability), a crash loses some: and so the test above
/// would notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "wrong answers")]
async fn the_losses_of_an_undurable_server_are_noticed() {
    let arguments =
        ["-c", "synchronous_commit=off", "-c", "wal_writer_delay=10s", "-c", "wal_writer_flush_after=0"];
    let setting = Setting { arguments: &arguments, ..Setting::default() };
    let mut scene = Scene::set("`kill -9` of a server that does not wait for its disk", setting).await;
    scene.fault(async |server| server.crash_and_return().await).await;
    scene.end(Allowed::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped_for_five_seconds() {
    let mut scene = Scene::set("all of the server stopped (SIGSTOP) for 5 s", Setting::default()).await;
    scene
        .fault(async |server| {
            server.freeze();
            tokio::time::sleep(Duration::from_secs(5)).await;
            server.thaw();
        })
        .await;
    // While nothing answers, nothing is given up: calls that wait are answered when the server goes on.
    scene.end(Allowed::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fast_and_immediate_restarts() {
    let mut scene = Scene::set("restarts, fast and immediate in turn", Setting::default()).await;
    for how in [Signal::INT, Signal::QUIT, Signal::INT, Signal::QUIT] {
        scene
            .brief_fault(async |server| {
                server.shut_down(how).await;
                server.start_again();
            })
            .await;
    }
    scene.fault(async |_| {}).await;
    scene.end(Allowed::default()).await;
}
