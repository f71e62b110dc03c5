//! The rules as the exports of the world, and the import `sql` as their database. This file only converts
//! types.

use crate::cache::{Cache, Expiry, Lookup, PutOutcome};
use crate::error::Error;
use crate::sql::{Row, Sql, SqlError, Value};
use crate::statements::Statement;

#[expect(
    unsafe_code,
    clippy::allow_attributes_without_reason,
    reason = "the calling convention of components is generated"
)]
mod generated {
    wit_bindgen::generate!({ path: "../wit", world: "cimd-cache" });
    export!(Component with_types_in self);
    use super::Component;
}

use generated::cimd::cache::sql as import;
use generated::exports::cimd::cache::{cache as wit, maintenance};

/// Implements the world's exports.
struct Component;

impl wit::Guest for Component {
    fn get(url: String) -> Result<wit::Lookup, wit::Error> {
        Ok(Cache(Import).get(&url)?.into())
    }

    fn get_many(urls: Vec<String>) -> Vec<Result<wit::Lookup, wit::Error>> {
        let mut answers = Vec::with_capacity(urls.len());
        for answer in Cache(Import).get_many(&urls) {
            answers.push(answer.map(Into::into).map_err(Into::into));
        }
        answers
    }

    fn put(
        url: String,
        metadata: String,
        expiry: wit::Expiry,
        ticket: Option<String>,
    ) -> Result<wit::PutOutcome, wit::Error> {
        let expiry = match expiry {
            wit::Expiry::At(seconds) => Expiry::At(seconds),
            wit::Expiry::After(seconds) => Expiry::After(seconds),
        };
        let stored = Cache(Import).put(&url, metadata, expiry, ticket.as_deref())?;
        Ok(match stored {
            PutOutcome::Stored => wit::PutOutcome::Stored,
            PutOutcome::Superseded => wit::PutOutcome::Superseded,
        })
    }

    fn delete(url: String) -> Result<bool, wit::Error> {
        Ok(Cache(Import).delete(&url)?)
    }

    fn purge() -> Result<(), wit::Error> {
        Ok(Cache(Import).purge()?)
    }
}

impl maintenance::Guest for Component {
    fn sweep(limit: u32) -> Result<maintenance::SweepOutcome, maintenance::Error> {
        let swept = Cache(Import).sweep(limit)?;
        Ok(maintenance::SweepOutcome { removed: swept.removed, more: swept.more })
    }
}

/// The database that the host lends.
struct Import;

impl Sql for Import {
    fn query(&mut self, statement: &'static Statement, parameters: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        let parameters: Vec<_> = parameters.into_iter().map(Into::into).collect();
        let rows = import::query(statement.sql, &parameters)?;
        let row = |row: import::Row| row.into_iter().map(Into::into).collect();
        Ok(rows.into_iter().map(row).collect())
    }
}

impl From<Lookup> for wit::Lookup {
    fn from(lookup: Lookup) -> Self {
        match lookup {
            Lookup::Hit(entry) => Self::Hit(wit::Entry {
                metadata: entry.metadata,
                expires_at: entry.expires_at,
                fresh_for: entry.fresh_for,
                ticket: entry.ticket.to_string(),
            }),
            Lookup::Miss(ticket) => Self::Miss(ticket.to_string()),
        }
    }
}

impl From<Value> for import::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Boolean(value) => Self::Boolean(value),
            Value::Int64(value) => Self::Int64(value),
            Value::Text(value) => Self::Text(value),
            Value::Bytes(value) => Self::Bytes(value),
        }
    }
}

impl From<import::Value> for Value {
    fn from(value: import::Value) -> Self {
        match value {
            import::Value::Null => Self::Null,
            import::Value::Boolean(value) => Self::Boolean(value),
            import::Value::Int64(value) => Self::Int64(value),
            import::Value::Text(value) => Self::Text(value),
            import::Value::Bytes(value) => Self::Bytes(value),
        }
    }
}

impl From<import::Error> for SqlError {
    fn from(error: import::Error) -> Self {
        match error {
            import::Error::NotConfigured => Self::NotConfigured,
            import::Error::NotAllowed => Self::NotAllowed,
            import::Error::Unavailable => Self::Unavailable,
            import::Error::TimedOut => Self::TimedOut,
            import::Error::TooLarge => Self::TooLarge,
            import::Error::Database(state) => Self::Database(state),
        }
    }
}

impl From<Error> for wit::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidUrl(text) => Self::InvalidUrl(text.into_owned()),
            Error::InvalidMetadata(text) => Self::InvalidMetadata(text.into_owned()),
            Error::InvalidExpiry(text) => Self::InvalidExpiry(text.into_owned()),
            Error::InvalidTicket(text) => Self::InvalidTicket(text.into_owned()),
            Error::NotConfigured => Self::NotConfigured,
            Error::Unavailable => Self::Unavailable,
            Error::TimedOut => Self::TimedOut,
            Error::Storage => Self::Storage,
        }
    }
}
