//! A throw-away Postgres for demonstrations and tests, from the binaries on the machine.
//!
//! It listens only on a Unix socket in a private directory, and is gone with everything in it whatever way
//! its owner ends: a shell, the *keeper*, holds the read end of a pipe whose write end only the owner has.
//! When that end closes, by [`PrivatePostgres::stop`], a drop, a crash or `kill -9`, the keeper stops the
//! server and removes the directory. The keeper runs in a process group of its own, so that Ctrl-C in a
//! terminal reaches the owner alone.
//!
//! Until then each line in the pipe is an order to start the server. So none is started for an owner that is
//! gone, and tests of what happens when one fails can have it started again.
//!
//! Postgres refuses to run as root; as root, the server runs as the user `postgres`, else as `nobody`.

mod machine;

use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use self::machine::{find_binaries, other_user};

/// Prepares the server, starts it when told to, and cleans up when the pipe closes.
///
/// `$1` is the directory with the binaries, `$2` the private one, `$3` the socket directory of a server to
/// become a standby of, or empty; further arguments go to the server. The files `prepared`, `failed` and
/// `ended` tell the owner how it goes.
///
/// SIGQUIT is Postgres' immediate shutdown: nothing of what it would write is wanted. A server that has just
/// started does not heed it yet, because a shell has what it runs in the background ignore it: so it is
/// repeated. SIGTERM is for what prepares the server, and each job's own shell goes on after it, so that its
/// end is that of what it runs. What has ended by neither is killed, and the keeper with it, because it is of
/// the same process group.
const KEEPER: &str = r#"
bin=$1; dir=$2; primary=$3; shift 3
cd "$dir" || exit 1
prepare() {
    trap : TERM
    if [ -n "$primary" ]; then
        "$bin/pg_basebackup" -D data -R -X stream -c fast -d "host=$primary user=postgres application_name=standby"
    else
        "$bin/initdb" -D data -U postgres -A trust -E UTF8 --locale=C
    fi >preparation.log 2>&1 && : >prepared || : >failed
}
serve() {
    trap : TERM
    "$bin/postgres" -D data -k "$dir" -c listen_addresses= "$@" >>postgres.log 2>&1
    : >ended
}
prepare & job=$!
while read -r _; do serve "$@" & job=$!; done
trap '' INT QUIT TERM
tries=200
# `jobs` takes notice of one that has ended.
while jobs >/dev/null; kill -0 $job && [ $((tries -= 1)) -gt 0 ]; do
    # What is stopped would not notice the others.
    kill -QUIT 0; kill -TERM 0; kill -CONT 0
    sleep 0.05
done
cd /; rm -rf "$dir" || rm -rf "$dir"
kill -KILL 0
"#;

/// How long each step may take on a slow machine: to prepare the server, to start it, to end it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is set up, if not as usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup<'a> {
    /// Further arguments of `postgres`, such as `-c fsync=off`.
    pub arguments: &'a [&'a str],
    /// The directory in which its own is made, which the user it runs as has to be able to enter.
    pub parent: Option<&'a Path>,
    /// The server that it is a streaming standby of, under the application name `standby`.
    pub standby_of: Option<&'a PrivatePostgres>,
    /// The directory with `initdb` and `postgres`. By default they are looked for on the PATH, and where
    /// packages have them.
    pub binaries: Option<&'a Path>,
    /// How long preparing, starting and ending may take each; a minute by default.
    pub patience: Option<Duration>,
}

/// A running server. Stops and disappears when dropped.
#[derive(Debug)]
pub struct PrivatePostgres {
    keeper: Child,
    directory: TempDir,
    patience: Duration,
}

impl PrivatePostgres {
    /// Starts a server with an empty database cluster. Takes about two seconds, and blocks for them.
    ///
    /// # Errors
    ///
    /// When there are no Postgres binaries, or the server does not start in time; the text says what to
    /// install, or what was waited for, with the end of its log.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// As [`start`](Self::start), with further arguments of `postgres`, such as `-c fsync=off`.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(arguments: &[&str]) -> Result<Self> {
        Self::set_up(Setup { arguments, ..Setup::default() })
    }

    /// As [`start`](Self::start), set up otherwise.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn set_up(setup: Setup<'_>) -> Result<Self> {
        let binaries = setup.binaries.map_or_else(find_binaries, |directory| Ok(directory.to_owned()))?;
        let user = other_user()?;
        // As root the default directory may be one that only root can enter; and a socket's path has to be
        // short.
        let usual = if user.is_some() { PathBuf::from("/tmp") } else { std::env::temp_dir() };
        let parent = setup.parent.map_or(usual, Path::to_owned);
        let directory = tempfile::Builder::new().prefix("cimd-cache-").tempdir_in(&parent);
        let directory =
            directory.with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700))?;

        let mut keeper = Command::new("/bin/sh");
        keeper
            .args(["-c", KEEPER, "cimd-cache-postgres"])
            .arg(&binaries)
            .arg(directory.path())
            .arg(setup.standby_of.map_or(Path::new(""), |primary| primary.directory.path()))
            .args(setup.arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        // Settings for other databases must not reach this one, whose processes may be another user's: a
        // password, or PGPORT, which would move its socket.
        for (name, _) in std::env::vars_os() {
            if name == "DATABASE_URL" || name.as_encoded_bytes().starts_with(b"PG") {
                keeper.env_remove(name);
            }
        }
        if let Some((uid, gid)) = user {
            chown(directory.path(), Some(uid), Some(gid))?;
            keeper.uid(uid).gid(gid);
        }
        let keeper = keeper.spawn().context("cannot run /bin/sh")?;
        let mut server = Self { keeper, directory, patience: setup.patience.unwrap_or(PATIENCE) };
        let program = if setup.standby_of.is_some() { "pg_basebackup" } else { "initdb" };
        server.wait_for(program, "failed", |server| server.has("prepared"))?;
        server.order_to_start()?;
        Ok(server)
    }

    /// The URL of a database on the server, for a role; no password is asked for.
    pub fn url(&self, role: &str, database: &str) -> String {
        let directory = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres://{role}@{directory}/{database}")
    }

    /// The socket that the server listens on.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join(".s.PGSQL.5432")
    }

    /// The directory that all of it is in.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The server's main process; each of its connections is a child of it.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn process(&self) -> Result<u32> {
        let text = std::fs::read_to_string(self.pid_file()).context("the private Postgres does not run")?;
        text.lines().next().and_then(|line| line.parse().ok()).context("its pid file is not whole")
    }

    /// Starts the server again, with what it has stored, once it has ended. Blocks until it takes
    /// connections.
    ///
    /// # Errors
    ///
    /// When it does not end, or does not start.
    pub fn start_again(&mut self) -> Result<()> {
        self.wait_for("the end of the private Postgres", "failed", |server| server.has("ended"))?;
        // What the one before left would be taken for that of the new process.
        std::fs::remove_file(self.directory.path().join("ended"))?;
        let _ = std::fs::remove_file(self.pid_file());
        self.order_to_start()
    }

    fn order_to_start(&mut self) -> Result<()> {
        self.keeper.stdin.as_mut().context("the keeper is gone")?.write_all(b"\n")?;
        self.wait_for("the start of the private Postgres", "ended", |server| is_ready(&server.pid_file()))
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.path().join("data/postmaster.pid")
    }

    /// What the server has logged so far.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log(&self) -> io::Result<String> {
        std::fs::read_to_string(self.directory.path().join("postgres.log"))
    }

    /// Stops the server and waits until it is gone.
    pub fn stop(mut self) {
        self.end();
    }

    fn has(&self, file: &str) -> bool {
        self.directory.path().join(file).exists()
    }

    /// Waits for a step until it is done, or the keeper says by the file `failure` that it will not be.
    fn wait_for(&mut self, step: &str, failure: &str, is_done: impl Fn(&Self) -> bool) -> Result<()> {
        let began = Instant::now();
        while !is_done(self) {
            if self.has(failure) || self.keeper.try_wait()?.is_some() {
                bail!("{step} failed: {}", self.last_words());
            }
            if began.elapsed() > self.patience {
                bail!("{step} took over {:?}: {}", self.patience, self.last_words());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = |name| std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        let text = log("preparation.log") + &log("postgres.log");
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() {
            return "it said nothing".to_owned();
        }
        lines[lines.len().saturating_sub(3)..].join("; ")
    }

    fn end(&mut self) {
        drop(self.keeper.stdin.take());
        // The keeper has a limit of its own, shorter than this one, and is past it only if it was stopped
        // itself.
        let began = Instant::now();
        while let Ok(None) = self.keeper.try_wait() {
            if began.elapsed() > PATIENCE
                && let Some(group) = i32::try_from(self.keeper.id()).ok().and_then(Pid::from_raw)
            {
                tracing::warn!(directory = %self.directory.path().display(), "the private Postgres had to be killed");
                let _ = kill_process_group(group, Signal::KILL);
                let _ = self.keeper.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether the server takes connections, if only to read as a standby: the eighth line of its pid file says
/// so, which `pg_ctl` goes by too.
fn is_ready(pid_file: &Path) -> bool {
    let text = std::fs::read_to_string(pid_file).unwrap_or_default();
    text.lines().nth(7).is_some_and(|status| ["ready", "standby"].contains(&status.trim()))
}
