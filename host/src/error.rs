//! What a caller sees when a call fails.

use crate::bindings::exports::cimd::cache::cache as wit;

/// Why a call was refused or failed. The variant says what to do. The text is one sentence for people, and
/// never contains credentials, SQL, a document, or the server's own message, which is in the log (`tracing`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The `client_id` URL is empty, longer than 2,048 bytes, or contains NUL. Fix the call.
    #[error("{0}")]
    InvalidUrl(String),
    /// The document cannot be stored: [`Cache::put`](crate::Cache::put) lists the rules. Fix the call, or
    /// reject the client.
    #[error("{0}")]
    InvalidMetadata(String),
    /// The expiry's year is outside 1970 to 9999. Fix the call.
    #[error("{0}")]
    InvalidExpiry(String),
    /// The ticket is not one that a get handed out: it has another form, or is over a minute ahead of the
    /// database's clock. Fix the call.
    #[error("{0}")]
    InvalidTicket(String),
    /// No database is configured. Fix the deployment.
    #[error("no database is configured: give the cache a database URL")]
    NotConfigured,
    /// The database cannot be reached, or is overloaded. Retry later; a put or delete may have been applied.
    #[error(
        "the database cannot be reached or is overloaded: try again later, or see what `cimd-cache check` says"
    )]
    Unavailable,
    /// The database did not answer in time. Retry later; a put or delete may have been applied.
    #[error("the database did not answer in time: try again later")]
    TimedOut,
    /// The database refused: disk full, a table or a privilege missing. An operator must look.
    #[error("the database refused the call: an operator must look, `cimd-cache check` and the log say more")]
    Storage,
}

impl Error {
    /// The name of the case, as the WIT interface has it, such as `timed-out`: for labels of metrics, and for
    /// protocols that pass the error on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidUrl(_) => "invalid-url",
            Self::InvalidMetadata(_) => "invalid-metadata",
            Self::InvalidExpiry(_) => "invalid-expiry",
            Self::InvalidTicket(_) => "invalid-ticket",
            Self::NotConfigured => "not-configured",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed-out",
            Self::Storage => "storage",
        }
    }
}

impl From<wit::Error> for Error {
    fn from(error: wit::Error) -> Self {
        match error {
            wit::Error::InvalidUrl(text) => Self::InvalidUrl(text),
            wit::Error::InvalidMetadata(text) => Self::InvalidMetadata(text),
            wit::Error::InvalidExpiry(text) => Self::InvalidExpiry(text),
            wit::Error::InvalidTicket(text) => Self::InvalidTicket(text),
            wit::Error::NotConfigured => Self::NotConfigured,
            wit::Error::Unavailable => Self::Unavailable,
            wit::Error::TimedOut => Self::TimedOut,
            wit::Error::Storage => Self::Storage,
        }
    }
}
