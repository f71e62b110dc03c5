//! Calls and statements in flight.

use std::ops::Range;

use cimd_cache_guest::sql::{Row, Sql, SqlError, Value};
use cimd_cache_guest::statements::{Purpose, Statement};

use crate::calls::Asked;
use crate::table::Waiting;

/// A call in flight. A get-many is several consecutive calls of the history.
pub(super) struct Flight {
    pub(super) calls: Range<usize>,
    pub(super) asked: Asked,
    pub(super) answers: Vec<Result<Vec<Row>, SqlError>>,
    pub(super) stage: Stage,
}

/// A statement whose caller no longer waits for it.
pub(super) struct Orphan {
    pub(super) calls: Range<usize>,
    pub(super) stage: Stage,
}

/// Where a statement is.
pub(super) enum Stage {
    Sent(&'static Statement, Vec<Value>),
    Waiting(Waiting),
    Answered(Result<Vec<Row>, SqlError>),
}

impl Stage {
    /// Whether the statement, left to itself, may change something.
    pub(super) fn may_write(&self) -> bool {
        match self {
            Self::Sent(statement, _) => statement.purpose != Purpose::Read,
            Self::Waiting(_) => true,
            Self::Answered(_) => false,
        }
    }
}

/// Hands out the answers so far, and notes the statement that is sent after them.
pub(super) struct Replay<'a> {
    pub(super) answers: std::slice::Iter<'a, Result<Vec<Row>, SqlError>>,
    pub(super) asked: &'a mut Option<(&'static Statement, Vec<Value>)>,
}

impl Sql for Replay<'_> {
    fn query(&mut self, statement: &'static Statement, parameters: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        match self.answers.next() {
            Some(answer) => answer.clone(),
            None => {
                self.asked.get_or_insert((statement, parameters));
                Err(SqlError::Unavailable)
            }
        }
    }
}
