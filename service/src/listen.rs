//! Opens the sockets that the service listens on.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener};

use crate::address::Address;

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

/// A socket that is listened on. Dropped, the file of a Unix socket is removed, unless systemd has made it.
#[derive(Debug)]
pub(crate) enum Listener {
    Unix { listener: UnixListener, _file: Option<SocketFile> },
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

/// The sockets that systemd has opened for this process (sd_listen_fds(3)).
pub(crate) struct Inherited {
    sockets: ListenFd,
    names: Vec<String>,
}

impl Inherited {
    /// Takes them over. There are none the second time.
    pub(crate) fn take() -> Self {
        // Read first: taking the sockets removes the variables.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self { sockets: ListenFd::from_env(), names: names.split(':').map(str::to_owned).collect() }
    }

    fn listener(&mut self, name: &str) -> io::Result<Listener> {
        let missing = || io::Error::new(ErrorKind::NotFound, "systemd has passed no socket of this name");
        let at = self.names.iter().position(|given| given == name).ok_or_else(missing)?;
        if let Ok(Some(listener)) = self.sockets.take_unix_listener(at) {
            listener.set_nonblocking(true)?;
            return Ok(Listener::Unix { listener: UnixListener::from_std(listener)?, _file: None });
        }
        let listener = self.sockets.take_tcp_listener(at)?.ok_or_else(missing)?;
        listener.set_nonblocking(true)?;
        Ok(Listener::Tcp(TcpListener::from_std(listener)?))
    }
}

pub(crate) async fn bind(
    address: &Address,
    access: SocketAccess,
    inherited: &mut Inherited,
) -> io::Result<Listener> {
    match address {
        Address::Tcp(address) => Ok(Listener::Tcp(TcpListener::bind(address).await?)),
        Address::Unix(path) => {
            let (listener, file) = bind_unix(path, access).await?;
            Ok(Listener::Unix { listener, _file: Some(file) })
        }
        Address::Systemd(name) => inherited.listener(name),
    }
}

/// The socket is bound under another name, given its mode and group, and only then moved to its place: at no
/// moment can somebody connect who may not. One that is there already is replaced only if nobody listens on
/// it.
async fn bind_unix(path: &Path, access: SocketAccess) -> io::Result<(UnixListener, SocketFile)> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "there is a file of this name that is no socket",
            ));
        }
        Ok(_) => match tokio::net::UnixStream::connect(path).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Ok(_) => {
                return Err(io::Error::new(ErrorKind::AddrInUse, "another process listens on this socket"));
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
