//! Why a statement returned no rows: for the operator's log, and to decide what happens next.

use std::sync::Arc;

use cimd_cache_guest::statements::Purpose;
use tokio_postgres::error::{DbError, Severity, SqlState};

use super::tls::CertificateError;
use crate::bindings::cimd::cache::sql::Error;

/// Why a statement returned no rows, with the details for the operator's log.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no database is configured")]
    NotConfigured,
    #[error("the parameters are not those of the statement")]
    NotAllowed,
    #[error("a parameter or the result is too large")]
    TooLarge,
    #[error("the server returned no row where there is always one")]
    NoRow,
    #[error("no connection")]
    Unavailable,
    #[error("the server cannot be reached: {0}")]
    Socket(Arc<std::io::Error>),
    #[error("the server's name cannot be looked up: {0}")]
    Lookup(Arc<std::io::Error>),
    #[error("{}", with_causes(.0))]
    Certificates(CertificateError),
    #[error("the server refused the login with a client certificate: {}", .0.message())]
    ClientCertificate(Arc<DbError>),
    #[error("connecting took too long, or nothing arrived for too long")]
    Silent,
    #[error("the server takes no writes")]
    ReadOnly,
    #[error("the server takes writes, and target_session_attrs asks for one that does not")]
    NotReadOnly,
    #[error("the server asks for a password, and there is none")]
    NoPassword,
    #[error("no answer in time")]
    TimedOut,
    #[error("{}: {}", .0.code().code(), .0.message())]
    Database(Arc<DbError>),
    #[error("the connection failed: {}", with_causes(&**.0))]
    Connection(Arc<tokio_postgres::Error>),
}

impl Failure {
    /// The SQLSTATE, if the server reported an error.
    pub(crate) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Database(error) => Some(error.code()),
            _ => None,
        }
    }

    /// Whether the error is about a connection that was lost or ended by an operator; not necessarily this
    /// one.
    fn is_of_a_connection(&self) -> bool {
        self.code().is_some_and(|code| ["08", "57P"].iter().any(|class| code.code().starts_with(class)))
    }

    /// Whether two transactions conflicted, and this one was rolled back.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED))
    }

    /// Whether a prepared statement no longer fits the table, which was altered.
    pub(super) fn is_outdated_plan(&self) -> bool {
        self.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
    }

    /// Whether a prepared statement is missing, exists already, or is a different one. If it was prepared on
    /// this connection, a pooler in between uses several connections for it.
    pub(super) fn is_mixed_up(&self) -> bool {
        let Self::Database(error) = self else { return false };
        // An error with a context is about the server's own statement, on its connection to another server.
        if error.where_().is_some() {
            return false;
        }
        match *error.code() {
            SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT => true,
            // A pooler uses this code for its own failures too; those end the connection.
            SqlState::PROTOCOL_VIOLATION => !self.ends_connection(),
            _ => false,
        }
    }

    /// Whether the connection cannot be used any more.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::Connection(_) => true,
            Self::Database(error) => match error.parsed_severity() {
                Some(Severity::Fatal | Severity::Panic) => true,
                // A server that ends a session reports FATAL, not ERROR. One that asks other servers (Citus,
                // a foreign data wrapper) reports as ERROR what happened to its connections to them; this
                // connection is still good.
                Some(_) => leads_to_standby(error),
                // From a pooler. Some report each of their failures as ERROR, and then close the connection.
                None => {
                    self.is_of_a_connection()
                        || leads_to_standby(error)
                        || matches!(error.severity(), "FATAL" | "PANIC")
                }
            },
            Self::NotConfigured
            | Self::NotAllowed
            | Self::TooLarge
            | Self::NoRow
            | Self::TimedOut
            // No connection was made.
            | Self::Unavailable
            | Self::NoPassword
            | Self::Socket(_)
            | Self::Lookup(_)
            | Self::Certificates(_)
            | Self::ClientCertificate(_)
            | Self::Silent
            | Self::ReadOnly
            | Self::NotReadOnly => false,
        }
    }

    /// Whether the failed statement may have been applied. It was not if the server said that it rolled it
    /// back, or if it was never sent. A server that has lost a connection to another server cannot say so,
    /// and a pooler does not.
    pub(crate) fn may_have_been_applied(&self) -> bool {
        let is_unknown = match self {
            Self::Database(error) => {
                error.parsed_severity().is_none()
                    || *error.code() == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
                    || self.is_of_a_connection()
            }
            _ => matches!(self, Self::TooLarge | Self::Silent | Self::TimedOut),
        };
        is_unknown || self.ends_connection()
    }

    /// Whether the statement may be sent again over the same connection, after this many tries: if the server
    /// said that it rolled it back, or, for a read, that it lost a connection to another server. It notices
    /// that when it uses the connection, so one more try is enough: that one gets a new connection there, or
    /// fails for good.
    pub(super) fn may_retry(&self, purpose: Purpose, tried: u32) -> bool {
        self.is_conflict() || (purpose == Purpose::Read && self.is_of_a_connection() && tried == 1)
    }
}

/// Whether the server refuses to write because it is a standby. An error about another server would have a
/// context.
fn leads_to_standby(error: &DbError) -> bool {
    *error.code() == SqlState::READ_ONLY_SQL_TRANSACTION && error.where_().is_none()
}

/// Why an encrypted connection was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsFailure {
    /// The server does not encrypt.
    NotOffered,
    /// Its certificate was issued by an authority that is not trusted.
    Untrusted,
    /// Its certificate is for another name.
    OtherName,
    /// Its certificate has expired, or is not valid yet.
    OutOfDate,
    /// The server ended the handshake because of our certificate, or because there was none.
    OurCertificate,
    /// The server ended the handshake because the two have no version or cipher in common.
    NothingInCommon,
}

impl Failure {
    /// Why the TLS connection failed, if that was the reason.
    pub(crate) fn tls(&self) -> Option<TlsFailure> {
        let Self::Connection(error) = self else { return None };
        let causes = std::iter::successors(Some(&**error as &dyn std::error::Error), |error| {
            match error.downcast_ref::<std::io::Error>() {
                // Its `source` skips the error inside.
                Some(io) => io.get_ref().map(|inner| inner as &dyn std::error::Error),
                None => error.source(),
            }
        });
        for cause in causes {
            if let Some(error) = cause.downcast_ref::<rustls::Error>() {
                return of_rustls(error);
            }
            // The type is private to tokio-postgres.
            if cause.to_string() == "server does not support TLS" {
                return Some(TlsFailure::NotOffered);
            }
        }
        None
    }
}

fn of_rustls(error: &rustls::Error) -> Option<TlsFailure> {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate};
    Some(match error {
        rustls::Error::InvalidCertificate(error) => match error {
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                TlsFailure::OtherName
            }
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. } => TlsFailure::OutOfDate,
            _ => TlsFailure::Untrusted,
        },
        rustls::Error::AlertReceived(alert) => match alert {
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied => TlsFailure::OurCertificate,
            Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity => {
                TlsFailure::NothingInCommon
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// An error with its causes: tokio-postgres only says that the TLS handshake failed, and its source says why.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        // tokio-postgres has no type for this one, only its text.
        let is = |text| std::error::Error::source(&error).is_some_and(|cause| cause.to_string() == text);
        match error.as_db_error() {
            Some(server) => Self::Database(Arc::new(server.clone())),
            None if is("password missing") => Self::NoPassword,
            None => Self::Connection(Arc::new(error)),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotConfigured => Self::NotConfigured,
            Failure::NotAllowed => Self::NotAllowed,
            Failure::TooLarge | Failure::NoRow => Self::TooLarge,
            Failure::Unavailable
            | Failure::Socket(_)
            | Failure::Lookup(_)
            | Failure::Certificates(_)
            | Failure::Silent
            | Failure::ReadOnly
            | Failure::NotReadOnly
            | Failure::Connection(_) => Self::Unavailable,
            Failure::TimedOut => Self::TimedOut,
            // The same code that the server sends for an empty password.
            Failure::NoPassword => Self::Database(SqlState::INVALID_PASSWORD.code().to_owned()),
            Failure::ClientCertificate(error) | Failure::Database(error) => {
                Self::Database(error.code().code().to_owned())
            }
        }
    }
}
