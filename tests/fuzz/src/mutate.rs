//! Variations of an input: what a coverage-guided fuzzer does blindly, and what takes some knowledge of JSON,
//! tickets and rows.

use fastrand::Rng;

/// Tokens worth inserting into a text.
#[rustfmt::skip]
const TOKENS: &[&str] = &[
    // JSON
    "{", "}", "[", "]", ":", ",", "\"", "\\", "null", "true", "{}", "[]", "\"\":", "\"a\":1,", "\"\\u0061\":1,", "{\"a\":",
    "\\u0000", "\\ud800", "\\udc00", "\\ud83d\\ude00", "\\u", "\\/", "\\n", "\0", "\u{1}", "\u{7f}", "\u{feff}", "\u{a0}", "\u{fffe}",
    // Numbers, including those of rows
    "0", "-0", "-", "+", ".", "e", "0.0", "1e131071", "1e308", "1e309", "1e-400", "1e-16383", "0e16384", "0e16385", "E+",
    "1.7976931348623157e308", "123456789012345678901234567890", "9223372036854775807", "-9223372036854775808",
    "18446744073709551615", "4294967295", "1001", "253402300799999999", "253402300800000000", "1795465560000000",
    // Rows
    "\nrow\n", "\nanswer\n", "\nnull\n", "\ntrue\n", "\n'{}\n", "\nx\n", "\ntimes 1000\n", "\nerror 57014\n", "\nerror 08006\n",
    "\nerror unavailable\n", "\nlimit 1\n", "\nat 0\n", "\nafter 0\n", "\nticket 00064fcd8a4c8a40-00064fcd8a4c8a40\n",
];

/// The most bytes of a variation: somewhat more than the largest document.
const BYTES: usize = 20_000;

/// A variation of an input, sometimes with parts of another.
pub fn mutated(rng: &mut Rng, input: &[u8], other: &[u8]) -> String {
    let mut text = input.to_vec();
    for _ in 0..rng.usize(1..=4) {
        let range = some_range(rng, text.len());
        match rng.u8(0..8) {
            0 if !range.is_empty() => text[range.start] ^= 1 << rng.u8(0..7),
            1 => drop(text.drain(range)),
            2 => insert(&mut text, range.start, rng.choice(TOKENS).unwrap_or(&"").as_bytes()),
            3 => drop(text.splice(range, rng.choice(TOKENS).unwrap_or(&"").bytes())),
            4 => insert(&mut text, range.start, &other[some_range(rng, other.len())]),
            5 => {
                // A part repeated elsewhere, such as a member that is there twice.
                let again = text[range].to_vec();
                let at = rng.usize(0..=text.len());
                insert(&mut text, at, &again);
            }
            6 => {
                // A part repeated many times: nesting, a long string, many members.
                let many = text[range.clone()].repeat(1 << rng.u8(0..8));
                insert(&mut text, range.start, &many);
            }
            7 => {
                let token = rng.choice(TOKENS).unwrap_or(&"");
                insert(&mut text, range.start, token.repeat(rng.usize(1..=70)).as_bytes());
            }
            _ => {}
        }
    }
    text.truncate(BYTES);
    String::from_utf8_lossy(&text).into_owned()
}

fn insert(text: &mut Vec<u8>, at: usize, what: &[u8]) {
    if text.len() + what.len() <= BYTES {
        text.splice(at..at, what.iter().copied());
    }
}

/// A part of a text of this length; more often a short one than a long one.
fn some_range(rng: &mut Rng, length: usize) -> std::ops::Range<usize> {
    let start = rng.usize(0..=length);
    let most = if rng.bool() { 8 } else { length };
    start..rng.usize(start..=length.min(start + most))
}
