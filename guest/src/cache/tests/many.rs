//! Many gets in one statement.

use super::*;

fn ticket() -> Ticket {
    Ticket::new(NOW, PURGED).unwrap()
}

/// A row of a document, or of none.
fn row(url: Value, metadata: Value, expires_at: Value) -> Row {
    vec![Value::Int64(NOW), Value::Int64(PURGED), url, metadata, expires_at]
}

/// A row of a document that is fresh for a second.
fn fresh_row(url: &str, metadata: &str) -> Row {
    row(Value::Text(url.into()), Value::Text(metadata.into()), Value::Int64(NOW + MICROS))
}

fn nothing() -> Row {
    row(Value::Null, Value::Null, Value::Null)
}

fn hit(metadata: &str) -> Result<Lookup, Error> {
    hit_until(NOW + MICROS, metadata, 1_000)
}

fn hit_until(expires_at: i64, metadata: &str, fresh_for: u64) -> Result<Lookup, Error> {
    let expires_at = expires_at / MICROS;
    Ok(Lookup::Hit(Entry { metadata: metadata.into(), expires_at, fresh_for, ticket: ticket() }))
}

fn miss() -> Result<Lookup, Error> {
    Ok(Lookup::Miss(ticket()))
}

fn get_many(script: &mut Script, urls: &[&str]) -> Vec<Result<Lookup, Error>> {
    let urls: Vec<_> = urls.iter().map(|&url| url.to_owned()).collect();
    Cache(script).get_many(&urls)
}

/// What is sent to the database: the text of the array, and how many URLs it has.
fn asked(array: &str, count: i64) -> Vec<(&'static str, Vec<Value>)> {
    vec![("get-many", vec![Value::Text(array.into()), Value::Int64(count)])]
}

#[test]
fn answers_are_in_the_order_of_the_urls_however_often_each_is_asked_for() {
    let mut script = script([Ok(vec![fresh_row("a", "1"), fresh_row("c", "3")])]);
    let answers = get_many(&mut script, &["c", "b", "a", "c"]);
    assert_eq!(answers, [hit("3"), miss(), hit("1"), hit("3")]);
    assert_eq!(script.asked, asked(r#"{"c","b","a","c"}"#, 4), "one statement, one round trip");

    let mut script = self::script([Ok(vec![nothing()])]);
    assert_eq!(get_many(&mut script, &["a", "b"]), [miss(), miss()]);
}

#[test]
fn a_url_that_cannot_be_a_key_is_refused_by_itself() {
    let long = "x".repeat(URL_BYTES + 1);
    let longest = "x".repeat(URL_BYTES);
    let mut script = script([Ok(vec![fresh_row("a", "1"), fresh_row(&longest, "2")])]);
    let answers = get_many(&mut script, &["", "a", "\0", &longest, &long, "b"]);
    let refused: Vec<_> = ["", "\0", &long].iter().map(|url| check_url(url).unwrap_err()).collect();
    let refused = |which: usize| Err(refused[which].clone());
    assert_eq!(answers, [refused(0), hit("1"), refused(1), hit("2"), refused(2), miss()]);
    assert_eq!(script.asked, asked(&format!(r#"{{"a","{longest}","b"}}"#), 3));
}

#[test]
fn the_database_is_not_asked_about_too_many_urls_or_about_none() {
    let urls = |count| vec!["a"; count];
    let refused = get_many(&mut script([]), &urls(URLS_AT_ONCE + 1));
    assert_eq!(refused.len(), URLS_AT_ONCE + 1);
    assert!(refused.iter().all(|answer| matches!(answer, Err(Error::InvalidUrl(_)))), "{refused:?}");

    let mut most = script([Ok(vec![nothing()])]);
    assert_eq!(get_many(&mut most, &urls(URLS_AT_ONCE)), vec![miss(); URLS_AT_ONCE]);

    assert_eq!(get_many(&mut script([]), &[]), []);
    let refused = get_many(&mut script([]), &["", "\0"]);
    assert_eq!(refused, ["", "\0"].map(|url| Err(check_url(url).unwrap_err())));
}

#[test]
fn each_document_is_fresh_until_its_expiry_and_not_at_it() {
    let metadata = Value::Text("{}".into());
    let row = |url: &str, at| row(Value::Text(url.into()), metadata.clone(), Value::Int64(at));
    let rows = vec![row("a", NOW - 1), row("b", NOW), row("c", NOW + 1), row("d", NOW + 2_500_999)];
    let answers = get_many(&mut script([Ok(rows)]), &["a", "b", "c", "d"]);
    let fresh = [hit_until(NOW + 1, "{}", 0), hit_until(NOW + 2_500_999, "{}", 2_500)];
    assert_eq!(answers, [[miss(), miss()], fresh].concat());
}

/// A row whose document was deleted, expired or purged has its URL and its expiry.
#[test]
fn a_row_without_a_document_is_a_miss() {
    let tombstone = row(Value::Text("a".into()), Value::Null, Value::Int64(NOW + MICROS));
    assert_eq!(get_many(&mut script([Ok(vec![tombstone])]), &["a"]), [miss()]);
}

#[test]
fn rows_that_no_statement_can_have_given_are_an_error_for_every_url_that_can_be_a_key() {
    let good = || fresh_row("a", "1");
    let with = |column: usize, value| {
        let mut row = good();
        row[column] = value;
        row
    };
    let one_more = [good(), vec![Value::Null]].concat();
    let of_no_url = row(Value::Null, Value::Text("{}".into()), Value::Int64(NOW + 1));
    for rows in [
        vec![],
        // From two moments, or from before and after a purge.
        vec![good(), with(0, Value::Int64(NOW + 1))],
        vec![good(), with(1, Value::Int64(PURGED + 1))],
        // Without the purge row.
        vec![vec![Value::Int64(NOW), Value::Null, Value::Null, Value::Null, Value::Null]],
        vec![with(1, Value::Null)],
        vec![with(0, Value::Null)],
        vec![with(0, Value::Int64(-1))],
        vec![with(2, Value::Int64(1))],
        vec![with(3, Value::Boolean(true))],
        vec![with(4, Value::Text("soon".into()))],
        vec![good(), of_no_url],
        vec![good(), fresh_row("c", "not asked for")],
        vec![good()[..4].to_vec()],
        vec![one_more],
    ] {
        let answers = get_many(&mut script([Ok(rows.clone())]), &["a", "", "b"]);
        let refused = Err(check_url("").unwrap_err());
        assert_eq!(answers, [Err(Error::Storage), refused, Err(Error::Storage)], "{rows:?}");
    }
}

#[test]
fn a_failure_is_that_of_every_url_that_can_be_a_key() {
    for (failure, error) in [
        (SqlError::NotConfigured, Error::NotConfigured),
        (SqlError::TimedOut, Error::TimedOut),
        (SqlError::Unavailable, Error::Unavailable),
        (SqlError::TooLarge, Error::Storage),
    ] {
        let answers = get_many(&mut script([Err(failure)]), &["a", "", "b"]);
        assert_eq!(answers, [Err(error.clone()), Err(check_url("").unwrap_err()), Err(error)]);
    }
}

#[test]
fn whatever_a_url_says_it_is_one_element_of_the_array() {
    for (url, element) in [
        ("https://c.example/", r#""https://c.example/""#),
        ("\"", r#""\"""#),
        ("\\", r#""\\""#),
        ("\\\"", r#""\\\"""#),
        ("a\"b\\c\"", r#""a\"b\\c\"""#),
        ("{}", r#""{}""#),
        ("{a,b}", r#""{a,b}""#),
        ("[1:1]={a}", r#""[1:1]={a}""#),
        ("a\",\"b", r#""a\",\"b""#),
        ("NULL", r#""NULL""#),
        ("null", r#""null""#),
        (" ", r#"" ""#),
        ("''", r#""''""#),
        ("\"\"", r#""\"\"""#),
        ("$1", r#""$1""#),
        ("a\r\n\tb", "\"a\r\n\tb\""),
        ("\u{a0}\u{feff}", "\"\u{a0}\u{feff}\""),
        ("é\"漢\\🦀", r#""é\"漢\\🦀""#),
    ] {
        let mut script = script([Ok(vec![fresh_row(url, "1")])]);
        assert_eq!(get_many(&mut script, &[url, "b", url]), [hit("1"), miss(), hit("1")], "{url:?}");
        assert_eq!(script.asked, asked(&format!(r#"{{{element},"b",{element}}}"#), 3), "{url:?}");
    }
}
