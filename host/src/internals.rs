//! Parts of the inside, for the project's own benchmark. No promise is made about any of it.

use std::borrow::Cow;

use bytes::BytesMut;
use cimd_cache_guest::statements::Statement;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::bindings::cimd::cache::sql::Value;
use crate::postgres::{Connected, Connector, DatabaseUrl, LONG_TIMEOUTS, values};
use crate::schema::Schema;

/// Opens a connection by the same rules as the cache's, for other ways to use the same database. It ends when
/// the client is dropped, and has to be driven by polling the future.
///
/// # Errors
///
/// When there is no connection.
pub async fn connect(url: &DatabaseUrl) -> anyhow::Result<(Client, impl Future<Output = ()> + Send + use<>)> {
    let connected = Connector::new(url)?.connect("", LONG_TIMEOUTS).await;
    let Connected { client, driver, .. } = connected?;
    Ok((client, driver))
}

/// SQL that names the schema `cimd_cache`, for another one.
pub fn qualify<'a>(schema: &Schema, sql: &'a str) -> Cow<'a, str> {
    schema.qualify(sql)
}

/// Parameters of a statement.
#[derive(Debug)]
pub struct Parameters(Vec<Value>);

/// What the guest gives with a put of a document for an hour.
pub fn put_parameters(url: &str, document: &str) -> Parameters {
    let texts = [Value::Text(url.to_owned()), Value::Text(document.to_owned())];
    let times = [Value::Null, Value::Int64(3_600), Value::Null, Value::Null];
    Parameters(texts.into_iter().chain(times).collect())
}

/// Checks parameters and writes them in Postgres' format; how many bytes that are.
///
/// # Panics
///
/// When they are not those of the statement.
pub fn encode(statement: &Statement, parameters: &Parameters) -> usize {
    values::check_parameters(statement, &parameters.0).expect("they are the statement's");
    let mut out = BytesMut::new();
    for (value, of) in parameters.0.iter().zip(values::parameter_types(statement)) {
        values::Parameter(value).to_sql_checked(&of, &mut out).expect("its type was checked");
    }
    out.len()
}

/// Reads a row; how many columns it has.
///
/// # Panics
///
/// When it is not of the statement.
pub fn read_row(statement: &Statement, row: &Row) -> usize {
    values::read(statement, row).expect("it is the statement's").len()
}
