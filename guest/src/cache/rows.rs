//! What a statement's parameters say, and what its rows mean.

use super::types::Entry;
use crate::error::Error;
use crate::limits::MICROS;
use crate::sql::{Row, Value};
use crate::ticket::Ticket;

/// What a row says of a document, if it is fresh at the ticket's moment. The statement has checked the expiry
/// already. This checks it again, because an expired document must not be served, whatever a host's database
/// makes of the statement.
pub(super) fn fresh(metadata: Value, expires_at: &Value, ticket: Ticket) -> Result<Option<Entry>, Error> {
    match (metadata, expires_at) {
        (Value::Text(metadata), Value::Int64(expires_at)) if *expires_at > ticket.read_at() => {
            Ok(Some(Entry {
                metadata,
                expires_at: expires_at.div_euclid(MICROS),
                fresh_for: expires_at.saturating_sub(ticket.read_at()).unsigned_abs() / 1_000,
                ticket,
            }))
        }
        (Value::Null | Value::Text(_), Value::Null | Value::Int64(_)) => Ok(None),
        _ => Err(Error::Storage),
    }
}

/// Texts as Postgres reads an array of them. Each is quoted, because an unquoted one may mean NULL, a number
/// of dimensions, or an inner array.
pub(super) fn array(texts: &[(&str, usize)]) -> String {
    let mut array = String::new();
    for (text, _) in texts {
        array.push(if array.is_empty() { '{' } else { ',' });
        array.push('"');
        let mut rest = *text;
        while let Some(at) = rest.find(['"', '\\']) {
            array.push_str(&rest[..at]);
            array.push('\\');
            array.push_str(&rest[at..=at]);
            rest = &rest[at + 1..];
        }
        array.push_str(rest);
        array.push('"');
    }
    array.push('}');
    array
}

pub(super) fn columns<const N: usize>(row: Row) -> Result<[Value; N], Error> {
    row.try_into().map_err(|_| Error::Storage)
}

pub(super) fn int64(value: &Value) -> Result<i64, Error> {
    match value {
        Value::Int64(number) => Ok(*number),
        _ => Err(Error::Storage),
    }
}
