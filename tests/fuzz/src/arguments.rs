//! The other texts that strangers give: URLs and tickets. The rules refuse each before they ask the database,
//! or pass it on unchanged.

use cimd_cache_guest::cache::{Cache, Expiry};
use cimd_cache_guest::error::Error;
use cimd_cache_guest::limits::ERROR_TEXT_BYTES;
use cimd_cache_guest::sql::{Row, Sql, SqlError, Value};
use cimd_cache_guest::statements::Statement;
use cimd_cache_guest::ticket::Ticket;

/// A database that records the statements, and does nothing.
#[derive(Default)]
struct Recorder(Vec<(&'static str, Vec<Value>)>);

impl Sql for &mut Recorder {
    fn query(&mut self, statement: &'static Statement, parameters: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        self.0.push((statement.name, parameters));
        Err(SqlError::Unavailable)
    }
}

/// Makes every call that takes a URL, with this text as the URL.
///
/// # Panics
///
/// If the rules break a promise.
pub fn url(text: &str) {
    let is_a_key = (1..=2_048).contains(&text.len()) && !text.bytes().any(|byte| byte == 0);
    let judge = |call: &str, answer: Option<Error>, Recorder(asked): &Recorder| {
        if is_a_key {
            let [(statement, parameters)] = &asked[..] else { panic!("{call} asked {asked:?}") };
            assert_eq!((*statement, answer), (call, Some(Error::Unavailable)));
            assert_eq!(parameters[0], Value::Text(text.to_owned()));
        } else {
            assert!(asked.is_empty(), "{call} asked {asked:?}");
            let Some(Error::InvalidUrl(refusal)) = answer else { panic!("{call} gave {answer:?}") };
            assert!(refusal.len() <= ERROR_TEXT_BYTES && !refusal.contains(char::is_control));
        }
    };
    let mut asked = Recorder::default();
    judge("get", Cache(&mut asked).get(text).err(), &asked);
    many(text, is_a_key);
    let mut asked = Recorder::default();
    judge("put", Cache(&mut asked).put(text, "{}".to_owned(), Expiry::After(60), None).err(), &asked);
    let mut asked = Recorder::default();
    judge("delete", Cache(&mut asked).delete(text).err(), &asked);
}

/// Looks up the text together with a key and with a URL that cannot be one.
fn many(text: &str, is_a_key: bool) {
    let mut asked = Recorder::default();
    let answers = Cache(&mut asked).get_many(&[text, "", "u", text].map(str::to_owned));
    let [one, Err(Error::InvalidUrl(_)), Err(Error::Unavailable), other] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(one, other);
    let (array, count) = if is_a_key {
        assert_eq!(*one, Err(Error::Unavailable));
        let escaped = text.replace('\\', r"\\").replace('"', r#"\""#);
        (format!(r#"{{"{escaped}","u","{escaped}"}}"#), 3)
    } else {
        assert!(matches!(one, Err(Error::InvalidUrl(_))), "{one:?}");
        (r#"{"u"}"#.to_owned(), 1)
    };
    assert_eq!(asked.0, [("get-many", vec![Value::Text(array), Value::Int64(count)])]);
}

/// Puts with this text as the ticket.
///
/// # Panics
///
/// If the rules break a promise.
pub fn ticket(text: &str) {
    let times = ticket_times(text);
    let parsed = Ticket::parse(text);
    assert_eq!(parsed.map(|ticket| (ticket.read_at(), ticket.purged_at())), times);
    if let Some(parsed) = parsed {
        assert_eq!(parsed.to_string(), text);
    }
    let mut asked = Recorder::default();
    let answer = Cache(&mut asked).put("u", "{}".to_owned(), Expiry::At(7), Some(text));
    match times {
        Some((read_at, purged_at)) => {
            let texts = [Value::Text("u".to_owned()), Value::Text("{}".to_owned()), Value::Int64(7)];
            let times = [Value::Null, Value::Int64(read_at), Value::Int64(purged_at)];
            assert_eq!(asked.0, [("put", texts.into_iter().chain(times).collect())]);
            assert_eq!(answer, Err(Error::Unavailable));
        }
        None => {
            assert!(asked.0.is_empty());
            let Err(Error::InvalidTicket(refusal)) = answer else { panic!("{answer:?}") };
            assert!(refusal.len() <= ERROR_TEXT_BYTES && !refusal.contains(char::is_control));
        }
    }
}

/// What a ticket says, in microseconds: two times of sixteen lower-case hexadecimal digits, before the year
/// 10000.
fn ticket_times(text: &str) -> Option<(i64, i64)> {
    let bytes: &[u8; 33] = text.as_bytes().try_into().ok()?;
    let time = |digits: &[u8]| {
        let mut micros = 0_u128;
        for &digit in digits {
            let digit = b"0123456789abcdef".iter().position(|&other| other == digit)?;
            micros = micros * 16 + digit as u128;
        }
        (micros < 253_402_300_800_000_000).then(|| i64::try_from(micros).ok())?
    };
    if bytes[16] != b'-' {
        return None;
    }
    Some((time(&bytes[..16])?, time(&bytes[17..])?))
}
