//! Documents: the rules accept what point 7 of the contract allows, and nothing else.

use cimd_cache_guest::document::check;
use cimd_cache_guest::error::Error;
use cimd_cache_guest::limits::{ERROR_TEXT_BYTES, METADATA_BYTES};

use crate::json::{self, Document, Fault};

/// Gives a text to the check as a document.
///
/// # Panics
///
/// If the check breaks a promise.
pub fn run(text: &str) {
    let allowed = json::read(text);
    judge(text, &allowed);
    if let Ok(document) = allowed {
        // The same with as many spaces as fit, and with one more: the limit holds to the byte.
        let room = METADATA_BYTES - text.len().max(document.written_out);
        let full = format!("{text}{}", " ".repeat(room));
        judge(&full, &json::read(&full));
        assert!(check(&format!("{full} ")).is_err(), "accepted with {} spaces", room + 1);
    }
}

fn judge(text: &str, allowed: &Result<Document, Fault>) {
    match check(text) {
        Ok(()) => {
            assert!(allowed.is_ok(), "accepted, but {allowed:?}");
            // A third reader. Of two members with one name it keeps the last, and the other two refuse them.
            let read = serde_json::from_str::<serde_json::Value>(text);
            assert!(read.is_ok_and(|value| value.is_object()));
        }
        Err(Error::InvalidMetadata(refusal)) => {
            let may_be = allowed.as_ref().map_or(true, |document| document.on_the_edge);
            assert!(may_be, "refused: {refusal}");
            assert_tells_nothing(&refusal);
        }
        Err(other) => panic!("an error of another kind: {other:?}"),
    }
}

/// A refusal is one of these sentences except for its digits, so it can repeat nothing of the document.
const SENTENCES: [&str; 12] = [
    "the metadata is larger than # bytes, counted with its numbers in plain decimal",
    "the metadata nests deeper than # levels",
    "the metadata begins with a byte order mark, which is not JSON",
    "the metadata is empty",
    "the metadata is not valid JSON at line # column #",
    "the metadata is not whole: it ends at line # column #",
    "the metadata has a number beyond the range of a double at line # column #",
    "the metadata has half a surrogate pair in a string at line # column #",
    "the metadata has a comment, which is not JSON, at line # column #",
    "the metadata is not a JSON object",
    "the metadata has a member name twice in one object at line # column #",
    "the metadata has a NUL in a string at line # column #",
];

fn assert_tells_nothing(refusal: &str) {
    assert!(refusal.len() <= ERROR_TEXT_BYTES, "{refusal}");
    let mut sentence = String::new();
    for char in refusal.chars() {
        match char {
            '0'..='9' if sentence.ends_with('#') => {}
            '0'..='9' => sentence.push('#'),
            char => sentence.push(char),
        }
    }
    assert!(SENTENCES.contains(&sentence.as_str()), "{refusal}");
}
