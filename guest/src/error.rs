//! The errors that a caller sees, and which of them each error of the database becomes.
//!
//! There are two readers. The caller decides by the case alone: fix the call, fix the deployment, retry
//! later, or wake an operator. The operator reads the host's log, which has the server's own words. So no
//! text here repeats an argument, SQL, or the server's message.

use std::borrow::Cow;

use crate::sql::SqlError;

/// Why a call was refused or failed: the WIT `error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The `client_id` URL cannot be a key.
    InvalidUrl(Cow<'static, str>),
    /// The document cannot be stored.
    InvalidMetadata(Cow<'static, str>),
    /// The expiry's year is outside 1970 to 9999.
    InvalidExpiry(Cow<'static, str>),
    /// This is not a ticket, or it is over a minute ahead of the database's clock.
    InvalidTicket(Cow<'static, str>),
    /// No database is configured.
    NotConfigured,
    /// The database cannot be reached; retry later.
    Unavailable,
    /// The database did not answer in time; retry later.
    TimedOut,
    /// An operator must look.
    Storage,
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::NotConfigured => Self::NotConfigured,
            SqlError::Unavailable => Self::Unavailable,
            SqlError::TimedOut => Self::TimedOut,
            // The host is older than the component, or bounds results below what the limits allow: no caller
            // can fix that.
            SqlError::NotAllowed | SqlError::TooLarge => Self::Storage,
            SqlError::Database(state) => from_sqlstate(&state),
        }
    }
}

/// Sorts a SQLSTATE (PostgreSQL documentation, appendix A) by what a caller should do.
fn from_sqlstate(state: &str) -> Error {
    match state {
        // statement_timeout raises query_canceled; lock_timeout raises lock_not_available.
        "57014" | "55P03" => Error::TimedOut,
        // too_many_connections; a standby that has not been promoted yet.
        "53300" | "25006" => Error::Unavailable,
        // Connection exceptions; server shutting down or starting up; serialization failures and deadlocks
        // that outlasted the host's retries.
        _ if ["08", "57P", "40"].iter().any(|class| state.starts_with(class)) => Error::Unavailable,
        _ => Error::Storage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlstate_tells_the_caller_what_to_do() {
        for (state, expected) in [
            ("57014", Error::TimedOut),
            ("55P03", Error::TimedOut),
            ("08006", Error::Unavailable),
            ("57P01", Error::Unavailable),
            ("57P03", Error::Unavailable),
            ("53300", Error::Unavailable),
            ("40001", Error::Unavailable),
            ("25006", Error::Unavailable),
            ("53100", Error::Storage),
            ("42501", Error::Storage),
            ("42P01", Error::Storage),
            ("", Error::Storage),
        ] {
            let error = Error::from(SqlError::Database(state.to_owned()));
            assert_eq!(error, expected, "{state}");
        }
    }
}
