//! Connections are taken away, and the table changes under them.

use std::time::{Duration, Instant};

use crate::load::Load;
use crate::scene::{Allowed, Scene, Setting};
use crate::server::connect;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_backends_are_terminated_in_a_loop() {
    let load = Load { purges: 2, ..Load::default() };
    let setting = Setting { load, ..Setting::default() };
    let mut scene = Scene::set("all backends terminated, 50 times in 3 s", setting).await;
    scene
        .fault(async |server| {
            let admin = server.admin().await;
            for _ in 0..50 {
                let kill =
                    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'cimd_cache_app'";
                admin.batch_execute(kill).await.unwrap();
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        })
        .await;
    // No storm: there are longer pauses from one loss to the next, so fewer connections were opened than
    // lost.
    let opened: u64 = scene.nodes.iter().map(|node| node.stats().connections_opened).sum();
    assert!(opened < 10 * 50, "{opened} connections");
    scene.end(Allowed::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connection_slots_are_taken() {
    let arguments = ["-c", "max_connections=25", "-c", "superuser_reserved_connections=5"];
    let mut scene = Scene::set(
        "all connection slots taken for 3 s",
        Setting { arguments: &arguments, ..Setting::default() },
    )
    .await;
    scene
        .fault(async |server| {
            let admin = server.admin().await;
            let kill =
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'cimd_cache_app'";
            let mut others = Vec::new();
            let until = Instant::now() + Duration::from_secs(3);
            while Instant::now() < until {
                admin.batch_execute(kill).await.unwrap();
                while let Ok(other) = connect(&server.url("cimd_cache_owner")).await {
                    others.push(other);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(others.len() >= 15, "{} slots were taken", others.len());
        })
        .await;
    scene.end(Allowed::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_are_added_while_the_table_is_in_use() {
    let mut scene = Scene::set("`alter table … add column`, 20 times", Setting::default()).await;
    scene
        .fault(async |server| {
            let admin = server.admin().await;
            for number in 0..20 {
                let add = format!("alter table cimd_cache.client_id_metadata add column extra_{number} text");
                admin.batch_execute(&add).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
    // Nobody notices.
    scene.end(Allowed::NOTHING).await;
}
