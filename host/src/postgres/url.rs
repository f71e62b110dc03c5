//! The database URL: libpq's, with each of its options at work as there, or refused by name.
//!
//! libpq's default `sslmode=prefer` falls back to plaintext silently. Here a connection over a network is
//! encrypted and verified, unless plaintext is requested explicitly.

mod error;
mod options;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use tokio_postgres::Config;

pub use self::error::DatabaseUrlError;
use super::pgpass::Passwords;
use super::target::Target;

/// Where the database is and how to log in: a URL as libpq's,
/// `postgres://user:password@host:port/database?options`, with special characters percent-encoded. White
/// space around it is ignored.
///
/// Several hosts may be given (`@a,b/`): the first that accepts writes is used, which follows a failover.
/// A directory as host, percent-encoded or as `?host=/directory`, is a Unix socket. Of libpq's options
/// (PostgreSQL 13 to 18) these work:
///
/// | option | here |
/// |---|---|
/// | `host`, `hostaddr`, `port`, `user`, `password`, `dbname` | as in front of the `?`, in whose place they are taken; lists with commas |
/// | `passfile` | the password file, if neither the URL nor `PGPASSWORD` has a password |
/// | `sslmode` | `verify-full`, `verify-ca` and `require`: encrypted, and the server's certificate and name are verified in all three; what a network has without the option. `disable`: plaintext, which loopback addresses and Unix sockets have without the option. `prefer` and `allow` are refused: whether they encrypt is up to whoever stands in between |
/// | `sslrootcert` | a file with the certificates of the authorities to trust (PEM); `system`, or without the option, the system's |
/// | `sslcert`, `sslkey` | files with the client's certificate and its key (PEM; PKCS#8, PKCS#1 or SEC1, not encrypted). The key's file must be one that group and others have no permission on; if root owns it, its group may read it |
/// | `sslcertmode` | `allow`; `disable` leaves the client's certificate out |
/// | `ssl_min_protocol_version`, `ssl_max_protocol_version` | `TLSv1.2` and `TLSv1.3` are spoken, never an older one |
/// | `channel_binding` | `require`: encrypted also where plaintext is the default, and logs in only where the server proves, by SCRAM, that the encryption ends at itself and nowhere before. `prefer`, the default: where the server offers it. `disable`: never |
/// | `target_session_attrs` | which of the servers is used: `read-write`, here the default; `primary`; `any`, `read-only`, `standby`, `prefer-standby`. A standby lags behind, and goes on serving what was deleted or replaced on the primary |
/// | `load_balance_hosts` | `disable`, or `random`: the hosts, and the addresses of each, in any order |
/// | `connect_timeout` | seconds for each address; 0 for no limit but the deadline |
/// | `keepalives`, `keepalives_idle`, `keepalives_interval`, `keepalives_count` | on after 30 s of silence, every 5 s, 3 times, where nothing else is said |
/// | `tcp_user_timeout` | milliseconds |
/// | `application_name`, `fallback_application_name` | `cimd-cache` where neither is given |
/// | `options` | the server's settings: `-c name=value` |
///
/// Options that would change nothing are accepted if they ask for what is the case anyway:
/// `client_encoding=UTF8`, `gssencmode=disable` or `prefer`, `sslnegotiation=postgres`, `sslcompression=0`,
/// `sslsni=1`, `replication=false`, `gssdelegation=0`, `min_protocol_version=3.0` and any
/// `max_protocol_version`. All others are refused, each by its name: `service` and `servicefile`,
/// `sslpassword`, `sslcrl`, `sslcrldir`, `sslkeylogfile`, `require_auth`, `requirepeer`, `requiressl`,
/// `krbsrvname`, `gsslib`, `scram_client_key`, `scram_server_key`, the `oauth_` options, and what other
/// programs add to URLs. Options about TLS are refused on a connection in plaintext. Nothing is read from
/// libpq's environment variables but the password and its file, and no certificate or key is looked for in
/// `~/.postgresql`.
///
/// A URL without a password takes it, as libpq does, from the environment's `PGPASSWORD`, else from a
/// password file: that of the option `passfile`, else of `PGPASSFILE`, else `~/.pgpass`, with lines
/// `hostname:port:database:username:password`. This file and those of `sslrootcert`, `sslcert` and `sslkey`
/// are read for each connection, so a new password or certificate needs no restart; a password file on which
/// others than its owner have any permission is not used, which the log reports.
///
/// `Debug` shows neither user nor password.
#[derive(Clone)]
pub struct DatabaseUrl {
    pub(crate) config: Config,
    pub(super) targets: Vec<Target>,
    pub(crate) tls: Tls,
    pub(crate) wanted: Wanted,
    pub(crate) passwords: Passwords,
}

/// Whether the connection is encrypted, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    Off,
    Verified(Verification),
}

/// What each side shows the other, and how they speak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verification {
    /// The certificates to trust; without a file, the system's.
    pub(crate) roots: Option<PathBuf>,
    pub(crate) identity: Option<Identity>,
    pub(crate) oldest: Version,
    pub(crate) newest: Version,
}

/// The files of a client certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A version of TLS. `Default` is for either end of a range: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    #[default]
    Any,
    Tls12,
    Tls13,
}

/// Which of the servers will do: libpq's `target_session_attrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseUrl")
            .field("hosts", &self.config.get_hosts())
            .field("database", &self.config.get_dbname())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
