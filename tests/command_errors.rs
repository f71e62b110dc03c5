//! How the command fails: with one sentence, and an exit status that says what to do.

use std::io::Write;
use std::process::Command;

use support::{Database, one};

use crate::command_line::{ID, run};
use crate::program::{command, parts, program};

/// The command was done: a script must not mistake a full disk for a client to reject.
#[tokio::test]
async fn a_result_that_cannot_be_written_has_a_status_of_its_own() {
    let database = Database::new().await;
    assert_eq!(run(&database, &["put", ID, "-", "--expires-in", "60"], "{}").await.0, 0);
    let url = database.app_url();
    let owner = database.url("cimd_cache_owner");
    let commands: [&[&str]; 14] = [
        &["--help"],
        &["--version"],
        &["get", "--help"],
        &["get", ID],
        &["get", ID, "--format", "json"],
        &["put", ID, "-", "--expires-in", "60", "--format", "json"],
        &["delete", ID, "--format", "json"],
        &["sweep", "--format", "json"],
        &["check"],
        &["check", "--format", "json"],
        &["migrate", "--roles"],
        &["migrate", "--format", "json"],
        &["component"],
        &["component", "--statements"],
    ];
    for arguments in commands {
        let url = if arguments[0] == "migrate" { &owner } else { &url };
        let full = "printf {} | \"$@\" >/dev/full; echo $?";
        let mut shell = Command::new("sh");
        shell
            .args(["-c", full, "-", env!("CARGO_BIN_EXE_cimd-cache")])
            .args(arguments)
            .env("DATABASE_URL", url);
        let output = tokio::task::spawn_blocking(move || shell.output().unwrap());
        let (_, status, err) = parts(output.await.unwrap());
        assert_eq!((status.trim(), err.lines().count()), ("6", 1), "{arguments:?}: {err}");
        assert!(err.starts_with("error: cannot write to the standard output: "), "{err}");
        // A reader that has gone before anything is written.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut program = program();
        program.args(arguments).env("DATABASE_URL", url).stdout(writer);
        let output = tokio::task::spawn_blocking(move || {
            let mut child = program.spawn().unwrap();
            let _ = child.stdin.take().unwrap().write_all(b"{}");
            child.wait_with_output().unwrap()
        });
        let (status, _, err) = parts(output.await.unwrap());
        assert_eq!((status, err.as_str()), (6, ""), "{arguments:?}");
    }
}

/// One deadline over the call and over finding out why it failed.
#[tokio::test]
async fn a_command_is_over_by_its_deadline() {
    let database = Database::new().await;
    database.log_statements().await;
    let mut admin = database.admin().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.purge, cimd_cache.client_id_metadata").await.unwrap();
    let (status, _, err) = run(&database, &["get", ID], "").await;
    assert_eq!((status, err.contains("did not answer in time")), (3, true), "{err}");
    // Nothing else was asked after that.
    assert_eq!(database.logged().iter().filter(|sql| sql.contains("pg_catalog.pg_class")).count(), 0);
    lock.rollback().await.unwrap();
}

#[tokio::test]
async fn wrong_use_exits_with_2_and_refused_input_with_4_and_both_change_nothing() {
    let database = Database::new().await;
    let long = "x".repeat(2_049);
    for (arguments, stdin, status) in [
        (&["get"][..], "", 2),
        (&["get", ""], "", 4),
        (&["get", &long], "", 4),
        (&["put", ID, "-"], "{}", 2),
        (&["put", ID, "-", "--expires-in", "60", "--expires-at", "2030-01-31T12:00:00Z"], "{}", 2),
        (&["put", ID, "-", "--expires-in", "-1"], "{}", 2),
        (&["put", ID, "-", "--expires-at", "tomorrow"], "{}", 2),
        (&["put", ID, "-", "--expires-at", "1969-12-31T23:59:59Z"], "{}", 4),
        (&["put", ID, "/nonexistent", "--expires-in", "60"], "{}", 2),
        (&["put", ID, "-", "--expires-in", "60"], "[]", 4),
        (&["put", ID, "-", "--expires-in", "60"], "", 4),
        (&["put", ID, "-", "--expires-in", "60", "--ticket", "nonsense"], "{}", 4),
        (&["delete"], "", 2),
        (&["purge", ID], "", 2),
        (&["man", "nonsense"], "", 2),
        (&["completions", "nonsense"], "", 2),
        (&["sweep", "--limit", "0"], "", 2),
        (&["no-such-command"], "", 2),
    ] {
        let (exit, out, err) = run(&database, arguments, stdin).await;
        assert_eq!((exit, out.as_str()), (status, ""), "{arguments:?}: {err}");
        assert!(err.starts_with("error: "), "{arguments:?}: {err}");
    }
    let admin = database.admin().await;
    assert_eq!(one::<i64>(&admin, "select count(*) from cimd_cache.client_id_metadata", &[]).await, 0);
}

#[tokio::test]
async fn without_a_usable_database_it_exits_with_3_and_one_sentence() {
    for arguments in [
        &["get", ID][..],
        &["put", ID, "-", "--expires-in", "60"],
        &["delete", ID],
        &["check"],
        &["sweep"],
        &["migrate"],
    ] {
        let (status, out, err) = parts(command(arguments, "{}").await);
        assert_eq!((status, out.as_str()), (3, ""), "{arguments:?}");
        assert_eq!(err, "error: no database is configured: give --database-url or set DATABASE_URL\n");

        let away = ["--database-url", "postgres://alice:hunter2@127.0.0.1:1/d"];
        let (status, _, err) = parts(command(&[&away[..], arguments].concat(), "{}").await);
        assert_eq!((status, err.lines().count()), (3, 1), "{arguments:?}: {err}");
        assert!(err.contains("cannot be reached") && !err.contains("hunter2"), "{err}");

        let loud = [&away[..], &["--verbose"], arguments].concat();
        let (_, _, err) = parts(command(&loud, "{}").await);
        assert!(!err.contains("hunter2"), "{err}");
    }
    let bad_url = ["--database-url", "postgres://alice:hunter2@db.example/d?sslmode=prefer", "check"];
    let (status, _, err) = parts(command(&bad_url, "").await);
    assert_eq!((status, err.contains("sslmode"), err.contains("hunter2")), (2, true, false), "{err}");
    // Input is refused even if nothing is configured.
    assert_eq!(parts(command(&["put", ID, "-", "--expires-in", "60"], "[]").await).0, 4);
}
