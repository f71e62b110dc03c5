//! What the machine has: the binaries of Postgres, and a user to run them as.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The directory with `initdb` and `postgres`.
pub(super) fn find_binaries() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A link on the PATH leads to a directory that has the other binary too.
    let on_path =
        std::env::split_paths(&path).filter_map(|directory| directory.join("initdb").canonicalize().ok());
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
        .chain(installed.into_iter().map(|(_, directory)| directory))
        .find(|directory| directory.join("initdb").is_file() && directory.join("postgres").is_file())
        .context("there are no Postgres binaries on this machine: `apt-get install postgresql` or its like brings them")
}

/// Folders such as `/usr/lib/postgresql/15/bin`, `/usr/pgsql-15/bin` and
/// `/opt/homebrew/opt/postgresql@15/bin`, with their version.
fn versions(parent: &str, prefix: &str) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let version = |name: &str| -> Option<u32> { name.strip_prefix(prefix)?.parse().ok() };
    entries
        .flatten()
        .filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path().join("bin"))))
        .collect()
}

/// The user and group to run the server as, if this process is root's.
pub(super) fn other_user() -> Result<Option<(u32, u32)>> {
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
