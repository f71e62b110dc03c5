//! A process may have a limit on its address space, of which every instance takes some.

use std::process::Command;

use cimd_cache::{Cache, Error};
use support::{Database, ID, Log, connect, miss, version};

use crate::program::program;

/// The most that `ulimit -v` leaves in some containers and login sessions.
#[tokio::test]
async fn the_command_works_within_three_gibibytes_of_address_space() {
    let database = Database::new().await;
    let command = program();
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", r#"ulimit -v 3145728; exec "$@""#, "sh"]).arg(command.get_program());
    limited.args(["get", ID]).env("DATABASE_URL", database.app_url());
    let output = limited.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Neither address space nor mappings of it are taken before they are used.
#[tokio::test]
async fn a_process_can_have_many_caches_of_the_largest_setting() {
    let database = Database::new().await;
    let build =
        || Cache::builder().database_url(&database.app_url()).read_connections(1_000).build().unwrap();
    let nodes: Vec<_> = (0..12).map(|_| build()).collect();
    for node in &nodes {
        assert_eq!(node.get(ID).await.map(|lookup| version(&lookup)), Ok(None));
    }
}

/// In a process of its own, because the limit is the whole process's: see
/// [`too_many_calls_for_the_address_space`].
#[tokio::test]
async fn calls_for_which_there_is_no_address_space_are_shed() {
    let database = Database::new().await;
    let mut limited = Command::new(std::env::current_exe().unwrap());
    limited.args([
        "--exact",
        "address_space::too_many_calls_for_the_address_space",
        "--ignored",
        "--nocapture",
    ]);
    limited.env("DATABASE_URL", database.app_url()).env("ADMIN_URL", database.url("postgres"));
    let output = tokio::task::spawn_blocking(move || limited.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[tokio::test]
#[ignore = "the test above runs it, in a process of its own"]
async fn too_many_calls_for_the_address_space() {
    const CALLS: usize = 40;
    let url = |name| std::env::var(name).unwrap();
    let log = Log::default();
    let _guard = log.listen();
    // A connection, and an instance anew, for each call.
    let builder = Cache::builder().database_url(&url("DATABASE_URL")).read_connections(CALLS).max_batch(1);
    let node = builder.max_instance_reuse_count(1).build().unwrap();
    let mut admin = connect(&url("ADMIN_URL")).await;
    let ids: Vec<_> = (0..CALLS).map(|number| format!("{ID}?{number}")).collect();
    let held = async |admin: &mut tokio_postgres::Client| {
        let lock = admin.transaction().await.unwrap();
        lock.batch_execute("lock table cimd_cache.client_id_metadata").await.unwrap();
        let answers = futures_util::future::join_all(ids.iter().map(|id| node.get(id))).await;
        lock.rollback().await.unwrap();
        let of = |error: Error| answers.iter().filter(|answer| **answer == Err(error.clone())).count();
        (of(Error::TimedOut), of(Error::Unavailable))
    };
    // All are connected after this, and all threads are there that it takes.
    assert_eq!(held(&mut admin).await, (CALLS, 0));
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
    let limit = Some(pages * 4_096 + (64 << 20));
    let limit = rustix::process::Rlimit { current: limit, maximum: None };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
    let (waited, shed) = held(&mut admin).await;
    assert!(waited >= 5 && shed >= 5 && waited + shed == CALLS, "{waited} waited, {shed} were shed");
    assert!(log.text().contains("raise this process's limit, or lower the number of connections"));
    miss(&node, ID).await;
}
