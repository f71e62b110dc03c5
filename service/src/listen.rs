//! Where the service listens: Unix sockets and TCP ports.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, UnixListener};

use crate::role::Roles;

/// An address to listen on, and what may be called through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub address: Address,
    /// What may be called.
    pub roles: Roles,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

/// Why a text is not an address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write unix:/path/of/the/socket or tcp:ADDRESS:PORT with an IP address, and behind a comma the roles if not all: \
     unix:/run/cimd-cache.sock,read,write"
)]
pub struct ListenError;

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let (address, roles) = match text.split_once(',') {
            Some((address, roles)) => (address, roles.parse().map_err(|_| ListenError)?),
            None => (text, Roles::ALL),
        };
        let address = match address.split_once(':').ok_or(ListenError)? {
            // Absolute, so that it is no abstract socket, which has no mode: everybody could connect to it.
            ("unix", path) if path.starts_with('/') && !path.contains('\0') => Address::Unix(path.into()),
            ("tcp", address) => Address::Tcp(address.parse().map_err(|_| ListenError)?),
            _ => return Err(ListenError),
        };
        Ok(Self { address, roles })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// Who may connect to a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketAccess {
    /// Its mode, such as `0o660`.
    pub mode: u32,
    /// The group that it is given to, by number.
    pub group: Option<u32>,
}

impl Default for SocketAccess {
    fn default() -> Self {
        Self { mode: 0o660, group: None }
    }
}

/// A socket that is listened on. Dropped, a Unix socket's file is removed.
#[derive(Debug)]
pub(crate) enum Listener {
    Unix { listener: UnixListener, _file: SocketFile },
    Tcp(TcpListener),
}

/// The file of a Unix socket of ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// By which it is told from one that another process has put in its place.
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        use std::os::unix::fs::MetadataExt;
        if std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// The address of a TCP port, as it is in the end: 0 asks for any port.
    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix { .. } => None,
            Self::Tcp(listener) => listener.local_addr().ok(),
        }
    }
}

pub(crate) async fn bind(address: &Address, access: SocketAccess) -> io::Result<Listener> {
    match address {
        Address::Tcp(address) => Ok(Listener::Tcp(TcpListener::bind(address).await?)),
        Address::Unix(path) => {
            let (listener, file) = bind_unix(path, access).await?;
            Ok(Listener::Unix { listener, _file: file })
        }
    }
}

/// The socket is bound under another name, given its mode and group, and only then moved to its place: at no
/// moment can somebody connect who may not. One that is there already is replaced only if nobody listens on
/// it.
async fn bind_unix(path: &Path, access: SocketAccess) -> io::Result<(UnixListener, SocketFile)> {
    use std::os::unix::fs::MetadataExt;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a file of this name that is no socket",
            ));
        }
        Ok(_) => match tokio::net::UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another process listens on this socket",
                ));
            }
            Err(error) => return Err(error),
        },
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{:08x}", fastrand::u32(..)));
    let temporary = PathBuf::from(temporary);
    let listener = UnixListener::bind(&temporary)?;
    let moved = (|| {
        if access.group.is_some() {
            chown(&temporary, None, access.group)?;
        }
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(access.mode))?;
        let inode = std::fs::symlink_metadata(&temporary)?.ino();
        std::fs::rename(&temporary, path)?;
        Ok(SocketFile { path: path.to_owned(), inode })
    })();
    match moved {
        Ok(file) => Ok((listener, file)),
        Err(error) => {
            let _ = std::fs::remove_file(&temporary);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_and_for_whom() {
        let listen: Listen = "unix:/run/cimd-cache/cache.sock,read,write".parse().unwrap();
        assert_eq!(listen.address, Address::Unix("/run/cimd-cache/cache.sock".into()));
        assert_eq!(listen.roles.to_string(), "read,write");
        let listen: Listen = "tcp:[::1]:8080".parse().unwrap();
        assert_eq!((listen.address.to_string().as_str(), listen.roles), ("tcp:[::1]:8080", Roles::ALL));
        for text in [
            "",
            "/run/x",
            "unix:relative",
            "unix:@abstract",
            "tcp:localhost:80",
            "tcp:127.0.0.1",
            "http:127.0.0.1:80",
            "unix:/x,",
            "unix:/x,all",
        ] {
            assert_eq!(text.parse::<Listen>(), Err(ListenError), "{text}");
        }
    }
}
