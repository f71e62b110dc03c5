//! Many gets in one statement, with any rows.

use std::collections::HashMap;

use cimd_cache_guest::cache::{Cache, Entry, Lookup};
use cimd_cache_guest::error::Error;
use cimd_cache_guest::sql::{Row, Value};

use super::expected::{looked_up, moment, translated};
use super::script::{Answer, asked};

/// The URLs of the call: the second cannot be a key, and the last repeats the first.
const URLS: [&str; 5] = ["u", "", "{}", "v\"\\", "u"];

/// Those of them that can be keys, as the statement gets them.
const ARRAY: &str = r#"{"u","{}","v\"\\","u"}"#;

/// Makes the call against these answers as they are, against the same with a URL in each row, and against
/// those with the last row from another moment.
pub(super) fn run(answers: &[Answer]) {
    judge(answers);
    let with_urls = |rows: &Vec<Row>| rows.iter().enumerate().map(|(at, row)| with_url(at, row)).collect();
    let with_urls = |answer: &Answer| answer.as_ref().map(with_urls).map_err(Clone::clone);
    let answers: Vec<Answer> = answers.iter().map(with_urls).collect();
    judge(&answers);
    for column in [0, 1] {
        let mut apart = answers.clone();
        let row = apart.first_mut().and_then(|answer| answer.as_mut().ok()?.last_mut());
        if let Some(Value::Int64(time)) = row.and_then(|row| row.get_mut(column)) {
            *time ^= 1;
            judge(&apart);
        }
    }
}

/// The row of a get as a row of a get-many: with a URL of the call, another one, or none.
fn with_url(at: usize, row: &[Value]) -> Row {
    const IN_TURN: [Option<&str>; 6] = [Some("u"), Some("v\"\\"), Some("u"), Some("w"), None, Some("{}")];
    let url = IN_TURN[at % IN_TURN.len()].map_or(Value::Null, |url| Value::Text(url.to_owned()));
    let place = row.len().min(2);
    [&row[..place], &[url], &row[place..]].concat()
}

fn judge(answers: &[Answer]) {
    let asked = asked(answers, &|script| {
        let answer = Cache(script).get_many(&URLS.map(str::to_owned));
        let [first, Err(Error::InvalidUrl(_)), second, third, again] = &answer[..] else {
            panic!("{answer:?}")
        };
        let expected = expected(answers, &["u", "{}", "v\"\\", "u"]);
        assert_eq!([first, second, third, again].map(Clone::clone), expected[..]);
    });
    assert_eq!(asked, [("get-many", vec![Value::Text(ARRAY.to_owned()), Value::Int64(4)])]);
}

fn expected(answers: &[Answer], urls: &[&str]) -> Vec<Result<Lookup, Error>> {
    let found = match answers.first() {
        Some(Err(error)) => Err(translated(error)),
        Some(Ok(rows)) => documents(rows).ok_or(Error::Storage),
        None => Err(Error::Storage),
    };
    let of_url = |(documents, miss): &(HashMap<&str, Entry>, Lookup), url: &str| match documents.get(url) {
        Some(entry) => Lookup::Hit(entry.clone()),
        None => miss.clone(),
    };
    urls.iter().map(|url| found.as_ref().map(|found| of_url(found, url)).map_err(Clone::clone)).collect()
}

/// The fresh documents of the rows by their URLs, and the answer for all other URLs; none if the statement
/// cannot have returned such rows.
fn documents(rows: &[Row]) -> Option<(HashMap<&str, Entry>, Lookup)> {
    let first = rows.first()?;
    let mut documents = HashMap::new();
    for row in rows {
        let [now, purged_at, url, metadata, expires_at] = &row[..] else { return None };
        if [now, purged_at] != [&first[0], &first[1]] {
            return None;
        }
        match (url, looked_up(now, purged_at, metadata, expires_at).ok()?) {
            // If a URL came twice, the later row.
            (Value::Text(url), Lookup::Hit(entry)) if !url.is_empty() && URLS.contains(&url.as_str()) => {
                documents.insert(url.as_str(), entry);
            }
            (Value::Text(_) | Value::Null, Lookup::Miss(_)) => {}
            _ => return None,
        }
    }
    let miss = moment(&first[0], &first[1]).ok()?;
    Some((documents, Lookup::Miss(miss)))
}
