//! A throw-away Postgres for demonstrations and tests, from the binaries on the machine.
//!
//! It listens only on a Unix socket in a private folder, and is gone with everything in it whatever way its owner
//! ends: a shell, the *keeper*, holds the read end of a pipe whose write end only the owner has. When that end closes,
//! by [`PrivatePostgres::stop`], a drop, a crash or `kill -9`, the keeper stops the server and removes the folder. The
//! keeper runs in a process group of its own, so that Ctrl-C in a terminal reaches the owner alone.
//!
//! Until then each line in the pipe is an order to start the server again once it has ended: that is for tests of what
//! happens when one fails.
//!
//! Postgres refuses to run as root; as root, the server runs as the user `postgres`, else as `nobody`.

use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// Prepares and starts the server, starts it again when told to, and cleans up when the pipe closes.
///
/// SIGQUIT is Postgres' immediate shutdown: nothing of what it would write is wanted. `$1` is the folder with the
/// binaries, `$2` the private one, `$3` the socket folder of a server to become a standby of, or empty; further arguments
/// go to the server.
const KEEPER: &str = r#"
bin=$1; dir=$2; primary=$3; shift 3
cd "$dir" || exit 1
if [ -n "$primary" ]; then
    "$bin/pg_basebackup" -D data -R -X stream -c fast -d "host=$primary user=postgres application_name=standby"
else
    "$bin/initdb" -D data -U postgres -A trust -E UTF8 --locale=C
fi >initdb.log 2>&1 || { touch failed; read -r _; rm -rf "$dir"; exit 1; }
while
    "$bin/postgres" -D data -k "$dir" -c listen_addresses= "$@" >>postgres.log 2>&1 &
    server=$!
    read -r _
do
    wait $server
done
# One that is stopped would not notice the other.
kill -QUIT $server; kill -CONT $server
wait $server
cd /; rm -rf "$dir"
"#;

/// How long the server may take to start on a slow machine.
const START_WITHIN: Duration = Duration::from_secs(60);

/// How a server is set up, if not as usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup<'a> {
    /// Further arguments of `postgres`, such as `-c fsync=off`.
    pub arguments: &'a [&'a str],
    /// The folder in which its own is made, which the user it runs as has to be able to enter.
    pub parent: Option<&'a Path>,
    /// The server that it is a streaming standby of, under the application name `standby`.
    pub standby_of: Option<&'a PrivatePostgres>,
}

/// A running server. Stops and disappears when dropped.
#[derive(Debug)]
pub struct PrivatePostgres {
    keeper: Child,
    folder: TempDir,
}

impl PrivatePostgres {
    /// Starts a server with an empty database cluster. Takes about two seconds, and blocks for them.
    ///
    /// # Errors
    ///
    /// When there are no Postgres binaries, or the server does not start; the text says what to install, or has the
    /// end of the server's log.
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
        let binaries = find_binaries()?;
        let user = other_user()?;
        // As root the default folder may be one that only root can enter; and a socket's path has to be short.
        let usual = if user.is_some() { PathBuf::from("/tmp") } else { std::env::temp_dir() };
        let parent = setup.parent.map_or(usual, Path::to_owned);
        let folder = tempfile::Builder::new().prefix("cimd-cache-").tempdir_in(&parent);
        let folder = folder.with_context(|| format!("cannot make a folder in {}", parent.display()))?;
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700))?;

        let mut keeper = Command::new("/bin/sh");
        keeper
            .args(["-c", KEEPER, "cimd-cache-postgres"])
            .arg(&binaries)
            .arg(folder.path())
            .arg(setup.standby_of.map_or(Path::new(""), |primary| primary.folder.path()))
            .args(setup.arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        // What is said of other databases is not for this one, whose processes may be another user's: a password, or
        // PGPORT, which would move its socket.
        for (name, _) in std::env::vars_os() {
            if name == "DATABASE_URL" || name.as_encoded_bytes().starts_with(b"PG") {
                keeper.env_remove(name);
            }
        }
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid))?;
            keeper.uid(uid).gid(gid);
        }
        let keeper = keeper.spawn().context("cannot run /bin/sh")?;
        let mut server = Self { keeper, folder };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// The URL of a database on the server, for a role; no password is asked for.
    pub fn url(&self, role: &str, database: &str) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://{role}@{folder}/{database}")
    }

    /// The socket that the server listens on.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    /// The folder that all of it is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
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

    /// Starts the server again, with what it has stored, once it has ended. Blocks until it takes connections.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start_again(&mut self) -> Result<()> {
        // The one that a crash left would be taken for that of the new process.
        let _ = std::fs::remove_file(self.pid_file());
        self.keeper.stdin.as_mut().context("the keeper is gone")?.write_all(b"\n")?;
        self.wait_until_ready()
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("data/postmaster.pid")
    }

    /// What the server has logged so far.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log(&self) -> io::Result<String> {
        std::fs::read_to_string(self.folder.path().join("postgres.log"))
    }

    /// Stops the server and waits until it is gone.
    pub fn stop(mut self) {
        self.end();
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        while !is_ready(&self.pid_file()) {
            let failed = self.folder.path().join("failed").exists() || self.keeper.try_wait()?.is_some();
            if failed || started.elapsed() > START_WITHIN {
                bail!("the private Postgres did not start: {}", self.last_words());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = |name| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let text = log("initdb.log") + &log("postgres.log");
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(3)..].join("; ")
    }

    fn end(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether the server takes connections, if only to read as a standby: the eighth line of its pid file says so, which
/// `pg_ctl` goes by too.
fn is_ready(pid_file: &Path) -> bool {
    let text = std::fs::read_to_string(pid_file).unwrap_or_default();
    text.lines().nth(7).is_some_and(|status| ["ready", "standby"].contains(&status.trim()))
}

/// The folder with `initdb` and `postgres`.
fn find_binaries() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A link on the PATH leads to a folder that has the other binary too.
    let on_path = std::env::split_paths(&path).filter_map(|folder| folder.join("initdb").canonicalize().ok());
    let on_path = on_path.filter_map(|file| file.parent().map(Path::to_owned));
    let packaged = [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql@"),
        ("/usr/local/opt", "postgresql@"),
    ];
    let mut installed: Vec<_> =
        packaged.iter().flat_map(|(parent, prefix)| versions(parent, prefix)).collect();
    installed.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    on_path
        .chain(installed.into_iter().map(|(_, folder)| folder))
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
        .context("there are no Postgres binaries on this machine: `apt-get install postgresql` or its like brings them")
}

/// Folders such as `/usr/lib/postgresql/15/bin`, `/usr/pgsql-15/bin` and `/opt/homebrew/opt/postgresql@15/bin`, with
/// their version.
fn versions(parent: &str, prefix: &str) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let version = |name: &str| -> Option<u32> { name.strip_prefix(prefix)?.parse().ok() };
    entries
        .flatten()
        .filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path().join("bin"))))
        .collect()
}

/// The user and group to run the server as, if this process is root's.
fn other_user() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let find = |wanted: &str| {
        let mut fields =
            users.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(wanted))?;
        Some((fields.nth(2)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let user: Option<(u32, u32)> = find("postgres").or_else(|| find("nobody"));
    ensure!(
        user.is_some(),
        "Postgres does not run as root, and there is neither a user `postgres` nor `nobody`"
    );
    Ok(user)
}
