//! Why a database URL was not understood.

/// Why a database URL was not understood. The text never contains the URL, nor any value of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseUrlError {
    /// There is nothing in it. A [`Builder`](crate::Builder) takes that for no URL at all.
    #[error("the database URL is empty")]
    Empty,
    /// It is not `postgres://` or `postgresql://`.
    #[error("the database URL does not begin with postgres:// or postgresql://")]
    Scheme,
    /// A `%` does not begin the code of a byte.
    #[error(
        "the database URL has a % without two hexadecimal digits behind it: a % in a password is written %25"
    )]
    Percent,
    /// A part is not text.
    #[error("the database URL has a part that is not UTF-8, or has a NUL, once its %-codes are decoded")]
    Text,
    /// Where the login ends is not clear.
    #[error("the database URL has an @, / or ? in its user or password: write them as %40, %2F and %3F")]
    Login,
    /// It names no host.
    #[error(
        "the database URL names no host: write it before the database, or as ?host=/directory for a Unix socket"
    )]
    Host,
    /// A port is not a port number.
    #[error("a port of the database URL is not a number from 1 to 65535")]
    Port,
    /// The lists of hosts, addresses and ports do not fit each other.
    #[error(
        "the database URL has another number of hosts than of addresses (hostaddr) or ports: one for each, or one port \
         for all"
    )]
    Count,
    /// An option stands there without a value.
    #[error(
        "the database URL has an option without a value: behind the ? they are written name=value&name=value"
    )]
    NoValue,
    /// Neither libpq nor this program knows the option.
    #[error("the database URL has the option {name}, which is unknown here and to libpq: leave it out")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// libpq knows the option, and this program does not do what it asks for.
    #[error("the database URL has the option {name}, which is not supported: {instead}")]
    Unsupported {
        /// Its name.
        name: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// An option has a value that it cannot have.
    #[error("the option {name} of the database URL has to be {expected}")]
    Value {
        /// The option's name.
        name: &'static str,
        /// What its value may be.
        expected: &'static str,
    },
    /// `sslmode` is `prefer`, `allow` or something unknown.
    #[error(
        "the option sslmode of the database URL has to be verify-full, verify-ca, require or disable: prefer and allow \
         leave it to whoever stands in between whether to encrypt"
    )]
    SslMode,
    /// `channel_binding=require` together with `sslmode=disable`.
    #[error("channel_binding=require needs an encrypted connection: leave out sslmode=disable")]
    ChannelBinding,
    /// A client certificate without its key, or a key without its certificate.
    #[error("the database URL has the option {given} without {missing}: a client certificate needs both")]
    HalfIdentity {
        /// The option that is there.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// An option about TLS, and a connection in plaintext.
    #[error(
        "the option {name} of the database URL is about TLS, and this connection is in plaintext: add \
         sslmode=verify-full in place of any other sslmode, or leave {name} out"
    )]
    Plaintext {
        /// The option's name.
        name: &'static str,
    },
}
