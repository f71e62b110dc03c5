//! The database URL: what tokio-postgres reads, and the parts about TLS and passwords that it does not.
//!
//! libpq's default `sslmode=prefer` falls back to plaintext in silence. Here a connection over a network is encrypted
//! and verified, or was asked to be plain in so many words.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, TargetSessionAttrs};

use super::connect::{Connected, Patience};
use super::password::Passwords;

/// Where the database is and how to log in: a URL as libpq's, `postgres://user:password@host:port/database?options`.
///
/// Several hosts may be given (`@a,b/`): the first that takes writes is used, so that a failover is followed. One host
/// has to take writes too, unless the URL says otherwise by `target_session_attrs`: a standby lags behind, and would go
/// on serving what was deleted. A folder as host, percent-encoded or as `?host=/folder`, is a Unix socket. About TLS it
/// understands:
///
/// * `sslmode=verify-full`, `verify-ca` and `require`: encrypted, and the server's certificate and name are verified in
///   all three. Over a network this is also what happens without `sslmode`.
/// * `sslmode=disable`: plaintext, whatever the host is. The default to loopback addresses and Unix sockets.
/// * `sslmode=prefer` and `allow` are refused: whether they encrypt is up to whoever stands in between.
/// * `sslrootcert=FILE`: the certificates to trust (PEM), instead of the system's.
/// * `channel_binding=require`: encrypted also where plaintext is the default, and logs in only where the server proves,
///   by SCRAM, that the encryption ends at itself and nowhere before. By default that is proved where the server offers
///   it; one behind a proxy that ends TLS, or with another kind of login, cannot.
///
/// A URL without a password takes it, as libpq does, from the environment's `PGPASSWORD`, else from a password file: that
/// of the option `passfile`, else of `PGPASSFILE`, else `~/.pgpass`, with lines
/// `hostname:port:database:username:password`. The file is read for each connection, so a new password needs no
/// restart; one on which others than its owner have any rights is not used, and the log says so.
///
/// `Debug` shows neither user nor password.
#[derive(Clone)]
pub struct DatabaseUrl {
    pub(crate) config: Config,
    pub(crate) tls: Tls,
    pub(crate) passwords: Passwords,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    Off,
    Verified { roots: Option<PathBuf> },
}

/// Why a database URL was not understood. The text never contains the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseUrlError {
    /// It is not `postgres://` or `postgresql://`.
    #[error("the database URL does not begin with postgres:// or postgresql://")]
    Scheme,
    /// tokio-postgres does not understand it.
    #[error(
        "the database URL cannot be read: it has the form postgres://user:password@host:port/database?options, with \
         special characters percent-encoded"
    )]
    Syntax,
    /// `sslmode` is `prefer`, `allow` or something unknown.
    #[error(
        "sslmode has to be verify-full, verify-ca, require or disable: nothing else says whether to encrypt"
    )]
    SslMode,
    /// `channel_binding=require` together with `sslmode=disable`.
    #[error("channel_binding=require needs an encrypted connection: leave out sslmode=disable")]
    ChannelBinding,
    /// It names no host.
    #[error(
        "the database URL names no host: write it before the database, or as ?host=/folder for a Unix socket"
    )]
    Host,
}

impl DatabaseUrl {
    /// Opens a connection of the caller's own, by the same rules as the cache's; it ends when the client is dropped. For
    /// the command's benchmark, which measures other ways to use the same database. `calls` is how many calls are under
    /// way on it, which the caller counts.
    ///
    /// # Errors
    ///
    /// When there is no connection.
    #[doc(hidden)]
    pub async fn connect(&self, calls: Arc<AtomicUsize>) -> anyhow::Result<tokio_postgres::Client> {
        let connector = super::Connector::new(self)?;
        let patience = Patience { whole: Duration::from_secs(10), silence: Duration::from_secs(10) };
        let Connected { client, connection, .. } = connector.connect("", patience).await?;
        tokio::spawn(super::gather::gathering(connection, calls));
        Ok(client)
    }
}

/// Two hours, what tokio-postgres takes where the URL says nothing. A connection that a firewall has forgotten would
/// be found out only then.
const UNSET_KEEPALIVE: Duration = Duration::from_secs(2 * 60 * 60);

/// What is taken instead: asked after half a minute of silence, a peer is dead after three questions in fifteen seconds.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(DatabaseUrlError::Scheme);
        }
        let (text, Own { ssl_mode, roots, password_file }) = take_own(text);
        let mut config: Config = text.parse().map_err(|_| DatabaseUrlError::Syntax)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(DatabaseUrlError::Host);
        }
        let bound = config.get_channel_binding() == ChannelBinding::Require;
        let plain = match ssl_mode.as_deref() {
            None => is_local(&config) && !bound,
            Some("disable") if bound => return Err(DatabaseUrlError::ChannelBinding),
            Some("disable") => true,
            Some("require" | "verify-ca" | "verify-full") => false,
            Some(_) => return Err(DatabaseUrlError::SslMode),
        };
        if super::dial::targets(&config).is_none() {
            return Err(DatabaseUrlError::Syntax);
        }
        config.ssl_mode(if plain { SslMode::Disable } else { SslMode::Require });
        if config.get_application_name().is_none() {
            config.application_name("cimd-cache");
        }
        if config.get_keepalives_idle() == UNSET_KEEPALIVE {
            config.keepalives_idle(KEEPALIVE);
        }
        if config.get_keepalives_interval().is_none() {
            config.keepalives_interval(KEEPALIVE_INTERVAL);
        }
        if config.get_keepalives_retries().is_none() {
            config.keepalives_retries(KEEPALIVE_RETRIES);
        }
        if config.get_target_session_attrs() == TargetSessionAttrs::Any {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let tls = if plain { Tls::Off } else { Tls::Verified { roots } };
        Ok(Self { config, tls, passwords: Passwords::new(password_file) })
    }
}

/// The options that tokio-postgres does not know, or not so.
#[derive(Default)]
struct Own {
    ssl_mode: Option<String>,
    roots: Option<PathBuf>,
    password_file: Option<PathBuf>,
}

/// Takes our own options out of a URL.
fn take_own(text: &str) -> (String, Own) {
    let mut own = Own::default();
    let Some((base, options)) = text.split_once('?') else {
        return (text.to_owned(), own);
    };
    let mut rest = form_urlencoded::Serializer::new(String::new());
    // To a form a `+` is a space; to libpq and tokio-postgres it is itself.
    for (name, value) in form_urlencoded::parse(options.replace('+', "%2B").as_bytes()) {
        match name.as_ref() {
            "sslmode" => own.ssl_mode = Some(value.into_owned()),
            "sslrootcert" => own.roots = Some(PathBuf::from(value.into_owned())),
            "passfile" => own.password_file = Some(PathBuf::from(value.into_owned())),
            _ => {
                rest.append_pair(&name, &value);
            }
        }
    }
    let options = rest.finish().replace('+', "%20");
    (format!("{base}?{options}"), own)
}

/// Whether every host is this machine: a Unix socket or a loopback address.
fn is_local(config: &Config) -> bool {
    let loopback = |name: &String| {
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    config.get_hostaddrs().iter().all(IpAddr::is_loopback)
        && config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => loopback(name),
            #[cfg(unix)]
            Host::Unix(_) => true,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(url: &str) -> Result<Tls, DatabaseUrlError> {
        url.parse::<DatabaseUrl>().map(|url| url.tls)
    }

    #[test]
    fn a_network_is_crossed_encrypted_unless_the_url_says_otherwise() {
        let verified = |roots: Option<&str>| Ok(Tls::Verified { roots: roots.map(PathBuf::from) });
        for (url, expected) in [
            ("postgres://u:p@db.example/d", verified(None)),
            ("postgres://u:p@db.example/d?sslmode=require", verified(None)),
            ("postgres://u@localhost,db.example/d", verified(None)),
            ("postgres://u@10.0.0.1/d?sslmode=verify-full&sslrootcert=/ca.pem", verified(Some("/ca.pem"))),
            ("postgres://u@127.0.0.1/d?sslmode=verify-ca", verified(None)),
            ("postgres://u@localhost/d?hostaddr=10.0.0.1", verified(None)),
            ("postgres://u@localhost/d?channel_binding=require", verified(None)),
            ("postgres://u@db.example/d?sslmode=disable", Ok(Tls::Off)),
            ("postgres://u@localhost/d", Ok(Tls::Off)),
            ("postgres://u@127.0.0.1/d", Ok(Tls::Off)),
            ("postgres://u@%2Fvar%2Frun%2Fpostgresql/d", Ok(Tls::Off)),
            ("postgresql:///d?host=/var/run/postgresql", Ok(Tls::Off)),
            ("postgres://u@localhost/d?sslmode=prefer", Err(DatabaseUrlError::SslMode)),
            ("postgres://u@localhost/d?sslmode=", Err(DatabaseUrlError::SslMode)),
            (
                "postgres://u@localhost/d?sslmode=disable&channel_binding=require",
                Err(DatabaseUrlError::ChannelBinding),
            ),
            ("postgres:///d", Err(DatabaseUrlError::Host)),
            ("mysql://u@localhost/d", Err(DatabaseUrlError::Scheme)),
            ("host=localhost", Err(DatabaseUrlError::Scheme)),
            ("postgres://u@localhost:port/d", Err(DatabaseUrlError::Syntax)),
            ("postgres://u@localhost/d?no_such_option=1", Err(DatabaseUrlError::Syntax)),
        ] {
            assert_eq!(tls(url), expected, "{url}");
        }
    }

    #[test]
    fn options_reach_the_server_as_they_were_written() {
        let url = "postgres://u@localhost/d?options=-c%20geqo%3Doff&sslmode=disable&application_name=a%2Bb+c";
        let config = url.parse::<DatabaseUrl>().unwrap().config;
        assert_eq!(config.get_options(), Some("-c geqo=off"));
        assert_eq!(config.get_application_name(), Some("a+b+c"));
    }

    #[test]
    fn debug_output_keeps_the_login_to_itself() {
        let url: DatabaseUrl = "postgres://alice:hunter2@localhost/d".parse().unwrap();
        let shown = format!("{url:?}");
        assert!(!shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
    }
}
