//! What the options of a URL mean.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, LoadBalanceHosts, SslMode};

use super::settings::Settings;
use super::{DatabaseUrl, DatabaseUrlError as Error, Identity, Tls, Verification, Version, Wanted};
use crate::postgres::pgpass::Passwords;
use crate::postgres::target;

/// Keepalive defaults: after half a minute of silence, three probes in fifteen seconds decide that the peer
/// is gone. Without them, a connection that a firewall has forgotten would be noticed after hours.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Options about encryption, which a plaintext connection could not honour.
const OF_TLS: [&str; 5] =
    ["sslcert", "sslkey", "sslrootcert", "ssl_min_protocol_version", "ssl_max_protocol_version"];

const SECONDS: &str = "a number of seconds";

impl FromStr for DatabaseUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        read(&Settings::parse(text.trim())?)
    }
}

fn read(settings: &Settings) -> Result<DatabaseUrl, Error> {
    no_ops(settings)?;
    let mut config = Config::new();
    servers(settings, &mut config)?;
    login(settings, &mut config)?;
    timing(settings, &mut config)?;
    let tls = tls(settings, &config)?;
    config.ssl_mode(if tls == Tls::Off { SslMode::Disable } else { SslMode::Require });
    let wanted = [
        ("any", Wanted::Any),
        ("read-write", Wanted::ReadWrite),
        ("read-only", Wanted::ReadOnly),
        ("primary", Wanted::Primary),
        ("standby", Wanted::Standby),
        ("prefer-standby", Wanted::PreferStandby),
    ];
    let expected = "read-write, primary, any, read-only, standby or prefer-standby";
    let wanted = settings.choice("target_session_attrs", &wanted, expected)?;
    let targets = target::targets(&config).ok_or(Error::Count)?;
    Ok(DatabaseUrl {
        config,
        targets,
        tls,
        wanted: wanted.unwrap_or(Wanted::ReadWrite),
        passwords: Passwords::new(file(settings, "passfile")),
    })
}

/// Options that change nothing here. They are accepted if they ask for what is the case anyway.
fn no_ops(settings: &Settings) -> Result<(), Error> {
    for (name, values, expected) in [
        (
            "client_encoding",
            &["UTF8", "UTF-8", "auto"][..],
            "UTF8: documents are UTF-8, whatever the database's locale",
        ),
        ("gssdelegation", &["0"], "0: there is no login by Kerberos here"),
        (
            "gssencmode",
            &["disable", "prefer"],
            "disable or prefer: encryption is TLS here, and never Kerberos'",
        ),
        ("max_protocol_version", &["3.0", "3.2", "latest"], "3.0, 3.2 or latest"),
        ("min_protocol_version", &["3.0"], "3.0, which is the version of the protocol that is spoken here"),
        ("replication", &["false", "off", "no", "0"], "false: the cache replicates nothing"),
        ("sslcompression", &["0"], "0: what is encrypted is not compressed"),
        ("sslnegotiation", &["postgres"], "postgres: direct is not supported"),
        ("sslsni", &["1"], "1: the server's name is always said"),
    ] {
        let values: Vec<_> = values.iter().map(|value| (*value, ())).collect();
        settings.choice(name, &values, expected)?;
    }
    Ok(())
}

fn servers(settings: &Settings, config: &mut Config) -> Result<(), Error> {
    for host in list(settings.bytes("host")) {
        match std::str::from_utf8(host) {
            _ if host.starts_with(b"/") => config.host_path(PathBuf::from(OsStr::from_bytes(host))),
            Ok("") => return Err(Error::Host),
            Ok(host) => config.host(host),
            Err(_) => return Err(Error::Text),
        };
    }
    for address in list(settings.bytes("hostaddr")) {
        let address = std::str::from_utf8(address).ok().and_then(|address| address.parse().ok());
        let expected = "an IP address, or a list of them with commas";
        config.hostaddr(address.ok_or(Error::Value { name: "hostaddr", expected })?);
    }
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(Error::Host);
    }
    for port in list(settings.bytes("port")) {
        let port = std::str::from_utf8(port).map_err(|_| Error::Port)?;
        let port = if port.is_empty() { Ok(5432) } else { port.parse() };
        config.port(port.ok().filter(|port| *port > 0).ok_or(Error::Port)?);
    }
    let order = [("disable", LoadBalanceHosts::Disable), ("random", LoadBalanceHosts::Random)];
    if let Some(order) = settings.choice("load_balance_hosts", &order, "disable or random")? {
        config.load_balance_hosts(order);
    }
    Ok(())
}

/// The parts between commas, if there is anything.
fn list(value: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
    value.filter(|value| !value.is_empty()).into_iter().flat_map(|value| value.split(|&byte| byte == b','))
}

fn login(settings: &Settings, config: &mut Config) -> Result<(), Error> {
    if let Some(user) = settings.text("user")?.filter(|user| !user.is_empty()) {
        config.user(user);
    }
    if let Some(password) = settings.bytes("password") {
        config.password(password);
    }
    if let Some(database) = settings.text("dbname")?.filter(|database| !database.is_empty()) {
        config.dbname(database);
    }
    if let Some(options) = settings.text("options")? {
        config.options(options);
    }
    let given = |name| Ok(settings.text(name)?.filter(|name| !name.is_empty()));
    let name = match given("application_name")? {
        Some(name) => name,
        None => given("fallback_application_name")?.unwrap_or("cimd-cache"),
    };
    config.application_name(name);
    let binding = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    if let Some(binding) = settings.choice("channel_binding", &binding, "require, prefer or disable")? {
        config.channel_binding(binding);
    }
    Ok(())
}

fn timing(settings: &Settings, config: &mut Config) -> Result<(), Error> {
    let seconds = |name, default| {
        let seconds = settings.number(name, SECONDS)?;
        Ok(seconds.map_or(default, |seconds| Duration::from_secs(seconds.into())))
    };
    let limit = seconds("connect_timeout", Duration::ZERO)?;
    if !limit.is_zero() {
        config.connect_timeout(limit);
    }
    if let Some(limit) = settings.number("tcp_user_timeout", "a number of milliseconds")? {
        config.tcp_user_timeout(Duration::from_millis(limit.into()));
    }
    let on = settings.choice("keepalives", &[("0", false), ("1", true)], "1 or 0")?;
    config.keepalives(on.unwrap_or(true));
    config.keepalives_idle(seconds("keepalives_idle", KEEPALIVE)?);
    config.keepalives_interval(seconds("keepalives_interval", KEEPALIVE_INTERVAL)?);
    let count = settings.number("keepalives_count", "a number")?;
    config.keepalives_retries(count.unwrap_or(KEEPALIVE_RETRIES));
    Ok(())
}

fn tls(settings: &Settings, config: &Config) -> Result<Tls, Error> {
    let bound = config.get_channel_binding() == ChannelBinding::Require;
    let plain = match settings.text("sslmode")? {
        None => is_local(config) && !bound,
        Some("disable") if bound => return Err(Error::ChannelBinding),
        Some("disable") => true,
        Some("require" | "verify-ca" | "verify-full") => false,
        Some(_) => return Err(Error::SslMode),
    };
    let identity = identity(settings)?;
    let (oldest, newest) = versions(settings)?;
    match OF_TLS.into_iter().find(|name| plain && settings.has(name)) {
        Some(name) => Err(Error::Plaintext { name }),
        None if plain => Ok(Tls::Off),
        None => {
            // libpq's other modes all mean the same here: encrypted and verified.
            let roots = file(settings, "sslrootcert").filter(|roots| roots.as_os_str() != "system");
            Ok(Tls::Verified(Verification { roots, identity, oldest, newest }))
        }
    }
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

fn identity(settings: &Settings) -> Result<Option<Identity>, Error> {
    let modes = [("disable", false), ("allow", true)];
    let shown = settings.choice("sslcertmode", &modes, "allow or disable: require is not supported")?;
    let half = |given, missing| Err(Error::HalfIdentity { given, missing });
    match (file(settings, "sslcert"), file(settings, "sslkey")) {
        (Some(_), None) => half("sslcert", "sslkey"),
        (None, Some(_)) => half("sslkey", "sslcert"),
        (Some(certificate), Some(key)) if shown != Some(false) => Ok(Some(Identity { certificate, key })),
        _ => Ok(None),
    }
}

fn versions(settings: &Settings) -> Result<(Version, Version), Error> {
    let (min, max) = ("ssl_min_protocol_version", "ssl_max_protocol_version");
    let known = [("TLSv1.2", Version::Tls12), ("TLSv1.3", Version::Tls13)];
    let older = [("TLSv1", Version::Any), ("TLSv1.1", Version::Any)];
    let expected = "TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3";
    let oldest = settings.choice(min, &[&known[..], &older].concat(), expected)?.unwrap_or_default();
    let expected = "TLSv1.2 or TLSv1.3: older ones are not spoken here";
    let newest = settings.choice(max, &known, expected)?.unwrap_or_default();
    if (oldest, newest) == (Version::Tls13, Version::Tls12) {
        return Err(Error::Value { name: max, expected: "at least ssl_min_protocol_version" });
    }
    Ok((oldest, newest))
}

fn file(settings: &Settings, name: &str) -> Option<PathBuf> {
    settings.bytes(name).filter(|file| !file.is_empty()).map(|file| PathBuf::from(OsStr::from_bytes(file)))
}
