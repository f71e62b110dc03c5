//! Where a password may stand, and where it must not show.

use std::fs::{Permissions, set_permissions, write};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use cimd_cache::{CheckError, ConnectError};
use support::ID;

use super::authority::NAME;
use super::server::{PASSWORD, server, url};
use super::{node, turned_away, write_private};
use crate::program::program;

#[tokio::test]
async fn a_login_needs_the_right_password() {
    let server = server().await;
    let roots = server.roots();
    let url = |login| url(login, NAME, server.port, Some(&roots), "");
    node(&url("cimd_cache_app:hunter2")).get(ID).await.unwrap();
    let log = turned_away(&url("cimd_cache_app:hunter3")).await;
    assert!(log.contains("28P01") && !log.contains("hunter3"), "{log}");
    turned_away(&url("cimd_cache_app")).await;
    turned_away(&url("nobody:hunter2")).await;
}

#[tokio::test]
async fn a_password_that_is_changed_in_its_file_is_used_without_a_restart() {
    let server = server().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("passwords");
    let line =
        |password| format!("# of the cache\n{NAME}:{}:postgres:cimd_cache_app:{password}\n", server.port);
    write_private(&file, &line("outdated"));
    let options = format!("&passfile={}", file.display());
    let node = node(&url("cimd_cache_app", NAME, server.port, Some(&server.roots()), &options));
    assert_eq!(node.check().await, Err(CheckError::Connection(ConnectError::Login)));
    write_private(&file, &line(PASSWORD));
    assert_eq!(node.check().await.map(|found| found.role), Ok("cimd_cache_app".to_owned()));
}

/// A command with a password from somewhere else than the URL, and what it prints with `--verbose`.
#[tokio::test]
async fn the_command_takes_a_password_from_its_environment_or_a_file_and_shows_it_nowhere() {
    let server = server().await;
    let home = tempfile::tempdir().unwrap();
    let (default, other, open) =
        (home.path().join(".pgpass"), home.path().join("other"), home.path().join("open"));
    write_private(&default, &format!("*:*:*:*:{PASSWORD}"));
    write_private(&other, "*:*:*:*:outdated");
    write(&open, format!("*:*:*:*:{PASSWORD}")).unwrap();
    set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    let run = |options: String, environment: Vec<(&'static str, String)>| {
        let url = url("cimd_cache_app", NAME, server.port, Some(&server.roots()), &options);
        let home = home.path().to_owned();
        let run = move || {
            let mut command = program();
            command.args(["--verbose", "put", ID, "-", "--expires-in", "60"]);
            command.env("DATABASE_URL", url).env("HOME", home).envs(environment);
            let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            // It is there until it has read its input.
            let arguments = std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
            child.stdin.take().unwrap().write_all(b"{}").unwrap();
            let output = child.wait_with_output().unwrap();
            let shown = [arguments, output.stdout, output.stderr].concat();
            (output.status.code().unwrap(), String::from_utf8(shown).unwrap())
        };
        tokio::task::spawn_blocking(run)
    };
    let text = |path: &Path| path.display().to_string();
    let passfile = |path: &Path| format!("&passfile={}", path.display());
    for (options, environment, status) in [
        (String::new(), vec![], 0),
        (passfile(&other), vec![], 3),
        (String::new(), vec![("PGPASSFILE", text(&other))], 3),
        (passfile(&default), vec![("PGPASSFILE", text(&other))], 0),
        (passfile(&other), vec![("PGPASSWORD", PASSWORD.to_owned())], 0),
        (passfile(&open), vec![], 3),
    ] {
        let case = format!("{options} {environment:?}");
        let (found, shown) = run(options, environment).await.unwrap();
        assert_eq!(found, status, "{case}: {shown}");
        assert!(!shown.contains(PASSWORD) && !shown.contains("outdated"), "{case}: {shown}");
        assert_eq!(shown.contains("chmod 600"), case.contains("open"), "{case}: {shown}");
    }
}
