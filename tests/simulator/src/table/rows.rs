//! The two tables and their rows, and the values that statements take and return.

use std::collections::BTreeMap;

use cimd_cache_guest::sql::{Row, Value};

use crate::history::Micros;
use crate::mutant::Mutant;

pub(super) const SECOND: Micros = 1_000_000;

/// The two tables.
#[derive(Debug)]
pub struct Table {
    pub(super) mutant: Option<Mutant>,
    pub(super) clock_tolerance: Micros,
    pub(super) purged_at: Micros,
    pub(super) documents: BTreeMap<String, Document>,
    inserted: u64,
}

/// A row of `client_id_metadata`.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// Distinguishes a row from one inserted for the same URL after it was removed: a statement that chose
    /// the first does not see the second.
    pub(super) id: u64,
    pub(super) metadata: Option<String>,
    pub(super) expires_at: Micros,
    pub(super) fetched_at: Micros,
    pub(super) after_purge: Micros,
}

impl Table {
    /// Empty tables, migrated at `now`.
    pub fn new(now: Micros, clock_tolerance: Micros, mutant: Option<Mutant>) -> Self {
        Self { mutant, clock_tolerance, purged_at: now, documents: BTreeMap::new(), inserted: 0 }
    }

    /// How many rows `client_id_metadata` has.
    pub fn rows(&self) -> u64 {
        self.documents.len() as u64
    }

    pub(super) fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(super) fn insert(&mut self, url: String, row: Document) {
        self.inserted += 1;
        self.documents.insert(url, Document { id: self.inserted, ..row });
    }
}

pub(super) fn returning_true(rows: usize) -> Vec<Row> {
    vec![vec![Value::Boolean(true)]; rows]
}

pub(super) fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int64(number) => Some(*number),
        _ => None,
    }
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => unreachable!("a text, not {other:?}"),
    }
}
