//! Takes a URL apart as libpq does: the parts before the `?` are options too, and options after it replace
//! them.

use std::collections::BTreeMap;

use super::DatabaseUrlError as Error;

/// Options that have an effect here, or are accepted.
const KNOWN: [&str; 37] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "options",
    "passfile",
    "password",
    "port",
    "replication",
    "ssl",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
    // What tokio-postgres calls keepalives_count.
    "keepalives_retries",
];

const KERBEROS: &str = "there is no login by Kerberos here, so leave it out";
const OAUTH: &str = "there is no login by OAuth here, so leave it out";
const KEY: &str = "give the password instead";
const REVOKED: &str = "lists of revoked certificates are not looked at, so leave it out";
const SERVICE: &str = "write what the service file says into the URL";

/// libpq's other options, and what to do instead.
const UNSUPPORTED: [(&str, &str); 18] = [
    ("gsslib", KERBEROS),
    ("krbsrvname", KERBEROS),
    ("oauth_client_id", OAUTH),
    ("oauth_client_secret", OAUTH),
    ("oauth_issuer", OAUTH),
    ("oauth_scope", OAUTH),
    ("require_auth", "channel_binding=require asks for a server that proves itself"),
    ("requirepeer", "let only the server's user write to the socket's directory"),
    ("requiressl", "sslmode=require says the same"),
    // Not libpq's, but widespread.
    ("schema", "give the schema as --schema, or to Builder::schema"),
    ("scram_client_key", KEY),
    ("scram_server_key", KEY),
    ("service", SERVICE),
    ("servicefile", SERVICE),
    ("sslcrl", REVOKED),
    ("sslcrldir", REVOKED),
    ("sslkeylogfile", "no keys of connections are written down, so leave it out"),
    ("sslpassword", "decrypt the key by `openssl pkey`, in a file that only its owner can read"),
];

/// Each option of a URL, by its name, decoded.
pub(super) struct Settings(BTreeMap<&'static str, Vec<u8>>);

impl Settings {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Empty);
        }
        let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.ok_or(Error::Scheme)?;
        let (base, options) = rest.split_once('?').unwrap_or((rest, ""));
        let mut settings = Self(BTreeMap::new());
        settings.take_base(base)?;
        for option in options.split('&').filter(|option| !option.is_empty()) {
            settings.take_option(option).map_err(|error| {
                // It may be a part of the password, which must not be repeated.
                if options.contains('@') && !base.contains('@') { Error::Login } else { error }
            })?;
        }
        Ok(settings)
    }

    /// `user:password@host:port,host:port/database`.
    fn take_base(&mut self, base: &str) -> Result<(), Error> {
        let place = match base.split_once('@') {
            None => base,
            Some((login, place)) => {
                let (user, password) = login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
                self.put("user", decoded(user)?);
                self.put("password", decoded(password.unwrap_or_default())?);
                place
            }
        };
        let (servers, database) = place.split_once('/').unwrap_or((place, ""));
        if servers.contains('@') {
            return Err(Error::Login);
        }
        self.put("dbname", decoded(database)?);
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for server in servers.split(',') {
            let (host, port) = match server.strip_prefix('[') {
                Some(address) => address.split_once(']').ok_or(Error::Host)?,
                None => server.split_at(server.find(':').unwrap_or(server.len())),
            };
            let port = if port.is_empty() { "" } else { port.strip_prefix(':').ok_or(Error::Port)? };
            hosts.push(decoded(host)?);
            ports.push(decoded(port)?);
        }
        self.put("host", hosts.join(&b','));
        if ports.iter().any(|port| !port.is_empty()) {
            self.put("port", ports.join(&b','));
        }
        Ok(())
    }

    fn take_option(&mut self, option: &str) -> Result<(), Error> {
        let (name, value) = option.split_once('=').ok_or(Error::NoValue)?;
        let name = String::from_utf8(decoded(name)?).map_err(|_| Error::Text)?;
        let value = decoded(value)?;
        if let Some(&(name, instead)) = UNSUPPORTED.iter().find(|(unsupported, _)| *unsupported == name) {
            return Err(Error::Unsupported { name, instead });
        }
        let Some(name) = KNOWN.into_iter().find(|known| *known == name) else {
            // Otherwise it is part of something else, and may be secret.
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            let is_name = (1..=40).contains(&name.len()) && name.bytes().all(is_name);
            return Err(if is_name { Error::Unknown { name } } else { Error::NoValue });
        };
        match name {
            // libpq accepts this from URLs written for JDBC.
            "ssl" if value == b"true" => self.0.insert("sslmode", b"require".to_vec()),
            "ssl" => return Err(Error::Value { name, expected: "true, which is sslmode=require" }),
            "keepalives_retries" => self.0.insert("keepalives_count", value),
            _ => self.0.insert(name, value),
        };
        Ok(())
    }

    /// An empty part before the `?` counts as missing.
    fn put(&mut self, name: &'static str, value: Vec<u8>) {
        if !value.is_empty() {
            self.0.insert(name, value);
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.bytes(name).is_some_and(|value| !value.is_empty())
    }

    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        self.bytes(name).map(|value| std::str::from_utf8(value).map_err(|_| Error::Text)).transpose()
    }

    /// The value of an option that takes one of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        name: &'static str,
        choices: &[(&str, T)],
        expected: &'static str,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.text(name)? else { return Ok(None) };
        let choice = choices.iter().find(|(text, _)| text.eq_ignore_ascii_case(value));
        choice.map(|(_, choice)| Some(*choice)).ok_or(Error::Value { name, expected })
    }

    /// The value of an option that takes a number. None for 0 and below.
    pub(super) fn number(&self, name: &'static str, expected: &'static str) -> Result<Option<u32>, Error> {
        let Some(value) = self.text(name)? else { return Ok(None) };
        let number: i32 = value.trim().parse().map_err(|_| Error::Value { name, expected })?;
        Ok(u32::try_from(number).ok().filter(|number| *number > 0))
    }
}

/// Decodes percent-encoding. `+` stays `+`, as in libpq.
fn decoded(text: &str) -> Result<Vec<u8>, Error> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let code = piece.get(..2).filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok()).ok_or(Error::Percent)?;
        bytes.push(code);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    if bytes.contains(&0) { Err(Error::Text) } else { Ok(bytes) }
}
