//! Reads the lines of an input.

use cimd_cache_guest::cache::Expiry;
use cimd_cache_guest::sql::{Row, SqlError, Value};

use super::script::Answer;

pub(super) struct Arguments {
    pub(super) at: Expiry,
    pub(super) after: Expiry,
    pub(super) ticket: Option<String>,
    pub(super) metadata: String,
    pub(super) limit: u32,
}

pub(super) struct Input {
    pub(super) arguments: Arguments,
    pub(super) answers: Vec<Answer>,
}

impl Input {
    /// Skips lines that mean nothing, so that every text is an input.
    pub(super) fn of(text: &str) -> Self {
        let mut arguments = Arguments {
            at: Expiry::At(1_795_465_560),
            after: Expiry::After(3_600),
            ticket: None,
            metadata: "{}".to_owned(),
            limit: 1_000,
        };
        let mut answers: Vec<Answer> = Vec::new();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let rows = answers.last_mut().and_then(|answer| answer.as_mut().ok());
            match (word, rows) {
                ("at", _) => arguments.at = Expiry::At(rest.parse().unwrap_or(i64::MIN)),
                ("after", _) => arguments.after = Expiry::After(rest.parse().unwrap_or(u64::MAX)),
                ("ticket", _) => arguments.ticket = Some(rest.to_owned()),
                ("metadata", _) => rest.clone_into(&mut arguments.metadata),
                ("limit", _) => arguments.limit = rest.parse().unwrap_or(u32::MAX),
                ("answer", _) => answers.push(Ok(Vec::new())),
                ("error", _) => answers.push(Err(sql_error(rest))),
                ("row", Some(rows)) => rows.push(Row::new()),
                ("times", Some(rows)) => {
                    // More than twice as many as a sweep may remove would be slow and test nothing more.
                    let room = 2_001_usize.saturating_sub(rows.len());
                    let times = rest.parse().unwrap_or(0).min(room);
                    rows.extend(rows.last().cloned().into_iter().flat_map(|row| vec![row; times]));
                }
                (_, Some(rows)) => {
                    // One column more than any statement has is as wrong as many.
                    let row = rows.last_mut().filter(|row| row.len() < 6);
                    if let (Some(row), Some(value)) = (row, value(line)) {
                        row.push(value);
                    }
                }
                (_, None) => {}
            }
        }
        Self { arguments, answers }
    }
}

fn value(line: &str) -> Option<Value> {
    Some(match line {
        "null" => Value::Null,
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ => match (line.strip_prefix('\''), line.strip_prefix('x')) {
            (Some(text), _) => Value::Text(text.to_owned()),
            (_, Some(bytes)) => Value::Bytes(bytes.as_bytes().to_vec()),
            _ => Value::Int64(line.parse().ok()?),
        },
    })
}

fn sql_error(text: &str) -> SqlError {
    match text {
        "unavailable" => SqlError::Unavailable,
        "timed-out" => SqlError::TimedOut,
        "too-large" => SqlError::TooLarge,
        "not-allowed" => SqlError::NotAllowed,
        "not-configured" => SqlError::NotConfigured,
        state => SqlError::Database(state.to_owned()),
    }
}
