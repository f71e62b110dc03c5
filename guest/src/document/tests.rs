use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::limits::ERROR_TEXT_BYTES;

fn refusal(text: &str) -> Option<String> {
    match check(text) {
        Ok(()) => None,
        Err(Error::InvalidMetadata(text)) => Some(text.into_owned()),
        Err(other) => panic!("{other:?}"),
    }
}

fn nested(levels: usize) -> String {
    let arrays = levels - 1;
    format!("{{\"a\":{}{}}}", "[".repeat(arrays), "]".repeat(arrays))
}

#[test]
fn each_rule_has_a_refusal_of_its_own() {
    for (text, rule) in [
        ("", "is empty"),
        (" \n\t", "is empty"),
        ("{", "not whole: it ends at line 1 column 1"),
        ("{\"a\":\"", "not whole"),
        ("{\"a\":tru", "not whole"),
        ("{} x", "not valid JSON"),
        ("{'a':1}", "not valid JSON"),
        ("{\"a\":\"\u{1}\"}", "not valid JSON"),
        ("\u{feff}{}", "byte order mark"),
        ("\u{feff}", "byte order mark"),
        ("{} \u{feff}", "not valid JSON"),
        ("// who we are\n{}", "has a comment"),
        ("{\"a\":1 /* one */}", "has a comment"),
        ("{\"a\":1,\n  // two\n\"b\":2}", "has a comment, which is not JSON, at line 2"),
        ("{} // done", "has a comment"),
        ("{\"a\":/}", "not valid JSON"),
        ("{\"a\":01}", "not valid JSON"),
        ("{\"a\":NaN}", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("\"{}\"", "not a JSON object"),
        ("{\"a\":1,\"a\":1}", "twice"),
        ("{\"redirect_uris\":1,\"b\":[],\"redirect\\u005furis\":2}", "twice"),
        ("{\"a\":[{\"b\":{\"c\":1,\"c\":2}}]}", "twice"),
        ("{\"a\":\"\\u0000\"}", "NUL"),
        ("{\"a\\u0000\":1}", "NUL"),
        ("{\"a\":\"\\ud800\"}", "half a surrogate pair"),
        ("{\"a\":\"\\udc00x\"}", "half a surrogate pair"),
        ("{\"\\ud83d\":\"\"}", "half a surrogate pair"),
        ("{\"a\":1e309}", "range of a double"),
        (&nested(METADATA_NESTING + 1), "nests deeper"),
        (&"[".repeat(METADATA_BYTES), "nests deeper"),
        (&format!("{{\"a\":[{}0]}}", "1e300,".repeat(200)), "larger than 16384"),
        (&format!("{{\"a\":[{}0]}}", "1e-300,".repeat(200)), "larger than 16384"),
        ("{\"a\":0e2000000000}", "larger than 16384"),
        ("{\"a\":0.0e-2000000000}", "larger than 16384"),
        (&format!("{{\"a\":\"{}\"}}", "x".repeat(METADATA_BYTES)), "larger than 16384"),
    ] {
        let refusal = refusal(text).unwrap_or_else(|| panic!("accepted: {text}"));
        assert!(refusal.contains(rule), "{text}: {refusal}");
        assert!(!refusal.contains(" or "), "one cause: {refusal}");
        assert!(refusal.len() <= ERROR_TEXT_BYTES, "{refusal}");
    }
}

#[test]
fn the_limits_themselves_are_allowed() {
    let frame = "{\"a\":\"\"}".len();
    let full = format!("{{\"a\":\"{}\"}}", "x".repeat(METADATA_BYTES - frame));
    let numbers = format!("{{\"a\":[{}0]}}", "1e99,".repeat(160));
    for text in [
        "{}",
        " \t\r\n{ } \n",
        "{\"\":{\"\":{\"\":0}}}",
        "{\"a\":{\"b\":1},\"c\":{\"b\":1}}",
        "{\"a\":\"\\ud83d\\ude00 \\\" \\\\ [[[ 1e999\"}",
        "{\"a\":1e308,\"b\":-1e-308,\"c\":0.10}",
        &nested(METADATA_NESTING),
        &full,
        &numbers,
    ] {
        assert_eq!(refusal(text), None, "{text}");
    }
}

#[test]
fn a_refusal_repeats_nothing_of_the_document() {
    for text in [
        "{\"a\":\"secret\" \"secret\"}",
        "{\"secret\":1,\"secret\":1}",
        "\"secret\"",
        "{\"a\":\"secret\\u0000\"}",
        "{\"a\":secret}",
    ] {
        let refusal = refusal(text).unwrap();
        assert!(!refusal.contains("secret"), "{refusal}");
    }
}

/// A number written out by moving the point one place at a time.
fn written_out(sign: bool, digits: &str, fraction: &str, exponent: i32) -> String {
    let mut integer: Vec<u8> = digits.bytes().collect();
    let mut fraction: Vec<u8> = fraction.bytes().collect();
    for _ in 0..exponent.max(0) {
        integer.push(if fraction.is_empty() { b'0' } else { fraction.remove(0) });
    }
    for _ in exponent.min(0)..0 {
        fraction.insert(0, integer.pop().unwrap_or(b'0'));
    }
    let integer = String::from_utf8(integer).unwrap();
    let integer = match integer.trim_start_matches('0') {
        "" => "0",
        trimmed => trimmed,
    };
    let fraction = String::from_utf8(fraction).unwrap();
    let point = if fraction.is_empty() { "" } else { "." };
    let sign = if sign { "-" } else { "" };
    format!("{sign}{integer}{point}{fraction}")
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[^\0]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map("[^\0]{0,4}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_object_within_the_limits_is_allowed(value in json(), pretty in any::<bool>()) {
        let value = serde_json::json!({ "a": value });
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        prop_assert_eq!(check(&text.unwrap()), Ok(()));
    }

    #[test]
    fn a_member_put_in_twice_is_refused_wherever_it_is(value in json(), name in "[^\0]{0,4}") {
        let name = serde_json::to_string(&name).unwrap();
        let text = format!("{{\"x\":[{{{name}:0,{name}:{value}}}]}}");
        prop_assert!(check(&text).is_err());
    }

    #[test]
    fn any_text_gets_an_answer(text in "[\\[\\]{}\":,\\\\u0-9eE+. -]{0,64}|\\PC{0,64}") {
        if check(&text).is_ok() {
            let value: Value = serde_json::from_str(&text).unwrap();
            prop_assert!(value.is_object());
        }
    }

    #[test]
    fn a_number_is_as_long_as_it_is_written_out(
        sign in any::<bool>(), digits in "0|[1-9][0-9]{0,4}", fraction in "[0-9]{0,5}", exponent in -40..40_i32, plus in any::<bool>()
    ) {
        let plain = written_out(sign, &digits, &fraction, exponent);
        let point = if fraction.is_empty() { "" } else { "." };
        let plus = if plus && exponent >= 0 { "+" } else { "" };
        let minus = if sign { "-" } else { "" };
        let number = format!("{minus}{digits}{point}{fraction}e{plus}{exponent}");
        prop_assert_eq!(plain_length(number.as_bytes()), plain.len(), "{} {}", number, plain);
    }

    #[test]
    fn nesting_is_what_serde_json_finds(value in json()) {
        fn depth(value: &Value) -> usize {
            match value {
                Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
                Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
                _ => 0,
            }
        }
        prop_assert_eq!(Measure::of(&value.to_string()).nesting, depth(&value));
    }
}
