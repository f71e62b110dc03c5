//! Nodes whose clocks are wrong. The clock that decides is the database's.

use std::process::{Command, Output};

use cimd_cache_simulator::history::Micros;

use crate::scene::turn;
use crate::server::Server;

/// Runs the command on a machine whose clock is off.
fn on_a_node(offset: &str, server: &Server, arguments: &[&str], document: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("document.json");
    std::fs::write(&file, document).unwrap();
    let arguments = arguments.iter().map(|argument| match *argument {
        "FILE" => file.to_str().unwrap().to_owned(),
        argument => argument.to_owned(),
    });
    let mut command = Command::new("faketime");
    command.args(["-f", offset, env!("CARGO_BIN_EXE_cimd-cache")]).args(arguments.collect::<Vec<_>>());
    command.env("DATABASE_URL", server.url("cimd_cache_app"));
    command.output().unwrap()
}

/// Contract 2, 5 and 6, on nodes that are ten minutes behind, right, and ten minutes ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_wrong_decides_like_the_others() {
    if Command::new("faketime").arg("--version").output().is_err() {
        println!("SKIPPED: nodes with wrong clocks. It takes the package faketime.");
        return;
    }
    let _turn = turn().await;
    let server = Server::start(&[], None).await;
    let time = "select (extract(epoch from now()) * 1000000)::bigint";
    let now: Micros = server.admin().await.query_one(time, &[]).await.unwrap().get(0);
    let at = |minutes: i64| {
        let time = time::OffsetDateTime::from_unix_timestamp(now / 1_000_000 + minutes * 60).unwrap();
        time.format(&time::format_description::well_known::Rfc3339).unwrap()
    };
    let (later, earlier) = (at(5), at(-5));
    for (number, writer) in ["-10m", "+0", "+10m"].into_iter().enumerate() {
        let document = format!("{{\"number\":{number}}}");
        let id = format!("https://client.example/{number}");
        let run = |offset: &str, arguments: &[&str]| {
            let output = on_a_node(offset, &server, arguments, &document);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
        };
        let put = |rest: &[&str]| run(writer, &[&["put", &id, "FILE"], rest].concat());
        let statuses = || ["-10m", "+0", "+10m"].map(|reader| run(reader, &["get", &id]).0);
        for (expiry, status) in [
            (["--expires-in", "60"], 0),
            (["--expires-in", "0"], 1),
            (["--expires-at", &later], 0),
            (["--expires-at", &earlier], 1),
        ] {
            let (stored, _, said) = put(&expiry);
            assert_eq!((stored, said.as_str()), (0, "stored\n"), "{writer} {expiry:?}");
            assert_eq!(statuses(), [status; 3], "{writer} {expiry:?}");
        }
        // A ticket is good on every node, and loses against a later one from any.
        let ticket = |reader: &str| {
            let (_, out, _) = run(reader, &["get", &id, "--format", "json"]);
            let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
            answer["ticket"].as_str().unwrap().to_owned()
        };
        let tickets = ["+10m", "-10m", "+0"].map(ticket);
        for (given, outcome) in
            [(&tickets[1], "stored"), (&tickets[0], "superseded"), (&tickets[2], "stored")]
        {
            let (_, _, said) = put(&["--expires-in", "60", "--ticket", given]);
            assert!(said.starts_with(outcome), "{writer}: {said}");
        }
    }
}
