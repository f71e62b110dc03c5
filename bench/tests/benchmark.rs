//! The benchmark: that it measures what it says, and leaves nothing behind. How fast anything is decides no
//! test.

#![expect(clippy::unwrap_used, reason = "in a test that is how a failure is reported")]

use std::process::{Command, Output};

use serde_json::Value;

use support::{Database, json_of, one};

const QUICK: [&str; 10] =
    ["--rows", "20", "--rounds", "1", "--seconds", "0.02", "--callers", "1,3", "--expired", "5"];

async fn command(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_cimd-cache-bench"));
    program.args(arguments).env_remove("DATABASE_URL");
    tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap()
}

async fn results(arguments: &[&str]) -> (Value, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("results.json");
    let all: Vec<_> =
        arguments.iter().chain(&QUICK).copied().chain(["--json", file.to_str().unwrap()]).collect();
    let output = command(&all).await;
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    (json_of(&std::fs::read_to_string(&file).unwrap()), out)
}

#[tokio::test]
async fn every_contender_has_its_calls_answered_and_a_get_is_one_round_trip() {
    let (results, table) = results(&[]).await;
    let comparisons = results["comparisons"].as_array().unwrap();
    assert_eq!(comparisons.len(), 3 * 2);
    for comparison in comparisons {
        let contenders = comparison["contenders"].as_array().unwrap();
        assert_eq!(contenders.len(), 10);
        for contender in contenders {
            assert!(contender["calls"].as_u64().unwrap() > 0, "{contender}");
            assert!(table.contains(contender["name"].as_str().unwrap()));
        }
    }
    assert_eq!(results["footprint"]["round_trips_per_get"], 1.0);
    assert_eq!(results["sweep"]["removed"], 5);
}

#[tokio::test]
async fn on_a_given_database_it_leaves_everything_as_it_was() {
    let database = Database::new().await;
    let admin = database.admin().await;
    let schemas =
        "select string_agg(nspname, ' ' order by nspname) from pg_namespace where nspname !~ '^pg_'";
    let before: String = one(&admin, schemas, &[]).await;
    let url = database.url("cimd_cache_owner");
    results(&["--database-url", &url]).await;
    assert_eq!(one::<String>(&admin, schemas, &[]).await, before);

    // It cleans up after a failure too: here Redis is not there.
    let redis = ["--database-url", &url, "--redis", "redis://127.0.0.1:1"];
    let output = command(&[&QUICK[..], &redis].concat()).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr)
            .lines()
            .last()
            .map(|line| line.starts_with("error: Redis cannot be reached")),
        Some(true)
    );
    assert_eq!(one::<String>(&admin, schemas, &[]).await, before);
}
