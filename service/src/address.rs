//! Addresses to listen on, as they are written.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::role::Roles;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
    /// A socket that systemd has opened and passed on, of either kind, by its `FileDescriptorName`.
    Systemd(String),
}

/// An address to listen on, and what may be called through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub address: Address,
    /// What may be called.
    pub roles: Roles,
}

/// Why a text is not an address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write unix:/path/of/the/socket, tcp:ADDRESS:PORT with an IP address, or systemd:NAME of a socket unit; behind a \
     comma the roles if not all: unix:/run/cimd-cache.sock,read,write"
)]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.split_once(':').ok_or(AddressError)? {
            // Absolute, so that it is no abstract socket, which has no mode: everybody could connect to it.
            ("unix", path) if path.starts_with('/') && !path.contains('\0') => Ok(Self::Unix(path.into())),
            ("tcp", address) => Ok(Self::Tcp(address.parse().map_err(|_| AddressError)?)),
            ("systemd", name) if !name.is_empty() => Ok(Self::Systemd(name.to_owned())),
            _ => Err(AddressError),
        }
    }
}

impl FromStr for Listen {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (address, roles) = match text.split_once(',') {
            Some((address, roles)) => (address, roles.parse().map_err(|_| AddressError)?),
            None => (text, Roles::ALL),
        };
        Ok(Self { address: address.parse()?, roles })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
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
            "systemd:",
        ] {
            assert_eq!(text.parse::<Listen>(), Err(AddressError), "{text}");
        }
    }
}
