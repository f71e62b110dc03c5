//! The command as scripts and people use it: what it prints where, and how it exits.

use serde_json::json;
use support::{Database, documents, json_of};

use crate::program::{command, parts, program};

pub(crate) async fn run(database: &Database, arguments: &[&str], stdin: &str) -> (i32, String, String) {
    let url = database.app_url();
    let all: Vec<_> = ["--database-url", &url].into_iter().chain(arguments.iter().copied()).collect();
    parts(command(&all, stdin).await)
}

pub(crate) const ID: &str = "https://c.example/metadata.json";

#[tokio::test]
async fn get_and_put_pass_documents_through_files_and_pipes() {
    let database = Database::new().await;
    let (status, out, err) = run(&database, &["get", ID], "").await;
    assert_eq!((status, out.as_str()), (1, ""), "{err}");

    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/documents/vscode.json");
    let (status, out, err) = run(&database, &["put", ID, file, "--expires-in", "60"], "").await;
    assert_eq!((status, out.as_str(), err.as_str()), (0, "", "stored\n"));
    let (status, out, err) = run(&database, &["get", ID], "").await;
    assert_eq!((status, err.as_str()), (0, ""));
    assert_eq!(json_of(&out), json_of(&std::fs::read_to_string(file).unwrap()));

    for (id, text) in documents() {
        let (status, _, err) =
            run(&database, &["put", &id, "-", "--expires-at", "2030-01-31T12:00:00Z"], &text).await;
        assert_eq!((status, err.as_str()), (0, "stored\n"));
        let (status, out, _) = run(&database, &["get", &id], "").await;
        assert_eq!((status, json_of(&out)), (0, json_of(&text)));
    }
}

#[tokio::test]
async fn scripts_get_json_and_pass_tickets() {
    let database = Database::new().await;
    let (status, out, _) = run(&database, &["get", ID, "--format", "json"], "").await;
    let missed = json_of(&out);
    assert_eq!((status, missed["outcome"].as_str()), (1, Some("miss")));
    let older = missed["ticket"].as_str().unwrap();

    let put = ["put", ID, "-", "--expires-at", "2030-01-31T13:00:00+01:00"];
    assert_eq!(run(&database, &put, "{\"a\":2}").await.2, "stored\n");
    let (status, out, _) = run(&database, &["get", ID, "--format", "json"], "").await;
    let hit = json_of(&out);
    assert_eq!((status, hit["outcome"].as_str()), (0, Some("hit")));
    assert_eq!(hit["metadata"], json_of("{\"a\":2}"));
    assert_eq!(hit["expires_at"], "2030-01-31T12:00:00Z");
    assert!(hit["fresh_for_ms"].as_u64().is_some_and(|milliseconds| milliseconds > 0));
    assert_eq!(hit.as_object().unwrap().len(), 5);

    let (status, _, err) = run(&database, &[&put[..], &["--ticket", older]].concat(), "{\"a\":1}").await;
    assert_eq!((status, err.starts_with("superseded")), (5, true), "{err}");
    let newer = hit["ticket"].as_str().unwrap();
    let (_, _, err) = run(&database, &[&put[..], &["--ticket", newer]].concat(), "{\"a\":3}").await;
    assert_eq!(err, "stored\n");
}

#[tokio::test]
async fn delete_check_and_sweep_say_what_they_did() {
    let database = Database::new().await;
    assert_eq!(run(&database, &["put", ID, "-", "--expires-in", "60"], "{}").await.0, 0);
    assert_eq!(run(&database, &["delete", ID], "").await, (0, String::new(), "deleted\n".to_owned()));
    let (status, _, err) = run(&database, &["delete", ID], "").await;
    assert_eq!((status, err.starts_with("no document was stored")), (0, true), "{err}");
    let (status, _, err) = run(&database, &["purge"], "").await;
    assert_eq!((status, err.starts_with("purged")), (0, true), "{err}");

    let (status, out, err) = run(&database, &["check"], "").await;
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(
        out.starts_with("ready: Postgres ") && out.contains("schema version 2, role cimd_cache_app"),
        "{out}"
    );

    let rows = "insert into cimd_cache.client_id_metadata (url, metadata, expires_at, inserted_at, fetched_at, after_purge)
                select n::text, '{}', now() - interval '1 hour', now(), now() - interval '1 hour', now()
                from generate_series(1, 2500) n";
    database.admin().await.execute(rows, &[]).await.unwrap();
    let (status, _, err) = run(&database, &["sweep", "--limit", "1200"], "").await;
    assert_eq!((status, err.as_str()), (0, "removed 1200 rows; more are left\n"));
    let (status, _, err) = run(&database, &["sweep"], "").await;
    assert_eq!((status, err.as_str()), (0, "removed 1300 rows; none is left\n"));
}

/// One object on stdout, and nothing beside it, whatever came of a command.
#[tokio::test]
async fn every_command_that_answers_something_has_an_answer_in_json() {
    let database = Database::new().await;
    let json = async |arguments: &[&str], stdin: &str| {
        let all = [arguments, &["--format", "json"]].concat();
        let (status, out, err) = run(&database, &all, stdin).await;
        assert_eq!((out.lines().count(), err.as_str()), (1, ""), "{arguments:?}: {out}");
        (status, json_of(&out))
    };
    let put = ["put", ID, "-", "--expires-in", "60"];
    let (_, missed) = json(&["get", ID], "").await;
    let ticket = missed["ticket"].as_str().unwrap();
    assert_eq!(json(&put, "{}").await, (0, json!({ "outcome": "stored" })));
    let late = json(&[&put[..], &["--ticket", ticket]].concat(), "{}").await;
    assert_eq!(late, (5, json!({ "outcome": "superseded" })));
    for had_document in [true, false] {
        let deleted = json!({ "outcome": "deleted", "had_document": had_document });
        assert_eq!(json(&["delete", ID], "").await, (0, deleted));
    }
    assert_eq!(json(&["purge"], "").await, (0, json!({ "outcome": "purged" })));
    let swept = json!({ "outcome": "swept", "removed": 0, "more": false });
    assert_eq!(json(&["sweep"], "").await, (0, swept));
    let (status, ready) = json(&["check"], "").await;
    assert_eq!((status, &ready["outcome"], &ready["role"]), (0, &json!("ready"), &json!("cimd_cache_app")));

    // Failures too, each with the status that it exits with.
    for (arguments, stdin, status) in [
        (&["get", ""][..], "", 4),
        (&put, "[]", 4),
        (&["put", ID, "/nonexistent", "--expires-in", "1"], "", 2),
    ] {
        let (exit, error) = json(arguments, stdin).await;
        assert_eq!((exit, &error["status"]), (status, &json!(status)), "{arguments:?}: {error}");
        assert_eq!(error["outcome"], "error");
        assert!(error["error"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    }
    let owner = database.url("cimd_cache_owner");
    let migrate = ["migrate", "--format", "json", "--database-url", &owner];
    let (status, out, _) = parts(command(&migrate, "").await);
    let nothing = json!({ "outcome": "migrated", "applied": [], "repaired": [], "schema_version": 2 });
    assert_eq!((status, json_of(&out)), (0, nothing));
    let (status, out, err) = parts(command(&["check", "--format", "json"], "").await);
    assert_eq!((status, json_of(&out)["status"].clone(), err.as_str()), (3, json!(3), ""));
}

/// A secret may come with a line break, and an empty one is none.
#[tokio::test]
async fn white_space_around_the_database_url_means_nothing() {
    let database = Database::new().await;
    for url in [format!("{}\n", database.app_url()), format!(" \t{}\r\n", database.app_url())] {
        let (status, out, err) = parts(command(&["check", "--database-url", &url], "").await);
        assert_eq!((status, err.as_str()), (0, ""), "{out}");
    }
    for url in ["", " ", "\n"] {
        for command_name in ["check", "migrate", "sweep"] {
            let (status, _, err) = parts(command(&[command_name, "--database-url", url], "").await);
            assert_eq!((status, err.contains("no database is configured")), (3, true), "{err}");
        }
    }
}

#[tokio::test]
async fn migrate_takes_an_empty_database_to_a_working_one() {
    let database = Database::empty().await;
    let (status, _, err) = run(&database, &["get", ID], "").await;
    assert_eq!((status, err.contains("cimd-cache migrate")), (3, true), "{err}");

    let (status, roles, _) = parts(command(&["migrate", "--roles"], "").await);
    assert_eq!(status, 0);
    database.create_roles(&roles).await;
    let url = database.url("cimd_cache_owner");
    let (status, _, err) = parts(command(&["--database-url", &url, "migrate"], "").await);
    assert_eq!(
        (status, err.as_str()),
        (0, "applied V1__documents, V2__clock_tolerance; the schema is at version 2\n")
    );
    let (status, _, err) = parts(command(&["--database-url", &url, "migrate"], "").await);
    assert_eq!((status, err.as_str()), (0, "nothing to do; the schema is at version 2\n"));
    assert_eq!(run(&database, &["check"], "").await.0, 0);
}

/// No home of somebody else is written to, and no machine code is kept that a fault of a disk could change.
#[tokio::test]
async fn the_command_leaves_nothing_on_the_disk() {
    let database = Database::new().await;
    let home = tempfile::tempdir().unwrap();
    let missing = home.path().join("missing");
    for home in [home.path(), &missing] {
        let output = program()
            .args(["get", ID])
            .env("DATABASE_URL", database.app_url())
            .envs([("HOME", home), ("XDG_CACHE_HOME", home)])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
