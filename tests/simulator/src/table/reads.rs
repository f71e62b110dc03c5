//! The two statements that read documents.

use std::collections::BTreeSet;

use cimd_cache_guest::sql::{Row, Value};

use super::rows::{Document, Table};
use crate::history::Micros;
use crate::mutant::Mutant;

/// The mutants of a statement that reads documents.
struct Mutants {
    expiry: Mutant,
    purge: Mutant,
    tolerance: Mutant,
    ticket: Mutant,
    fresh: Mutant,
    expired: Mutant,
}

const GET: Mutants = Mutants {
    expiry: Mutant::GetIgnoresExpiry,
    purge: Mutant::GetIgnoresPurge,
    tolerance: Mutant::ToleranceIgnored,
    ticket: Mutant::TicketOfAnotherClock,
    fresh: Mutant::FreshOnAnotherClock,
    expired: Mutant::ExpiredOnAnotherClock,
};

const GET_MANY: Mutants = Mutants {
    expiry: Mutant::ManyIgnoreExpiry,
    purge: Mutant::ManyIgnorePurge,
    tolerance: Mutant::ManyIgnoreTolerance,
    ticket: Mutant::ManyTicketOfAnotherClock,
    fresh: Mutant::ManyFreshOnAnotherClock,
    expired: Mutant::ManyExpiredOnAnotherClock,
};

impl Table {
    pub(super) fn get(&self, url: &str, now: Micros) -> Vec<Row> {
        let found = self.documents.get(url).filter(|row| self.counts(row, now, &GET));
        let metadata = found.map_or(Value::Null, metadata);
        let expires_at = found.map_or(Value::Null, |row| self.expiry(row, &GET));
        let [ticket, purged_at] = self.moment(now, &GET);
        vec![vec![ticket, purged_at, metadata, expires_at]]
    }

    /// Every row has its expiry, and only a row that a get would return has its document.
    pub(super) fn get_many(&self, urls: &str, count: Option<i64>, now: Micros) -> Vec<Row> {
        // Postgres fails if this is not an array. The model has no errors; to the guest, no rows are one.
        let urls = elements(urls).filter(|urls| i64::try_from(urls.len()).ok() == count);
        let Some(urls) = urls else { return Vec::new() };
        let [ticket, purged_at] = self.moment(now, &GET_MANY);
        let row = |[url, metadata, expires_at]: [Value; 3]| {
            vec![ticket.clone(), purged_at.clone(), url, metadata, expires_at]
        };
        let found = |url: String| {
            let document = self.documents.get(&url)?;
            let seen = if self.counts(document, now, &GET_MANY) { metadata(document) } else { Value::Null };
            Some(row([Value::Text(url), seen, self.expiry(document, &GET_MANY)]))
        };
        let urls: BTreeSet<_> = urls.into_iter().collect();
        let mut rows: Vec<_> = urls.into_iter().filter_map(found).collect();
        if rows.is_empty() && !self.has(Mutant::ManyNeedDocument) {
            rows.push(row([Value::Null, Value::Null, Value::Null]));
        }
        rows
    }

    /// Whether a row has neither expired nor been purged.
    fn counts(&self, row: &Document, now: Micros, mutants: &Mutants) -> bool {
        let latest_now = now + self.tolerance_but(mutants.expired, mutants);
        (row.expires_at > latest_now || self.has(mutants.expiry))
            && (row.after_purge == self.purged_at || self.has(mutants.purge))
    }

    fn expiry(&self, row: &Document, mutants: &Mutants) -> Value {
        Value::Int64(row.expires_at - 2 * self.tolerance_but(mutants.fresh, mutants))
    }

    fn moment(&self, now: Micros, mutants: &Mutants) -> [Value; 2] {
        [now - self.tolerance_but(mutants.ticket, mutants), self.purged_at].map(Value::Int64)
    }

    fn tolerance_but(&self, mutant: Mutant, mutants: &Mutants) -> Micros {
        if self.has(mutant) || self.has(mutants.tolerance) { 0 } else { self.clock_tolerance }
    }
}

fn metadata(row: &Document) -> Value {
    row.metadata.clone().map_or(Value::Null, Value::Text)
}

/// The elements of an array of texts, from its text. Each must be quoted: Postgres takes unquoted ones too,
/// but some of them mean something else.
fn elements(array: &str) -> Option<Vec<String>> {
    let mut rest = array.strip_prefix('{')?.strip_suffix('}')?.chars();
    let mut elements = Vec::new();
    if rest.as_str().is_empty() {
        return Some(elements);
    }
    loop {
        if rest.next() != Some('"') {
            return None;
        }
        let mut element = String::new();
        loop {
            match rest.next()? {
                '"' => break,
                '\\' => element.push(rest.next()?),
                other => element.push(other),
            }
        }
        elements.push(element);
        match rest.next() {
            None => return Some(elements),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_read_as_postgres_reads_it() {
        for (array, expected) in [
            ("{}", Some(&[][..])),
            (r#"{"a"}"#, Some(&["a"])),
            (r#"{"a","a",""}"#, Some(&["a", "a", ""])),
            (r#"{"\"\\\n,{}","NULL","é"}"#, Some(&["\"\\n,{}", "NULL", "é"])),
            (r#"{a}"#, None),
            (r#"{a"}"#, None),
            (r#"{"a"b}"#, None),
            (r#"{"a";"b"}"#, None),
            (r#"{"a",}"#, None),
            (r#"{"a\"}"#, None),
            (r#"{"a}"#, None),
            (r#""a""#, None),
        ] {
            let expected = expected.map(|texts| texts.iter().map(|&text| text.to_owned()).collect());
            assert_eq!(elements(array), expected, "{array}");
        }
    }

    #[test]
    fn a_wrong_number_of_urls_finds_no_rows() {
        let table = Table::new(0, 0, None);
        let none = vec![Value::Int64(7), Value::Int64(0), Value::Null, Value::Null, Value::Null];
        for (count, expected) in [(Some(1), vec![]), (Some(2), vec![none]), (Some(3), vec![]), (None, vec![])]
        {
            assert_eq!(table.get_many(r#"{"a","b"}"#, count, 7), expected, "{count:?}");
        }
    }
}
