//! The five kinds of value that cross the interface, to and from Postgres' binary format.

use std::fmt;

use bytes::BytesMut;
use cimd_cache_guest::limits::{URL_BYTES, URLS_AT_ONCE};
use cimd_cache_guest::statements::{GET_MANY, Statement, Type};
use futures_util::TryStreamExt;
use tokio_postgres::types::{IsNull, ToSql, Type as PgType, to_sql_checked};
use tokio_postgres::{Row, RowStream};

use super::failure::Failure;
use crate::bindings::cimd::cache::sql::{Row as Values, Value};

/// The most bytes of one statement's parameters: several times what the rules allow.
const PARAMETER_BYTES: usize = 64 * 1024;

/// The most bytes of one result, counting 16 for each value plus its text: room for a document of 16 KiB with
/// the spaces that `jsonb` adds, and for the thousand rows of a sweep.
const RESULT_BYTES: usize = 64 * 1024;

/// The same for the statement that looks up many documents: as many URLs as the rules allow, with every byte
/// escaped, and a host's batch of the largest documents.
const MANY_PARAMETER_BYTES: usize = URLS_AT_ONCE * (2 * URL_BYTES + 3) + PARAMETER_BYTES;
const MANY_RESULT_BYTES: usize = 2 << 20;

/// Bytes counted for a value, besides its text.
const VALUE_BYTES: usize = 16;

/// The Postgres types that a statement is prepared with.
pub(crate) fn parameter_types(statement: &Statement) -> Vec<PgType> {
    let pg_type = |of: &Type| match of {
        Type::Boolean => PgType::BOOL,
        Type::Int64 => PgType::INT8,
        Type::Text => PgType::TEXT,
    };
    statement.parameters.iter().map(pg_type).collect()
}

/// Checks the number, types and size of a statement's parameters.
pub(crate) fn check_parameters(statement: &Statement, parameters: &[Value]) -> Result<(), Failure> {
    let fits = |(value, expected): (&Value, &Type)| {
        matches!(
            (value, expected),
            (Value::Null, _)
                | (Value::Boolean(_), Type::Boolean)
                | (Value::Int64(_), Type::Int64)
                | (Value::Text(_), Type::Text)
        )
    };
    if parameters.len() != statement.parameters.len()
        || !parameters.iter().zip(statement.parameters).all(fits)
    {
        return Err(Failure::NotAllowed);
    }
    let most = if is_many(statement) { MANY_PARAMETER_BYTES } else { PARAMETER_BYTES };
    if size_of(parameters) > most {
        return Err(Failure::TooLarge);
    }
    Ok(())
}

/// The size of values, in bytes.
pub(crate) fn size_of(values: &[Value]) -> usize {
    values.iter().map(size).sum()
}

fn is_many(statement: &Statement) -> bool {
    statement.name == GET_MANY.name
}

fn size(value: &Value) -> usize {
    VALUE_BYTES
        + match value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Null | Value::Boolean(_) | Value::Int64(_) => 0,
        }
}

/// A parameter whose type has been checked.
pub(crate) struct Parameter<'a>(pub(crate) &'a Value);

/// tokio-postgres writes parameters into its debug log, where neither documents nor URLs belong.
impl fmt::Debug for Parameter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Value::Null => "null",
            Value::Boolean(_) => "boolean",
            Value::Int64(_) => "int64",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
        })
    }
}

impl ToSql for Parameter<'_> {
    fn to_sql(
        &self,
        of: &PgType,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::Boolean(value) => value.to_sql(of, out),
            Value::Int64(value) => value.to_sql(of, out),
            Value::Text(value) => value.to_sql(of, out),
            Value::Bytes(value) => value.to_sql(of, out),
        }
    }

    fn accepts(_: &PgType) -> bool {
        true
    }

    to_sql_checked!();
}

/// Reads a result as it arrives and stops at the limit, so that a result that is too large is never in memory
/// as a whole.
pub(super) async fn collect(statement: &Statement, rows: RowStream) -> Result<Vec<Values>, Failure> {
    let mut rows = std::pin::pin!(rows);
    let mut result = Vec::new();
    let mut bytes = 0;
    let most = if is_many(statement) { MANY_RESULT_BYTES } else { RESULT_BYTES };
    while let Some(row) = rows.try_next().await? {
        let values = read(statement, &row)?;
        bytes += values.iter().map(size).sum::<usize>();
        if bytes > most {
            return Err(Failure::TooLarge);
        }
        result.push(values);
    }
    Ok(result)
}

pub(crate) fn read(statement: &Statement, row: &Row) -> Result<Values, tokio_postgres::Error> {
    let column = |(at, of): (usize, &Type)| {
        Ok(match of {
            Type::Boolean => row.try_get::<_, Option<bool>>(at)?.map(Value::Boolean),
            Type::Int64 => row.try_get::<_, Option<i64>>(at)?.map(Value::Int64),
            Type::Text => row.try_get::<_, Option<String>>(at)?.map(Value::Text),
        }
        .unwrap_or(Value::Null))
    };
    statement.columns.iter().enumerate().map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_show_what_is_stored() {
        let value = Value::Text("{\"client_secret\":\"hush\"}".to_owned());
        assert_eq!(format!("{:?}", Parameter(&value)), "text");
    }
}
