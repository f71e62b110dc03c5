//! Why there is no connection, in words that help whoever can do something about it.

use cimd_cache_guest::error as rules;
use cimd_cache_guest::sql::SqlError;
use tokio_postgres::error::SqlState;

use super::failure::{Failure, TlsFailure};

/// Why there is no connection to a database, or no answer on it. The text is one sentence that names the next
/// step, without credentials and without the server's own message, which the log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No connection.
    #[error("the database cannot be reached: check that it runs, and the host and port of its URL")]
    Unavailable,
    /// No answer in time.
    #[error("the database did not answer in time: try again, and look at its load")]
    TimedOut,
    /// The server refused the user or password, or there is no password.
    #[error(
        "the database refused the login: check the user of its URL, and the password there, in PGPASSWORD or in the \
         password file"
    )]
    Login,
    /// No server of the URL is a standby, or read-only, as `target_session_attrs` asks.
    #[error(
        "no host of the URL is one that its target_session_attrs asks for: leave that out to use the primary"
    )]
    NotReadOnly,
    /// The server's `pg_hba.conf` lets nobody in this way.
    #[error(
        "the server has no line in its pg_hba.conf for this user, database and address, encrypted as the URL has it: add \
         one, or correct the URL"
    )]
    NoEntry,
    /// The server refused the client certificate, or asks for one.
    #[error(
        "the server refused the login for its client certificate: give sslcert and sslkey in the URL, of an authority that \
         the server trusts and for the user that logs in"
    )]
    ClientCertificate,
    /// The certificates of the URL could be read when the cache was built, and cannot any more.
    #[error("the certificate files of the URL cannot be used: the log says which, and why")]
    Certificates,
    /// The host's name has no address.
    #[error("the host of the database URL cannot be looked up: correct it, or mend the resolver")]
    HostName,
    /// The server does not encrypt.
    #[error(
        "the server does not support TLS: switch `ssl` on there, or say sslmode=disable in the URL to go without"
    )]
    NoTls,
    /// The server and this program have no version or cipher of TLS in common.
    #[error(
        "the server speaks no version or cipher of TLS that is spoken here: look at ssl_min_protocol_version and \
         ssl_max_protocol_version, there and in the URL"
    )]
    TlsVersion,
    /// The server's certificate is of nobody who is trusted.
    #[error(
        "the server's certificate is not one of an authority that is trusted: name that authority's file with sslrootcert"
    )]
    Untrusted,
    /// The server's certificate is for another name.
    #[error(
        "the server's certificate is for another name than that in the URL: name the host as its certificate does"
    )]
    OtherName,
    /// The server's certificate is not valid now.
    #[error(
        "the server's certificate has expired, or is not valid yet: renew it, or look at this machine's clock"
    )]
    OutOfDate,
    /// The server has no such database.
    #[error("the database named in the URL does not exist: create it, or correct the URL")]
    NoDatabase,
    /// The server is a standby, or the session is read-only.
    #[error(
        "the database is read-only: name the primary in its URL, or all hosts, of which the primary is then used"
    )]
    ReadOnly,
    /// The server refused for another reason.
    #[error("the server refused the connection: the log has what it said")]
    Refused,
}

impl From<&Failure> for ConnectError {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::TimedOut => Self::TimedOut,
            Failure::NoPassword => Self::Login,
            Failure::ReadOnly => Self::ReadOnly,
            Failure::NotReadOnly => Self::NotReadOnly,
            Failure::Database(error) => match *error.code() {
                // Postgres has one code for both, and says them in the server's language. The file's name is
                // the same in all.
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION
                    if error.routine() == Some("ClientAuthentication") =>
                {
                    if error.message().contains("pg_hba.conf") {
                        Self::NoEntry
                    } else {
                        Self::ClientCertificate
                    }
                }
                SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Self::Login,
                SqlState::INVALID_CATALOG_NAME => Self::NoDatabase,
                // All others mean what they mean to a call.
                _ => match rules::Error::from(SqlError::Database(error.code().code().to_owned())) {
                    rules::Error::TimedOut => Self::TimedOut,
                    rules::Error::Unavailable => Self::Unavailable,
                    _ => Self::Refused,
                },
            },
            Failure::ClientCertificate(_) => Self::ClientCertificate,
            Failure::Certificates(_) => Self::Certificates,
            Failure::Lookup(_) => Self::HostName,
            _ => match failure.tls() {
                Some(TlsFailure::NotOffered) => Self::NoTls,
                Some(TlsFailure::Untrusted) => Self::Untrusted,
                Some(TlsFailure::OtherName) => Self::OtherName,
                Some(TlsFailure::OutOfDate) => Self::OutOfDate,
                Some(TlsFailure::OurCertificate) => Self::ClientCertificate,
                Some(TlsFailure::NothingInCommon) => Self::TlsVersion,
                None => Self::Unavailable,
            },
        }
    }
}
