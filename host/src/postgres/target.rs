//! The servers that a URL names, and the addresses of each.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::socket::Endpoint;

/// One of the servers that a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    address: Address,
    /// The name that the server's certificate must be for.
    pub(super) name: String,
    pub(super) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Name(String),
    Ip(IpAddr),
    Directory(PathBuf),
}

/// The servers of a URL, in its order. None if the numbers of names, addresses and ports do not fit each
/// other.
pub(super) fn targets(config: &Config) -> Option<Vec<Target>> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    let agree = |length| length == count || length == 0;
    if !agree(hosts.len()) || !agree(addresses.len()) || !(agree(ports.len()) || ports.len() == 1) {
        return None;
    }
    let target = |at: usize| {
        let port = ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5432);
        let address = addresses.get(at).copied().map(Address::Ip);
        let (name, address) = match (hosts.get(at), address) {
            (Some(Host::Tcp(name)), address) => {
                (name.clone(), address.unwrap_or_else(|| Address::Name(name.clone())))
            }
            (Some(Host::Unix(_)) | None, Some(Address::Ip(address))) => {
                (address.to_string(), Address::Ip(address))
            }
            (Some(Host::Unix(directory)), _) => (String::new(), Address::Directory(directory.clone())),
            (None, _) => return None,
        };
        Some(Target { address, name, port })
    };
    (0..count).map(target).collect()
}

impl Target {
    /// The server as a password file names it: its name, else its address, else the directory of its socket.
    pub(super) fn host(&self) -> String {
        match &self.address {
            Address::Directory(directory) => directory.display().to_string(),
            Address::Name(_) | Address::Ip(_) => self.name.clone(),
        }
    }

    /// All addresses of its name. Takes as long as the resolver does, which has its own time limits.
    pub(super) async fn endpoints(&self) -> io::Result<Vec<Endpoint>> {
        Ok(match &self.address {
            Address::Directory(directory) => {
                vec![Endpoint::Unix(directory.join(format!(".s.PGSQL.{}", self.port)))]
            }
            Address::Ip(address) => vec![Endpoint::Tcp((*address, self.port).into())],
            Address::Name(name) => {
                let addresses = tokio::net::lookup_host((name.as_str(), self.port)).await?;
                addresses.map(Endpoint::Tcp).collect()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports_and_names(url: &str) -> Option<Vec<(String, u16)>> {
        let config: Config = url.parse().unwrap();
        Some(targets(&config)?.into_iter().map(|target| (target.name, target.port)).collect())
    }

    #[test]
    fn each_host_of_a_url_is_a_target() {
        let names = |targets: &[(&str, u16)]| {
            Some(targets.iter().map(|&(name, port)| (name.to_owned(), port)).collect())
        };
        for (url, expected) in [
            ("postgres://u@a/d", names(&[("a", 5432)])),
            ("postgres://u@a:1,b:2/d", names(&[("a", 1), ("b", 2)])),
            ("postgres://u@a,b/d?hostaddr=10.0.0.1,10.0.0.2", names(&[("a", 5432), ("b", 5432)])),
            ("postgres://u@%2Ftmp:7/d", names(&[("", 7)])),
            ("postgres:///d?hostaddr=10.0.0.1", names(&[("10.0.0.1", 5432)])),
            ("postgres://u@a,b/d?hostaddr=10.0.0.1", None),
        ] {
            assert_eq!(ports_and_names(url), expected, "{url}");
        }
    }
}
