//! The database of an input: it answers what the input says, and records the statements.

use cimd_cache_guest::sql::{Row, Sql, SqlError, Value};
use cimd_cache_guest::statements::{Statement, Type};

pub(super) type Answer = Result<Vec<Row>, SqlError>;

/// A statement's name and its parameters.
pub(super) type Asked = (&'static str, Vec<Value>);

/// The statements that a call sends when it gets these answers.
pub(super) fn asked(answers: &[Answer], call: &dyn Fn(&mut Script<'_>)) -> Vec<Asked> {
    let mut script = Script { answers: answers.iter(), asked: Vec::new() };
    call(&mut script);
    script.asked
}

pub(super) fn names(asked: &[Asked]) -> Vec<&'static str> {
    asked.iter().map(|(name, _)| *name).collect()
}

/// Answers in order, and then with no rows, so that a call which never stopped asking would be noticed.
pub(super) struct Script<'a> {
    answers: std::slice::Iter<'a, Answer>,
    pub(super) asked: Vec<Asked>,
}

impl Sql for &mut Script<'_> {
    fn query(&mut self, statement: &'static Statement, parameters: Vec<Value>) -> Answer {
        assert_eq!(parameters.len(), statement.parameters.len());
        for (value, of) in parameters.iter().zip(statement.parameters) {
            let fits = matches!(
                (value, of),
                (Value::Null, _) | (Value::Int64(_), Type::Int64) | (Value::Text(_), Type::Text)
            );
            assert!(fits, "{}: {value:?}", statement.name);
        }
        self.asked.push((statement.name, parameters));
        assert!(self.asked.len() <= 3, "{:?}", self.asked);
        self.answers.next().cloned().unwrap_or(Ok(Vec::new()))
    }
}
