//! Answers of a database that keeps to nothing: any number of rows, of any columns, or any error. Every call gives
//! exactly the answer that the rows stand for, or `Storage`.
//!
//! An input is a text of lines, so that the kept ones can be read and written by hand:
//!
//! ```text
//! limit 10            an argument of the calls: also at, after (an expiry), ticket, metadata
//! answer              the next statement's answer: rows follow
//! row                 a row: its columns follow
//! 1795465560000000    a bigint; also null, true, false, 'text, x followed by bytes
//! times 1000          the last row so many times more
//! error 57014         instead of rows: a SQLSTATE, or unavailable, timed-out, too-large, not-allowed, not-configured
//! ```

use cimd_cache_guest::cache::{Cache, Entry, Expiry, Lookup, PutOutcome, SweepOutcome};
use cimd_cache_guest::error::Error;
use cimd_cache_guest::sql::{Row, Sql, SqlError, Value};
use cimd_cache_guest::statements::{Statement, Type};
use cimd_cache_guest::ticket::Ticket;

mod input;
mod many;

use input::Input;

/// Makes every call against the answers that a text describes.
///
/// # Panics
///
/// If the rules break a promise.
pub fn run(text: &str) {
    let Input { arguments, answers } = Input::of(text);
    let asked = |call: &dyn Fn(&mut Script<'_>)| asked(&answers, call);
    asked(&|script| assert_eq!(Cache(script).get("u"), expected_get(&answers)));
    many::run(&answers);
    asked(&|script| assert_eq!(Cache(script).delete("u"), expected_delete(&answers)));
    asked(&|script| assert_eq!(Cache(script).purge(), one_row(answers.first()).map(|_| ())));

    for expiry in [arguments.at, arguments.after] {
        let ticket = arguments.ticket.as_deref();
        let put = asked(&|script| {
            let answer = Cache(&mut *script).put("u", arguments.metadata.clone(), expiry, ticket);
            match expected_put(&answers, expiry, ticket) {
                Some(expected) => assert!(same_kind(&answer, &expected), "{answer:?}, and not {expected:?}"),
                // By which rule is what the other targets are about.
                None => assert!(answer.is_err() && script.asked.is_empty()),
            }
        });
        assert!(["put", "clock"].starts_with(&names(&put)), "{put:?}");
    }

    let sweep = asked(&|script| {
        let answer = Cache(script).sweep(arguments.limit);
        assert_eq!(answer, expected_sweep(&answers, arguments.limit));
    });
    // The last only where fewer were removed than may be, and none at all where none may.
    let last = names(&sweep).iter().position(|name| *name == "sweepable").unwrap_or(sweep.len());
    assert!(last + 1 >= sweep.len(), "{sweep:?}");
    let sweep = &sweep[..last];
    assert!(["sweep-expired", "sweep-purged"].starts_with(&names(sweep)), "{sweep:?}");
    let limit = i64::from(arguments.limit.min(1_000));
    let removed = answers.first().and_then(|answer| answer.as_ref().ok()).map_or(0, Vec::len);
    // Each time no more than is left of the limit.
    let rests = [limit, limit - i64::try_from(removed).unwrap_or(limit)];
    for ((_, parameters), rest) in sweep.iter().zip(rests) {
        assert_eq!(*parameters, [Value::Int64(rest)]);
        assert!(rest > 0);
    }
}

type Answer = Result<Vec<Row>, SqlError>;

/// A statement's name and its parameters.
type Asked = (&'static str, Vec<Value>);

/// What a call asks that is answered so.
fn asked(answers: &[Answer], call: &dyn Fn(&mut Script<'_>)) -> Vec<Asked> {
    let mut script = Script { answers: answers.iter(), asked: Vec::new() };
    call(&mut script);
    script.asked
}

fn names(asked: &[Asked]) -> Vec<&'static str> {
    asked.iter().map(|(name, _)| *name).collect()
}

/// Answers in order. One that was not foreseen is an empty one, so that a call that never stopped to ask would be seen.
struct Script<'a> {
    answers: std::slice::Iter<'a, Answer>,
    asked: Vec<Asked>,
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

/// The answer to a statement that has exactly one row.
fn one_row(answer: Option<&Answer>) -> Result<&Row, Error> {
    match answer {
        Some(Ok(rows)) if rows.len() == 1 => Ok(&rows[0]),
        Some(Ok(_)) | None => Err(Error::Storage),
        Some(Err(error)) => Err(translated(error)),
    }
}

/// What a caller should do about an error, according to the documentation of Postgres and the WIT.
fn translated(error: &SqlError) -> Error {
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

fn is_time(micros: i64) -> bool {
    (0..253_402_300_800_000_000).contains(&micros)
}

fn expected_get(answers: &[Answer]) -> Result<Lookup, Error> {
    let row = one_row(answers.first())?;
    let [now, purged_at, metadata, expires_at] = &row[..] else { return Err(Error::Storage) };
    looked_up(now, purged_at, metadata, expires_at)
}

/// The ticket of a read.
fn moment(now: &Value, purged_at: &Value) -> Result<Ticket, Error> {
    let (Value::Int64(now), Value::Int64(purged_at)) = (now, purged_at) else { return Err(Error::Storage) };
    if !is_time(*now) || !is_time(*purged_at) {
        return Err(Error::Storage);
    }
    Ticket::parse(&format!("{now:016x}-{purged_at:016x}")).ok_or(Error::Storage)
}

/// What the columns of a read say of a document.
fn looked_up(now: &Value, purged_at: &Value, metadata: &Value, expires_at: &Value) -> Result<Lookup, Error> {
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

fn expected_delete(answers: &[Answer]) -> Result<bool, Error> {
    match one_row(answers.first())?[..] {
        [Value::Boolean(had_document)] => Ok(had_document),
        _ => Err(Error::Storage),
    }
}

/// None if the arguments have to be refused.
fn expected_put(
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
        // A clock at the end of all times is the one place where the guest's arithmetic stops and this one goes on.
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

/// Equal but for the words of an error, and a document may be refused before all else.
fn same_kind(answer: &Result<PutOutcome, Error>, expected: &Result<PutOutcome, Error>) -> bool {
    match (answer, expected) {
        (Err(Error::InvalidMetadata(_)), _) => true,
        (Err(answer), Err(expected)) => std::mem::discriminant(answer) == std::mem::discriminant(expected),
        (answer, expected) => answer == expected,
    }
}

/// What was removed is told as it is, also if it is more than was asked for; the host refuses such an answer.
fn expected_sweep(answers: &[Answer], limit: u32) -> Result<SweepOutcome, Error> {
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
