//! The throw-away server leaves nothing behind, whatever becomes of it or its owner, and no wait for it is
//! without end.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cimd_cache_private_postgres::{PrivatePostgres, Setup};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::program::{keeper_of, program};

/// Something always ends; this is only so that a failure is one.
const AT_LAST: Duration = Duration::from_secs(60);

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < AT_LAST, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The processes that were started with the directory among their arguments.
fn processes(directory: &Path) -> Vec<u32> {
    let directory = directory.to_str().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|&process| arguments(process).contains(directory)).collect()
}

/// Empty for one that has ended.
fn arguments(process: u32) -> String {
    let arguments = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&arguments).into_owned()
}

fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process.cast_signed()).unwrap(), signal).unwrap();
}

/// Among them a shell's command in the background, which ignores SIGINT and SIGQUIT from its start.
#[test]
fn an_owner_that_is_killed_leaves_nothing() {
    type HasCome = fn(&Path) -> bool;
    let moments: [(&str, HasCome); 4] = [
        ("there is a directory", |_| true),
        ("initdb works", |directory| directory.join("data/PG_VERSION").exists()),
        ("the server begins", |directory| directory.join("postgres.log").exists()),
        ("the server takes connections", |directory| {
            std::fs::read_to_string(directory.join("data/postmaster.pid"))
                .is_ok_and(|text| text.contains("ready"))
        }),
    ];
    for ignored in ["", "INT QUIT", "INT QUIT TERM"] {
        for (moment, has_come) in moments {
            let shell = format!(r#"for signal in {ignored}; do trap "" $signal; done; exec "$@""#);
            let demo = program();
            let mut owner = Command::new("/bin/sh");
            let mut owner = owner
                .args(["-c", &shell, "sh"])
                .arg(demo.get_program())
                .arg("demo")
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let found = std::cell::OnceCell::<(PathBuf, PathBuf)>::new();
            wait_until("it has a keeper", || {
                keeper_of(owner.id()).is_some_and(|keeper| found.set(keeper).is_ok())
            });
            let (keeper, directory) = found.get().unwrap();
            wait_until(moment, || has_come(directory));
            owner.kill().unwrap();
            owner.wait().unwrap();
            wait_until("its directory is gone", || !directory.exists());
            let ended = || std::fs::read(keeper.join("cmdline")).unwrap_or_default().is_empty();
            wait_until("its processes are gone", || ended() && processes(directory).is_empty());
        }
    }
}

#[test]
fn a_server_that_is_stopped_is_ended_all_the_same() {
    let server = PrivatePostgres::start().unwrap();
    let directory = server.directory().to_owned();
    let main = server.process().unwrap();
    signal(main, Signal::STOP);
    server.stop();
    assert!(!directory.exists());
    wait_until("its processes are gone", || arguments(main).is_empty() && processes(&directory).is_empty());
}

/// Binaries that do not do what they should.
struct StandIns(TempDir);

impl StandIns {
    fn new(initdb: &str, postgres: &str, pg_basebackup: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("stand-ins-").tempdir_in("/tmp").unwrap();
        let set_mode =
            |path: &Path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        set_mode(directory.path());
        for (name, script) in [("initdb", initdb), ("postgres", postgres), ("pg_basebackup", pg_basebackup)] {
            let file = directory.path().join(name);
            std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
            set_mode(&file);
        }
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn setup<'a>(&'a self, standby_of: Option<&'a PrivatePostgres>) -> Setup<'a> {
        let (binaries, patience) = (Some(self.path()), Some(Duration::from_secs(2)));
        Setup { standby_of, binaries, patience, ..Setup::default() }
    }

    /// Whether the one that hung has ended.
    fn have_ended(&self) -> bool {
        let process = std::fs::read_to_string(self.path().join("hung")).unwrap();
        arguments(process.trim().parse().unwrap()).is_empty()
    }
}

#[test]
fn a_step_that_hangs_is_ended_and_named() {
    let primary = PrivatePostgres::start().unwrap();
    let hangs = r#"echo $$ >"${0%/*}/hung"; exec sleep 1000"#;
    let insists = r#"trap "" INT QUIT TERM; echo $$ >"${0%/*}/hung"; echo "I am busy"; sleep 1000"#;
    for (stand_ins, standby_of, text) in [
        (StandIns::new(hangs, "", ""), None, "initdb took over 2s: it said nothing"),
        (StandIns::new(insists, "", ""), None, "initdb took over 2s: I am busy"),
        (
            StandIns::new("", hangs, ""),
            None,
            "the start of the private Postgres took over 2s: it said nothing",
        ),
        (StandIns::new("", "", hangs), Some(&primary), "pg_basebackup took over 2s: it said nothing"),
        (StandIns::new("echo no; exit 1", "", ""), None, "initdb failed: no"),
        (StandIns::new("", "echo no", ""), None, "the start of the private Postgres failed: no"),
    ] {
        let error = PrivatePostgres::set_up(stand_ins.setup(standby_of)).unwrap_err();
        assert_eq!(error.to_string(), text);
        // A killed process may outlive its killer for a moment.
        wait_until(text, || text.contains("failed") || stand_ins.have_ended());
    }

    let pid_file = r#"mkdir data; printf '%s\n' $$ 2 3 4 5 6 7 ready >data/postmaster.pid"#;
    let stand_ins = StandIns::new("", &format!("{pid_file}; {hangs}"), "");
    let mut server = PrivatePostgres::set_up(stand_ins.setup(None)).unwrap();
    let error = server.start_again().unwrap_err();
    assert_eq!(error.to_string(), "the end of the private Postgres took over 2s: it said nothing");
    drop(server);
    wait_until("the server has ended", || stand_ins.have_ended());
}
