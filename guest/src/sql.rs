//! What the rules need from a database, as a trait. In the component it is the imported interface `sql`, in
//! tests whatever the test needs.

use crate::statements::Statement;

/// A parameter, or a column of a row: the interface's `value`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL NULL, of any type.
    Null,
    /// Postgres `boolean`.
    Boolean(bool),
    /// Postgres `bigint`.
    Int64(i64),
    /// Postgres `text`.
    Text(String),
    /// Postgres `bytea`.
    Bytes(Vec<u8>),
}

/// One value for each column of a statement.
pub type Row = Vec<Value>;

/// Why a statement returned no rows: the interface's `error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlError {
    /// The host has no database.
    NotConfigured,
    /// The host's list does not have the statement.
    NotAllowed,
    /// No connection, or it was lost before the answer came.
    Unavailable,
    /// No answer in time.
    TimedOut,
    /// A parameter or the result was over the host's bounds.
    TooLarge,
    /// The server rolled the statement back, with this SQLSTATE.
    Database(String),
}

/// A database that runs the statements of [`crate::statements`].
pub trait Sql {
    /// Runs one statement in a transaction of its own and returns its rows.
    ///
    /// # Errors
    ///
    /// [`SqlError`]. Only `NotConfigured`, `NotAllowed` and `Database` mean for certain that nothing was
    /// changed.
    fn query(&mut self, statement: &'static Statement, parameters: Vec<Value>) -> Result<Vec<Row>, SqlError>;
}
