//! What may be stored as a document.
//!
//! Postgres checks JSON too, but not everything that matters here, and its error is the same for every cause.
//! The rules prevent what would otherwise go wrong later: two parsers may read a member name that appears
//! twice in two ways; a number such as `1e131071` comes back from `jsonb` as 131,072 digits; `jsonb` cannot
//! hold `\u0000` at all.
//!
//! serde_json parses, with its own limits. It does not report two things, the nesting and the length of
//! numbers written out: these are measured on the text first.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use crate::error::Error;
use crate::limits::{METADATA_BYTES, METADATA_NESTING};

/// Checks that `text` can be stored.
///
/// # Errors
///
/// [`Error::InvalidMetadata`]. Its text names the rule and the place, and repeats nothing of the document.
pub fn check(text: &str) -> Result<(), Error> {
    // Before anything that takes time in proportion to the text.
    if text.len() > METADATA_BYTES {
        return Err(too_large());
    }
    if text.starts_with('\u{feff}') {
        return Err(refused("the metadata begins with a byte order mark, which is not JSON".to_owned()));
    }
    if text.trim_start_matches(JSON_SPACE).is_empty() {
        return Err(refused("the metadata is empty".to_owned()));
    }
    let Measure { nesting, bytes } = Measure::of(text);
    if nesting > METADATA_NESTING {
        return Err(refused(format!("the metadata nests deeper than {METADATA_NESTING} levels")));
    }
    if let Err(error) = serde_json::from_str::<Storable>(text) {
        // `Storable` raises the errors of this category, in this module's words.
        return Err(refused(if error.classify() == Category::Data {
            error.to_string()
        } else {
            let (line, column) = (error.line(), error.column());
            format!("the metadata {} at line {line} column {column}", what_is_wrong(text, &error))
        }));
    }
    if !text.trim_start_matches(JSON_SPACE).starts_with('{') {
        return Err(refused("the metadata is not a JSON object".to_owned()));
    }
    if bytes > METADATA_BYTES {
        return Err(too_large());
    }
    Ok(())
}

/// The cause, recognised by the parser's message. If a later parser words it differently, the text is just
/// not JSON.
fn what_is_wrong(text: &str, error: &serde_json::Error) -> &'static str {
    let said = error.to_string();
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let at = line.get(error.column().saturating_sub(1)..).unwrap_or_default();
    if said.starts_with("number out of range") {
        "has a number beyond the range of a double"
    } else if ["lone leading surrogate", "unexpected end of hex escape"].iter().any(|it| said.starts_with(it))
    {
        "has half a surrogate pair in a string"
    } else if at.starts_with("//") || at.starts_with("/*") {
        "has a comment, which is not JSON,"
    } else if error.classify() == Category::Eof {
        "is not whole: it ends"
    } else {
        "is not valid JSON"
    }
}

/// White space in JSON (RFC 8259 section 2). Rust's definition has more characters.
const JSON_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

fn refused(text: String) -> Error {
    Error::InvalidMetadata(text.into())
}

fn too_large() -> Error {
    refused(format!(
        "the metadata is larger than {METADATA_BYTES} bytes, counted with its numbers in plain decimal"
    ))
}

/// Any JSON value without a member name twice in one object and without NUL in any string.
struct Storable;

impl<'de> Deserialize<'de> for Storable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StorableVisitor)
    }
}

struct StorableVisitor;

impl<'de> Visitor<'de> for StorableVisitor {
    type Value = Storable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Storable, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = members.next_key::<String>()? {
            no_nul(&name)?;
            if !names.insert(name) {
                return Err(de::Error::custom("the metadata has a member name twice in one object"));
            }
            members.next_value::<Storable>()?;
        }
        Ok(Storable)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Storable, A::Error> {
        while elements.next_element::<Storable>()?.is_some() {}
        Ok(Storable)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Storable, E> {
        no_nul(text)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Storable, E> {
        Ok(Storable)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Storable, E> {
        Ok(Storable)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Storable, E> {
        Ok(Storable)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Storable, E> {
        Ok(Storable)
    }

    fn visit_unit<E>(self) -> Result<Storable, E> {
        Ok(Storable)
    }
}

fn no_nul<E: de::Error>(text: &str) -> Result<Storable, E> {
    if text.contains('\0') {
        return Err(E::custom("the metadata has a NUL in a string"));
    }
    Ok(Storable)
}

/// How deep a text nests, and how many bytes it has with its numbers in plain decimal. Correct for valid
/// JSON; unspecified but harmless for anything else.
#[derive(Debug, PartialEq)]
struct Measure {
    nesting: usize,
    bytes: usize,
}

impl Measure {
    fn of(text: &str) -> Self {
        let text = text.as_bytes();
        let (mut level, mut nesting, mut bytes) = (0_usize, 0, 0_usize);
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let (length, written_out) = match rest[0] {
                b'"' => {
                    let length = string_length(rest);
                    (length, length)
                }
                b'-' | b'0'..=b'9' => {
                    let number = |byte: &u8| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                    let length = rest.iter().position(number).unwrap_or(rest.len());
                    (length, plain_length(&rest[..length]))
                }
                byte => {
                    match byte {
                        b'{' | b'[' => level += 1,
                        b'}' | b']' => level = level.saturating_sub(1),
                        _ => {}
                    }
                    nesting = nesting.max(level);
                    (1, 1)
                }
            };
            at += length;
            bytes = bytes.saturating_add(written_out);
        }
        Self { nesting, bytes }
    }
}

/// The length of the string literal at the start of `text`, quotes included.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The length of a JSON number in plain decimal, as Postgres' `numeric` writes it: no exponent, no leading
/// zeros, all digits after the point kept.
fn plain_length(number: &[u8]) -> usize {
    let unsigned = number.strip_prefix(b"-").unwrap_or(number);
    let exponent_at = unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(unsigned.len());
    let (mantissa, exponent) = unsigned.split_at(exponent_at);
    let exponent = parse_exponent(exponent.get(1..).unwrap_or_default());
    let point = mantissa.iter().position(|&byte| byte == b'.');
    let integer = point.unwrap_or(mantissa.len());
    let fraction = mantissa.len() - point.map_or(integer, |point| point + 1);

    let leading_zeros =
        mantissa.iter().filter(|&&byte| byte != b'.').take_while(|&&byte| byte == b'0').count();
    let significant = leading_zeros < integer + fraction;
    if !significant && exponent > METADATA_BYTES as i64 {
        // Postgres refuses zero with a large exponent too. It is too long, like any other number with that
        // exponent.
        return usize::MAX;
    }
    let integer_digits =
        if significant { (integer as i64 - leading_zeros as i64).saturating_add(exponent).max(1) } else { 1 };
    let fraction_digits = (fraction as i64).saturating_sub(exponent).max(0);
    let point = i64::from(fraction_digits > 0);
    let sign = (number.len() - unsigned.len()) as i64;
    let length = integer_digits.saturating_add(fraction_digits).saturating_add(point + sign);
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// An exponent with its sign. One with too many digits becomes the largest possible: the number is too long
/// in any case.
fn parse_exponent(text: &[u8]) -> i64 {
    let (digits, negative) = match text {
        [b'-', digits @ ..] => (digits, true),
        [b'+', digits @ ..] => (digits, false),
        digits => (digits, false),
    };
    let size = digits.iter().fold(0_i64, |size, digit| {
        size.saturating_mul(10).saturating_add(i64::from(digit.wrapping_sub(b'0')))
    });
    if negative { -size } else { size }
}

#[cfg(test)]
mod tests;
