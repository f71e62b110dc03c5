//! The demo: it shows what it claims, and is gone with everything that it made.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::program::{command, keeper_of, parts, program};

#[tokio::test]
async fn the_demo_shows_what_it_claims() {
    let (status, out, err) = parts(command(&["demo"], "").await);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    for claim in ["B hits", "B misses", "superseded", "purges", "sweeps", "not configured", "GET     hits"] {
        assert!(out.contains(claim), "{claim}: {out}");
    }
}

/// However it ends: by itself, by Ctrl-C, by a request to terminate, and by a kill that it does not even
/// notice.
#[test]
fn the_demo_leaves_no_process_and_no_directory() {
    for (signal, status) in
        [(None, Some(0)), (Some("-INT"), Some(130)), (Some("-TERM"), Some(130)), (Some("-KILL"), None)]
    {
        let mut demo = Command::new(env!("CARGO_BIN_EXE_cimd-cache"));
        let mut demo = demo.arg("demo").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap());
        let mut shown = String::new();
        while !shown.contains("a private Postgres runs") {
            assert_ne!(lines.read_line(&mut shown).unwrap(), 0, "{shown}");
        }
        let (keeper, directory) = keeper_of(demo.id()).unwrap();
        assert!(directory.join("data").is_dir());
        if let Some(signal) = signal {
            assert!(Command::new("kill").args([signal, &demo.id().to_string()]).status().unwrap().success());
        }
        lines.read_to_string(&mut shown).unwrap();
        assert_eq!(demo.wait().unwrap().code(), status, "{shown}");
        // Only after a kill is there anything left to wait for. A process whose parent is dead may stay in
        // /proc until somebody asks for its status; its command line is empty then.
        let ended = || std::fs::read(keeper.join("cmdline")).unwrap_or_default().is_empty();
        let gone = || ended() && !directory.exists();
        assert!(signal == Some("-KILL") || gone(), "{signal:?}");
        while !gone() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn the_demo_s_server_is_told_nothing_of_other_databases() {
    let mut demo = program();
    demo.arg("demo").env("DATABASE_URL", "postgres://alice:hunter2@db.example/d");
    demo.env("PGPASSWORD", "hunter2").env("PGPORT", "1");
    let mut demo = demo.spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap());
    let mut shown = String::new();
    while !shown.contains("a private Postgres runs") {
        assert_ne!(lines.read_line(&mut shown).unwrap(), 0, "{shown}");
    }
    let environment = std::fs::read_to_string(keeper_of(demo.id()).unwrap().0.join("environ")).unwrap();
    assert!(!environment.contains("hunter2"));
    lines.read_to_string(&mut shown).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(0), "{shown}");
}
