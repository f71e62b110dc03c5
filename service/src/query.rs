//! The query of a URL, read strictly.
//!
//! A `client_id` is a URL itself, and its bytes are the key. So nothing may be read in two ways:
//! percent-encoding is decoded and nothing else (`+` stays `+`, which form decoding would turn into a space),
//! and a parameter that is given twice, or that the call does not have, is refused. An `&` that a client
//! forgot to encode would otherwise cut a `client_id` short and make it another client's key.

use percent_encoding::percent_decode_str;

use crate::problem::Problem;

/// The parameters of a call, decoded.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query that may have the parameters `known`, each at most once.
    pub(crate) fn read(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut parameters = Vec::<(String, String)>::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(Problem::QuerySyntax)?;
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&name.as_str()) {
                return Err(Problem::UnknownParameter);
            }
            if parameters.iter().any(|(given, _)| *given == name) {
                return Err(Problem::ParameterTwice);
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// Takes the value of a parameter that may be missing.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(given, _)| given == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes the value of a parameter that must be there.
    pub(crate) fn require(&mut self, name: &'static str) -> Result<String, Problem> {
        self.take(name).ok_or(Problem::MissingParameter(name))
    }
}

/// Decodes `%XX` and nothing else.
fn decode(text: &str) -> Result<String, Problem> {
    let bytes = text.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let digits = bytes.get(at + 1..at + 3).ok_or(Problem::QuerySyntax)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Problem::QuerySyntax);
        }
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| Problem::QuerySyntax)?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_id(query: &str) -> Result<String, Problem> {
        Query::read(Some(query), &["client_id", "ticket"])?.require("client_id")
    }

    #[test]
    fn percent_encoding_is_decoded_and_nothing_else() {
        for (query, value) in [
            ("client_id=https%3A%2F%2Fc.example%2F", "https://c.example/"),
            ("client_id=https://c.example/?a=1", "https://c.example/?a=1"),
            ("client_id=a+b", "a+b"),
            ("client_id=a%2Bb%20c", "a+b c"),
            ("client_id=%C3%A9", "é"),
            ("client_id=%25", "%"),
            ("client_id=a%2500", "a%00"),
            ("ticket=t&client_id=c", "c"),
            ("client_id=", ""),
        ] {
            assert_eq!(client_id(query).unwrap(), value, "{query}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (query, problem) in [
            ("client_id=%", Problem::QuerySyntax),
            ("client_id=%4", Problem::QuerySyntax),
            ("client_id=%zz", Problem::QuerySyntax),
            ("client_id=%+1", Problem::QuerySyntax),
            ("client_id=%FF", Problem::QuerySyntax),
            ("client_id=%C3", Problem::QuerySyntax),
            ("client_id", Problem::QuerySyntax),
            ("client_id=a&client_id=b", Problem::ParameterTwice),
            ("client_id=a&client%5Fid=b", Problem::ParameterTwice),
            ("client_id=https://c.example/?a=1&b=2", Problem::UnknownParameter),
            ("Client_id=a", Problem::UnknownParameter),
            ("ticket=t", Problem::MissingParameter("client_id")),
            ("", Problem::MissingParameter("client_id")),
        ] {
            assert_eq!(client_id(query).unwrap_err(), problem, "{query}");
        }
    }

    /// The same in another way: byte by byte.
    fn read_again(query: &str, known: &[&str]) -> Option<Vec<(String, String)>> {
        let mut parameters = Vec::<(String, String)>::new();
        let mut rest = query.as_bytes();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'&').unwrap_or(rest.len());
            let (pair, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if pair.is_empty() {
                continue;
            }
            let middle = pair.iter().position(|byte| *byte == b'=')?;
            let mut texts = Vec::new();
            for part in [&pair[..middle], &pair[middle + 1..]] {
                let (mut bytes, mut at) = (Vec::new(), 0);
                while at < part.len() {
                    if part[at] == b'%' {
                        let digit = |at: usize| char::from(*part.get(at)?).to_digit(16);
                        bytes.push((digit(at + 1)? * 16 + digit(at + 2)?) as u8);
                        at += 3;
                    } else {
                        bytes.push(part[at]);
                        at += 1;
                    }
                }
                texts.push(String::from_utf8(bytes).ok()?);
            }
            let [name, value] = texts.try_into().ok()?;
            if !known.contains(&&*name) || parameters.iter().any(|(given, _)| *given == name) {
                return None;
            }
            parameters.push((name, value));
        }
        Some(parameters)
    }

    /// Hundreds of thousands of variations, each read twice.
    #[test]
    fn any_query_is_read_in_one_way() {
        const KNOWN: [&str; 4] = ["client_id", "ticket", "expires_in", "expires_at"];
        let seeds = [
            "client_id=https%3A%2F%2Fc.example%2F%3Fa%3D1%26b%3D%2B%25&ticket=none&expires_in=60",
            "client_id=https://c.example/?a=b+c&expires_at=2030-01-31T12:00:00Z",
            "ticket=%e2%82%ac&client%5fid=%F0%9F%94%91&&expires_in=",
            "client_id=a&client_id=b&%zz=%",
        ];
        let (mut read, mut refused) = (0, 0);
        for seed in 0..200_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (one, other) = (rng.choice(seeds).unwrap(), rng.choice(seeds).unwrap());
            let text = cimd_cache_fuzz::mutate::mutated(&mut rng, one.as_bytes(), other.as_bytes());
            let query = Query::read(Some(&text), &KNOWN).ok().map(|Query(parameters)| parameters);
            assert_eq!(query, read_again(&text, &KNOWN), "{text:?}");
            *if query.is_some() { &mut read } else { &mut refused } += 1;
        }
        assert!(read > 10_000 && refused > 10_000, "{read} read, {refused} refused");
    }
}
