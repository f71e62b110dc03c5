//! Hours of faults, on nodes that live through all of them. `make soak` runs it; its last result is in
//! docs/reliability.md.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::load::Load;
use crate::node::node;
use crate::scene::{Allowed, Scene, Stage, turn};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes as many minutes as SOAK_MINUTES says"]
async fn nodes_outlive_everything_their_database_does() {
    let minutes: u64 = std::env::var("SOAK_MINUTES").map_or(10, |minutes| minutes.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    let turn = turn().await;
    let server = Server::start(&[], None).await;
    let url = server.url("cimd_cache_app");
    let nodes = vec![node(&url), node(&url), node(&url)];
    let mut random = fastrand::Rng::with_seed(minutes);
    let mut stage = Stage { turn, server, nodes };
    while Instant::now() < until {
        let load = Load { purges: random.u32(..2), ..Load::default() };
        let mut scene = Scene::play("soak, a minute of faults", stage, load).await;
        for _ in 0..8 {
            let (kind, pause) = (random.u8(..5), Duration::from_millis(random.u64(..4_000)));
            scene.fault(async |server| one(server, kind, pause).await).await;
        }
        stage = scene.end(Allowed { remaining_processes: 15, ..Allowed::default() }).await;
    }
}

/// One of five kinds of fault.
async fn one(server: &mut Server, kind: u8, pause: Duration) {
    match kind {
        0 => {
            server.crash().await;
            tokio::time::sleep(pause).await;
            server.start_again();
        }
        1 => {
            server.freeze();
            tokio::time::sleep(pause).await;
            server.thaw();
        }
        2 | 3 => {
            server.shut_down(if kind == 2 { Signal::INT } else { Signal::QUIT }).await;
            tokio::time::sleep(pause).await;
            server.start_again();
        }
        _ => {
            let kill =
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'cimd_cache_app'";
            server.admin().await.batch_execute(kill).await.unwrap();
        }
    }
}
