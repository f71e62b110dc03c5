//! What each call must answer, in plain arithmetic.

use cimd_cache_guest::cache::{Entry, Expiry, Lookup, PutOutcome, SweepOutcome};
use cimd_cache_guest::error::Error;
use cimd_cache_guest::sql::{Row, SqlError, Value};
use cimd_cache_guest::ticket::Ticket;

use super::script::Answer;

/// The answer to a statement that has exactly one row.
pub(super) fn one_row(answer: Option<&Answer>) -> Result<&Row, Error> {
    match answer {
        Some(Ok(rows)) if rows.len() == 1 => Ok(&rows[0]),
        Some(Ok(_)) | None => Err(Error::Storage),
        Some(Err(error)) => Err(translated(error)),
    }
}

/// What a caller should do about an error, according to the documentation of Postgres and the WIT.
pub(super) fn translated(error: &SqlError) -> Error {
    match error {
        SqlError::NotConfigured => Error::NotConfigured,
        SqlError::TimedOut => Error::TimedOut,
        SqlError::Database(state) if matches!(state.as_str(), "57014" | "55P03") => Error::TimedOut,
        SqlError::Unavailable => Error::Unavailable,
        SqlError::Database(state)
            if matches!(state.as_bytes(), [b'0', b'8', ..] | [b'5', b'7', b'P', ..] | [b'4', b'0', ..])
                || matches!(state.as_str(), "53300" | "25006") =>
        {
            Error::Unavailable
        }
        SqlError::Database(_) | SqlError::NotAllowed | SqlError::TooLarge => Error::Storage,
    }
}

pub(super) fn is_time(micros: i64) -> bool {
    (0..253_402_300_800_000_000).contains(&micros)
}

pub(super) fn expected_get(answers: &[Answer]) -> Result<Lookup, Error> {
    let row = one_row(answers.first())?;
    let [now, purged_at, metadata, expires_at] = &row[..] else { return Err(Error::Storage) };
    looked_up(now, purged_at, metadata, expires_at)
}

/// The ticket of a read.
pub(super) fn moment(now: &Value, purged_at: &Value) -> Result<Ticket, Error> {
    let (Value::Int64(now), Value::Int64(purged_at)) = (now, purged_at) else { return Err(Error::Storage) };
    if !is_time(*now) || !is_time(*purged_at) {
        return Err(Error::Storage);
    }
    Ticket::parse(&format!("{now:016x}-{purged_at:016x}")).ok_or(Error::Storage)
}

/// What the columns of a read say about a document.
pub(super) fn looked_up(
    now: &Value,
    purged_at: &Value,
    metadata: &Value,
    expires_at: &Value,
) -> Result<Lookup, Error> {
    let ticket = moment(now, purged_at)?;
    let now = ticket.read_at();
    match (metadata, expires_at) {
        (Value::Text(metadata), Value::Int64(expires_at)) if *expires_at > now => {
            let fresh_for = (i128::from(*expires_at) - i128::from(now)) / 1_000;
            Ok(Lookup::Hit(Entry {
                metadata: metadata.clone(),
                // Later than a time, so not negative, and rounded down by division.
                expires_at: expires_at / 1_000_000,
                fresh_for: u64::try_from(fresh_for).map_err(|_| Error::Storage)?,
                ticket,
            }))
        }
        (Value::Text(_) | Value::Null, Value::Int64(_) | Value::Null) => Ok(Lookup::Miss(ticket)),
        _ => Err(Error::Storage),
    }
}

pub(super) fn expected_delete(answers: &[Answer]) -> Result<bool, Error> {
    match one_row(answers.first())?[..] {
        [Value::Boolean(had_document)] => Ok(had_document),
        _ => Err(Error::Storage),
    }
}

/// None if the arguments must be refused.
pub(super) fn expected_put(
    answers: &[Answer],
    expiry: Expiry,
    ticket: Option<&str>,
) -> Option<Result<PutOutcome, Error>> {
    let within = match expiry {
        Expiry::At(seconds) => (0..253_402_300_800).contains(&seconds),
        Expiry::After(_) => true,
    };
    let ticket = ticket.map(Ticket::parse);
    if !within || ticket == Some(None) {
        return None;
    }
    let outcome = || {
        match answers.first() {
            Some(Ok(rows)) if !rows.is_empty() => return Ok(PutOutcome::Stored),
            Some(Err(error)) => return Err(translated(error)),
            Some(Ok(_)) | None => {}
        }
        let [Value::Int64(now), Value::Int64(_)] = one_row(answers.get(1))?[..] else {
            return Err(Error::Storage);
        };
        // At the end of an i64 the guest's arithmetic stops, and this must too.
        let minute_ahead = (i128::from(now) + 60_000_000).min(i64::MAX.into());
        match ticket.flatten() {
            Some(ticket) if i128::from(ticket.read_at()) > minute_ahead => {
                Err(Error::InvalidTicket("".into()))
            }
            _ => Ok(PutOutcome::Superseded),
        }
    };
    Some(outcome())
}

/// Equal except for the text of an error. A document may be refused before anything else.
pub(super) fn same_kind(answer: &Result<PutOutcome, Error>, expected: &Result<PutOutcome, Error>) -> bool {
    match (answer, expected) {
        (Err(Error::InvalidMetadata(_)), _) => true,
        (Err(answer), Err(expected)) => std::mem::discriminant(answer) == std::mem::discriminant(expected),
        (answer, expected) => answer == expected,
    }
}

/// The guest reports the number of rows that were removed, even if it exceeds the limit; the host refuses
/// such an answer.
pub(super) fn expected_sweep(answers: &[Answer], limit: u32) -> Result<SweepOutcome, Error> {
    let limit = limit.min(1_000) as usize;
    let (mut removed, mut answers) = (0, answers.iter());
    for _ in 0..2 {
        if removed < limit {
            removed += match answers.next() {
                Some(Ok(rows)) => rows.len(),
                Some(Err(error)) => return Err(translated(error)),
                None => 0,
            };
        }
    }
    let swept = |more| Ok(SweepOutcome { removed: u32::try_from(removed).unwrap_or(u32::MAX), more });
    if limit > 0 && removed >= limit {
        return swept(true);
    }
    match one_row(answers.next())?[..] {
        [Value::Int64(_), Value::Boolean(more)] => swept(more),
        _ => Err(Error::Storage),
    }
}
