//! The rules that need no real database, on one that answers what the test wants. Other tests run what the
//! SQL decides on a real Postgres.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::limits::{ERROR_TEXT_BYTES, LATEST_SECOND, LIFETIME_SECONDS, TICKET_SECONDS, URL_BYTES};
use crate::sql::SqlError;

mod many;

const NOW: i64 = 1_795_465_560 * MICROS;
const PURGED: i64 = 1_700_000_000 * MICROS;

/// Answers in order, and records the statements.
#[derive(Default)]
struct Script {
    answers: VecDeque<Result<Vec<Row>, SqlError>>,
    asked: Vec<(&'static str, Vec<Value>)>,
}

impl Sql for &mut Script {
    fn query(&mut self, statement: &'static Statement, parameters: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        assert_eq!(parameters.len(), statement.parameters.len());
        self.asked.push((statement.name, parameters));
        self.answers.pop_front().expect("one statement more than expected")
    }
}

fn script<const N: usize>(answers: [Result<Vec<Row>, SqlError>; N]) -> Script {
    Script { answers: answers.into(), asked: Vec::new() }
}

fn get_row(metadata: Value, expires_at: Value) -> Result<Vec<Row>, SqlError> {
    Ok(vec![vec![Value::Int64(NOW), Value::Int64(PURGED), metadata, expires_at]])
}

fn clock() -> Result<Vec<Row>, SqlError> {
    Ok(vec![vec![Value::Int64(NOW), Value::Int64(PURGED)]])
}

fn put(script: &mut Script, expiry: Expiry, ticket: Option<i64>) -> Result<PutOutcome, Error> {
    let ticket = ticket.map(|at| Ticket::new(at, PURGED).unwrap().to_string());
    Cache(script).put("https://c.example/", "{}".to_owned(), expiry, ticket.as_deref())
}

#[test]
fn a_document_is_fresh_until_its_expiry_and_not_at_it() {
    let ticket = Ticket::new(NOW, PURGED).unwrap();
    for (expires_at, fresh_for) in
        [(NOW - 1, None), (NOW, None), (NOW + 1, Some(0)), (NOW + 2_500_999, Some(2_500))]
    {
        let mut script = script([get_row(Value::Text("{}".into()), Value::Int64(expires_at))]);
        let lookup = Cache(&mut script).get("https://c.example/").unwrap();
        let expected = fresh_for.map_or(Lookup::Miss(ticket), |fresh_for| {
            Lookup::Hit(Entry { metadata: "{}".into(), expires_at: expires_at / MICROS, fresh_for, ticket })
        });
        assert_eq!(lookup, expected, "{expires_at}");
        assert_eq!(script.asked.len(), 1, "one statement, one round trip");
    }
}

#[test]
fn arguments_are_refused_before_the_database_is_asked() {
    let long = "x".repeat(URL_BYTES + 1);
    for url in ["", "https://c.example/\0", &long] {
        let mut nothing = script([]);
        let mut cache = Cache(&mut nothing);
        assert!(matches!(cache.get(url), Err(Error::InvalidUrl(_))));
        assert!(matches!(cache.delete(url), Err(Error::InvalidUrl(_))));
        assert!(matches!(cache.put(url, "{}".into(), Expiry::After(1), None), Err(Error::InvalidUrl(_))));
    }
    for expiry in [Expiry::At(-1), Expiry::At(LATEST_SECOND + 1), Expiry::At(i64::MIN), Expiry::At(i64::MAX)]
    {
        assert!(matches!(put(&mut script([]), expiry, None), Err(Error::InvalidExpiry(_))), "{expiry:?}");
    }
    let mut nothing = script([]);
    let mut cache = Cache(&mut nothing);
    let ticketed = cache.put("u", "{}".into(), Expiry::After(1), Some("1795465560"));
    assert!(matches!(ticketed, Err(Error::InvalidTicket(_))));
    assert!(matches!(cache.put("u", "[]".into(), Expiry::After(1), None), Err(Error::InvalidMetadata(_))));
}

#[test]
fn a_refusal_is_short_and_has_the_number_of_its_limit() {
    let text = |error| match error {
        Error::InvalidUrl(text) | Error::InvalidExpiry(text) | Error::InvalidTicket(text) => text,
        other => panic!("{other:?}"),
    };
    let many = Cache(&mut script([])).get_many(&vec!["u".to_owned(); URLS_AT_ONCE + 1]);
    let ahead = Some(NOW + 3_600 * MICROS);
    for (error, limit) in [
        (check_url("").unwrap_err(), None),
        (check_url("\0").unwrap_err(), None),
        (check_url(&"x".repeat(URL_BYTES + 1)).unwrap_err(), Some(URL_BYTES)),
        (many[0].clone().unwrap_err(), Some(URLS_AT_ONCE)),
        (check_expiry(Expiry::At(-1)).unwrap_err(), None),
        (not_a_ticket(), None),
        (put(&mut script([Ok(vec![]), clock()]), Expiry::After(60), ahead).unwrap_err(), None),
    ] {
        let text = text(error);
        assert!(text.len() <= ERROR_TEXT_BYTES, "{text}");
        assert!(limit.is_none_or(|limit| text.contains(&limit.to_string())), "{text}: {limit:?}");
    }
}

#[test]
fn a_put_that_stored_nothing_says_why() {
    let minute = 60 * MICROS;
    for (ticket, superseded) in [
        (None, true),
        (Some(NOW), true),
        (Some(NOW - 601 * MICROS), true),
        (Some(NOW + 1), true),
        (Some(NOW + minute), true),
        (Some(NOW + minute + 1), false),
        (Some(NOW + 3_600 * MICROS), false),
    ] {
        let answer = put(&mut script([Ok(vec![]), clock()]), Expiry::After(60), ticket);
        let right = match answer {
            Ok(PutOutcome::Superseded) => superseded,
            Err(Error::InvalidTicket(_)) => !superseded,
            _ => false,
        };
        assert!(right, "{ticket:?}: {answer:?}");
    }
}

#[test]
fn a_lifetime_of_any_length_reaches_the_statement_as_one_that_it_can_calculate_with() {
    for (seconds, sent) in [
        (0, 0),
        (i64::from(i32::MAX).unsigned_abs() + 1, LIFETIME_SECONDS + TICKET_SECONDS),
        (u64::MAX, LIFETIME_SECONDS + TICKET_SECONDS),
    ] {
        let mut stored = script([Ok(vec![vec![Value::Boolean(true)]])]);
        assert_eq!(put(&mut stored, Expiry::After(seconds), None), Ok(PutOutcome::Stored));
        assert_eq!(stored.asked[0].1[3], Value::Int64(sent), "{seconds}");
    }
}

#[test]
fn a_table_without_its_purge_row_is_an_error_of_every_call() {
    let no_purge = || Ok(vec![vec![Value::Int64(NOW), Value::Null]]);
    let get = Ok(vec![vec![Value::Int64(NOW), Value::Null, Value::Null, Value::Null]]);
    assert_eq!(Cache(&mut script([get])).get("u"), Err(Error::Storage));
    assert_eq!(put(&mut script([Ok(vec![]), no_purge()]), Expiry::After(1), None), Err(Error::Storage));
    assert_eq!(Cache(&mut script([Ok(vec![])])).delete("u"), Err(Error::Storage));
    assert_eq!(Cache(&mut script([Ok(vec![])])).purge(), Err(Error::Storage));
    let nothing = || Ok(vec![]);
    let no_purge = Ok(vec![vec![Value::Null, Value::Boolean(false)]]);
    assert_eq!(Cache(&mut script([nothing(), nothing(), no_purge])).sweep(1), Err(Error::Storage));
}

#[test]
fn a_sweep_removes_expired_rows_then_purged_ones_up_to_its_limit() {
    let rows = |n| Ok(vec![vec![Value::Boolean(true)]; n]);
    let left = |more| Ok(vec![vec![Value::Int64(PURGED), Value::Boolean(more)]]);
    let limit = |n| vec![Value::Int64(n)];

    // Other sweepers may have removed the rows that it chose.
    for more in [false, true] {
        let mut both = script([rows(3), rows(2), left(more)]);
        assert_eq!(Cache(&mut both).sweep(10), Ok(SweepOutcome { removed: 5, more }));
        assert_eq!(
            both.asked,
            [("sweep-expired", limit(10)), ("sweep-purged", limit(7)), ("sweepable", vec![])]
        );
    }

    let mut full = script([rows(1_000)]);
    assert_eq!(Cache(&mut full).sweep(u32::MAX), Ok(SweepOutcome { removed: 1_000, more: true }));
    assert_eq!(full.asked, [("sweep-expired", limit(1_000))]);

    assert_eq!(Cache(&mut script([left(true)])).sweep(0), Ok(SweepOutcome { removed: 0, more: true }));
    let away = Err(SqlError::NotConfigured);
    assert_eq!(Cache(&mut script([away])).sweep(0), Err(Error::NotConfigured));
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Int64),
        Just(Value::Int64(NOW)),
        ".{0,8}".prop_map(Value::Text),
        any::<Vec<u8>>().prop_map(Value::Bytes),
    ]
}

/// A row of a get-many, mostly from one moment and for a URL of the call.
fn any_row_of_many() -> impl Strategy<Value = Row> {
    let time = |usual| prop_oneof![20 => Just(Value::Int64(usual)), 1 => any_value()];
    let text = |text: &str| Just(Value::Text(text.to_owned()));
    let url = prop_oneof![4 => text("u"), 4 => text("v"), 1 => any_value()];
    let metadata = prop_oneof![8 => text("{}"), 1 => any_value()];
    let expires_at =
        prop_oneof![8 => (-MICROS..MICROS).prop_map(|by| Value::Int64(NOW + by)), 1 => any_value()];
    (time(NOW), time(PURGED), url, metadata, expires_at)
        .prop_map(|row| vec![row.0, row.1, row.2, row.3, row.4])
}

fn any_answer() -> impl Strategy<Value = Result<Vec<Row>, SqlError>> {
    use proptest::collection::vec;
    prop_oneof![
        4 => vec(vec(any_value(), 0..6), 0..3).prop_map(Ok),
        4 => vec(vec(any_value(), 4..5), 1..2).prop_map(Ok),
        4 => vec(any_row_of_many(), 0..5).prop_map(Ok),
        1 => ".{0,6}".prop_map(|state| Err(SqlError::Database(state))),
        1 => Just(Err(SqlError::TooLarge)),
    ]
}

proptest! {
    /// A trap in a host is a panic here.
    #[test]
    fn whatever_the_database_answers_there_is_a_typed_result(
        answers in proptest::collection::vec(any_answer(), 3), read_at in 0..LATEST_SECOND * MICROS, at in any::<i64>(), limit in any::<u32>()
    ) {
        let run = || Script { answers: answers.clone().into(), asked: Vec::new() };
        if let Ok(Lookup::Hit(entry)) = Cache(&mut run()).get("u") {
            prop_assert!(entry.expires_at >= entry.ticket.read_at() / MICROS);
        }
        let many = Cache(&mut run()).get_many(&["u", "", "v", "u"].map(str::to_owned));
        let [u, Err(Error::InvalidUrl(_)), v, again] = &many[..] else { panic!("{many:?}") };
        prop_assert_eq!(u, again);
        let mut moments = Vec::new();
        for answer in [u, v] {
            moments.push(match answer {
                Ok(Lookup::Hit(entry)) => {
                    prop_assert!(entry.expires_at >= entry.ticket.read_at() / MICROS);
                    Ok(entry.ticket)
                }
                Ok(Lookup::Miss(ticket)) => Ok(*ticket),
                Err(error) => Err(error),
            });
        }
        prop_assert_eq!(&moments[0], &moments[1]);
        let _ = put(&mut run(), Expiry::At(at), Some(read_at));
        let _ = put(&mut run(), Expiry::After(at.unsigned_abs()), None);
        let _ = Cache(&mut run()).delete("u");
        let _ = Cache(&mut run()).purge();
        let _ = Cache(&mut run()).sweep(limit);
    }
}
