//! The password, if the URL has none: by libpq's rules from `PGPASSWORD`, else from a password file.
//!
//! It is looked up for each connection, so a password that was changed in the file is used from the next
//! connection on.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio_postgres::Config;

/// Where passwords are looked up.
#[derive(Clone, Debug)]
pub(crate) struct Passwords {
    /// The URL's `passfile`.
    file: Option<PathBuf>,
}

impl Passwords {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { file }
    }

    /// `config` with the password for a server, if it has none and there is one. Reads a file: it may block.
    pub(super) fn complete(&self, mut config: Config, host: &str, port: u16) -> Config {
        if config.get_password().is_some_and(|password| !password.is_empty()) {
            return config;
        }
        let Some(user) = config.get_user().map(str::to_owned).or_else(|| whoami::username().ok()) else {
            return config;
        };
        let database = config.get_dbname().unwrap_or(&user);
        if let Some(password) = self.password_for(host, port, database, &user) {
            config.password(password);
        }
        config
    }

    /// The password of a user for a database on a server. `host` is what the URL says: a name, an address, or
    /// the directory of a Unix socket.
    fn password_for(&self, host: &str, port: u16, database: &str, user: &str) -> Option<Vec<u8>> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(password) = variable("PGPASSWORD") {
            return Some(password.into_vec());
        }
        let named = self.file.clone().or_else(|| variable("PGPASSFILE").map(PathBuf::from));
        let is_named = named.is_some();
        let file = named.or_else(|| Some(std::env::home_dir()?.join(".pgpass")))?;
        match read(&file) {
            Ok(lines) => find(&lines, host, port, database, user),
            // The default file is missing on most machines.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => None,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the password file is not used");
                None
            }
        }
    }
}

/// Reads a password file, if it is one that only its owner can read.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    // Checked before it is opened: opening a pipe would wait for its other end.
    if !std::fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let mut file = File::open(file)?;
    let metadata = file.metadata()?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::other("others than its owner have rights on it: chmod 600 takes them away"));
    }
    let mut lines = Vec::new();
    file.read_to_end(&mut lines)?;
    Ok(lines)
}

/// The password of the first line that fits: `hostname:port:database:username:password`.
fn find(lines: &[u8], host: &str, port: u16, database: &str, user: &str) -> Option<Vec<u8>> {
    let port = port.to_string();
    let hosts: &[&str] = if host.starts_with('/') { &[host, "localhost"] } else { &[host] };
    let wanted = [hosts, &[&port], &[database], &[user]];
    let lines = lines.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let password = lines.filter(|line| !line.starts_with(b"#")).find_map(|line| password_in(line, wanted))?;
    Some(password).filter(|password| !password.is_empty())
}

/// The password of a line, if each of its other fields is `*` or one of the wanted texts.
fn password_in(mut line: &[u8], wanted: [&[&str]; 4]) -> Option<Vec<u8>> {
    for texts in wanted {
        let any = line.starts_with(b"*:");
        let (field, rest) = field(line);
        line = rest?;
        if !any && !texts.iter().any(|text| text.as_bytes() == field) {
            return None;
        }
    }
    Some(field(line).0)
}

/// The first field of a line, and the rest after its colon, if there is one. A backslash escapes the next
/// character.
fn field(line: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let (mut field, mut bytes) = (Vec::new(), line.iter());
    while let Some(&byte) = bytes.next() {
        match byte {
            b':' => return (field, Some(bytes.as_slice())),
            b'\\' => field.push(bytes.next().copied().unwrap_or(b'\\')),
            _ => field.push(byte),
        }
    }
    (field, None)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};

    use super::*;

    const FILE: &str = r"
# db.example:5432:auth:app:a comment
db.example:5432:auth:app
db.example:5432:auth:app:first
db.example:5432:auth:app:second
db.example:*:auth:odd\:name:with\:colon\\and backslash:ignored
/run/pg:*:*:app:of this socket
localhost:*:*:app:of this machine
*:5433:auth:\*:a star
*:5433:*:*:any
*:5434:*:*:
";

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        for (host, port, database, user, expected) in [
            ("db.example", 5432, "auth", "app", Some("first")),
            ("db.example", 5432, "auth", "odd:name", Some(r"with:colon\and backslash")),
            ("db.example", 5432, "auth", "other", None),
            ("db.example", 5432, "other", "app", None),
            ("example", 5432, "auth", "app", None),
            ("/run/pg", 5432, "auth", "app", Some("of this socket")),
            ("/run/other", 5432, "auth", "app", Some("of this machine")),
            ("localhost", 5432, "auth", "app", Some("of this machine")),
            ("10.0.0.1", 5433, "auth", "*", Some("a star")),
            ("10.0.0.1", 5433, "auth", "app", Some("any")),
            ("10.0.0.1", 5434, "auth", "app", None),
        ] {
            for file in [FILE, &FILE.replace('\n', "\r\n")] {
                let found = find(file.as_bytes(), host, port, database, user);
                let found = found.map(|password| String::from_utf8(password).unwrap());
                assert_eq!(found.as_deref(), expected, "{user}@{host}:{port}/{database}");
            }
        }
    }

    #[test]
    fn a_file_that_others_have_rights_on_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("passwords");
        write(&file, "*:*:*:*:hunter2").unwrap();
        for (mode, is_read) in
            [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false), (0o601, false)]
        {
            set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&file).is_ok(), is_read, "{mode:o}");
        }
        assert!(read(directory.path()).is_err());
        let pipe = directory.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(read(&pipe).is_err(), "and it did not wait for a writer");
    }
}
