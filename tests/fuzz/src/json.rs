//! A second reader of JSON, to judge the first. It is written from RFC 8259 and the contract's point 7, and
//! uses nothing of the guest or of serde_json. It is plain recursive descent, and writes out in memory what
//! the guest only counts.

use std::collections::BTreeMap;

mod number;

use number::{is_on_the_edge, without_idle_zeros, written_out};

/// The numbers of the contract, repeated on purpose: a limit that changes in the guest must be changed here
/// too.
const BYTES: usize = 16_384;
const NESTING: usize = 64;

/// A JSON value. Numbers are in plain decimal, without anything that does not change their value, so that two
/// documents are equal if their values here are.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true`, `false`
    Boolean(bool),
    /// As `-12.5`: no exponent, no idle zeros, and no `-0`.
    Number(String),
    /// With its escapes decoded.
    Text(String),
    /// In order.
    Array(Vec<Value>),
    /// By name.
    Object(BTreeMap<String, Value>),
}

/// Why a text cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not JSON.
    Syntax,
    /// JSON, but not an object.
    NoObject,
    /// Over 64 levels.
    Deep,
    /// A name twice in one object.
    Twice,
    /// A NUL in a string or a name.
    Nul,
    /// Half a surrogate pair.
    HalfPair,
    /// A number beyond a double's range.
    Range,
    /// Over 16 KiB, as it is or written out.
    Large,
}

/// A document that can be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What it says.
    pub value: Value,
    /// How many bytes its text has with its numbers in plain decimal.
    pub written_out: usize,
    /// Whether it has a number so close to the end of a double's range that a reader may round it to either
    /// side.
    pub on_the_edge: bool,
}

/// Reads a document.
///
/// # Errors
///
/// The first fault from the left, except for those that only the whole text shows.
pub fn read(text: &str) -> Result<Document, Fault> {
    if text.len() > BYTES {
        return Err(Fault::Large);
    }
    let document = any(text)?;
    if document.written_out > BYTES {
        return Err(Fault::Large);
    }
    match document.value {
        Value::Object(_) => Ok(document),
        _ => Err(Fault::NoObject),
    }
}

/// Reads any JSON, of any length written out: what a database returns.
///
/// # Errors
///
/// The first fault.
pub fn value(text: &str) -> Result<Value, Fault> {
    any(text).map(|document| document.value)
}

fn any(text: &str) -> Result<Document, Fault> {
    let mut reader = Reader { rest: text, nesting: 0, written_out: text.len(), on_the_edge: false };
    let value = reader.value()?;
    reader.space();
    if !reader.rest.is_empty() {
        return Err(Fault::Syntax);
    }
    Ok(Document { value, written_out: reader.written_out, on_the_edge: reader.on_the_edge })
}

struct Reader<'a> {
    rest: &'a str,
    nesting: usize,
    /// The length of the text, with the numbers so far replaced by their plain forms.
    written_out: usize,
    on_the_edge: bool,
}

impl<'a> Reader<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else { return false };
        self.rest = rest;
        true
    }

    fn expect(&mut self, token: &str) -> Result<(), Fault> {
        if self.take(token) { Ok(()) } else { Err(Fault::Syntax) }
    }

    fn next(&mut self) -> Result<char, Fault> {
        let mut chars = self.rest.chars();
        let next = chars.next().ok_or(Fault::Syntax)?;
        self.rest = chars.as_str();
        Ok(next)
    }

    fn value(&mut self) -> Result<Value, Fault> {
        self.space();
        if self.take("null") {
            Ok(Value::Null)
        } else if self.take("true") {
            Ok(Value::Boolean(true))
        } else if self.take("false") {
            Ok(Value::Boolean(false))
        } else if self.take("\"") {
            self.text().map(Value::Text)
        } else if self.take("[") {
            self.nested(Self::array)
        } else if self.take("{") {
            self.nested(Self::object)
        } else {
            self.number().map(Value::Number)
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, Fault>) -> Result<Value, Fault> {
        self.nesting += 1;
        if self.nesting > NESTING {
            return Err(Fault::Deep);
        }
        let value = read(self)?;
        self.nesting -= 1;
        Ok(value)
    }

    fn array(&mut self) -> Result<Value, Fault> {
        let mut elements = Vec::new();
        self.space();
        if self.take("]") {
            return Ok(Value::Array(elements));
        }
        loop {
            elements.push(self.value()?);
            self.space();
            if self.take("]") {
                return Ok(Value::Array(elements));
            }
            self.expect(",")?;
        }
    }

    fn object(&mut self) -> Result<Value, Fault> {
        let mut members = BTreeMap::new();
        self.space();
        if self.take("}") {
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            self.expect("\"")?;
            let name = self.text()?;
            self.space();
            self.expect(":")?;
            let value = self.value()?;
            if members.insert(name, value).is_some() {
                return Err(Fault::Twice);
            }
            self.space();
            if self.take("}") {
                return Ok(Value::Object(members));
            }
            self.expect(",")?;
        }
    }

    /// What follows an opening quote, through the closing one.
    fn text(&mut self) -> Result<String, Fault> {
        let mut text = String::new();
        loop {
            let char = match self.next()? {
                '"' => return Ok(text),
                '\0'..' ' => return Err(Fault::Syntax),
                '\\' => self.escape()?,
                char => char,
            };
            if char == '\0' {
                return Err(Fault::Nul);
            }
            text.push(char);
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        Ok(match self.next()? {
            char @ ('"' | '\\' | '/') => char,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let first = self.unit()?;
                let second = if (0xd800..0xdc00).contains(&first) && self.take("\\u") {
                    Some(self.unit()?)
                } else {
                    None
                };
                let decoded = char::decode_utf16([first].into_iter().chain(second)).next();
                decoded.and_then(Result::ok).ok_or(Fault::HalfPair)?
            }
            _ => return Err(Fault::Syntax),
        })
    }

    fn unit(&mut self) -> Result<u16, Fault> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.next()?.to_digit(16).ok_or(Fault::Syntax)?;
            unit = unit << 4 | digit;
        }
        u16::try_from(unit).map_err(|_| Fault::Syntax)
    }

    fn digits(&mut self) -> &'a str {
        let after = self.rest.trim_start_matches(|char: char| char.is_ascii_digit());
        let digits = &self.rest[..self.rest.len() - after.len()];
        self.rest = after;
        digits
    }

    fn number(&mut self) -> Result<String, Fault> {
        let whole = self.rest;
        let sign = if self.take("-") { "-" } else { "" };
        let integer = self.digits();
        if integer.is_empty() || (integer.len() > 1 && integer.starts_with('0')) {
            return Err(Fault::Syntax);
        }
        let fraction = if self.take(".") { Some(self.digits()) } else { None };
        if fraction == Some("") {
            return Err(Fault::Syntax);
        }
        let mantissa = &whole[..whole.len() - self.rest.len()];
        let exponent = if self.take("e") || self.take("E") {
            let minus = self.take("-");
            if !minus {
                self.take("+");
            }
            let digits = self.digits();
            if digits.is_empty() {
                return Err(Fault::Syntax);
            }
            // With more digits than an i64 holds, the number is too long whatever the sign.
            let size = digits.parse::<i64>().unwrap_or(i64::MAX);
            if minus { -size } else { size }
        } else {
            0
        };
        let literal = &whole[..whole.len() - self.rest.len()];
        let on_the_edge = is_on_the_edge(mantissa, exponent);
        self.on_the_edge |= on_the_edge;
        if !on_the_edge && !literal.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(Fault::Range);
        }
        let plain = written_out(sign, integer, fraction.unwrap_or(""), exponent).ok_or(Fault::Large)?;
        self.written_out = self.written_out - literal.len() + plain.len();
        Ok(without_idle_zeros(&plain))
    }
}

#[cfg(test)]
mod tests;
