//! The two statements of a sweep: which rows they choose, and which of those they remove.

use cimd_cache_guest::sql::{Row, Value};

use super::rows::{Document, SECOND, Table, int, returning_true};
use crate::history::Micros;
use crate::mutant::Mutant;

const SWEEP_AGE: Micros = 660 * SECOND;

impl Table {
    pub(super) fn may_sweep_expired(&self, row: &Document, now: Micros) -> bool {
        (row.expires_at < now || self.has(Mutant::SweepRemovesFresh))
            && (row.fetched_at < now - SWEEP_AGE || self.has(Mutant::SweepTooSoon))
    }

    pub(super) fn may_sweep_purged(&self, row: &Document, purged_at: Micros, now: Micros) -> bool {
        (row.after_purge < purged_at
            || row.after_purge == purged_at && self.has(Mutant::SweepPurgedRemovesFresh))
            && (row.fetched_at < now - SWEEP_AGE || self.has(Mutant::SweepPurgedTooSoon))
    }

    pub(super) fn choose(
        &self,
        limit: &Value,
        condition: impl Fn(&Self, &Document) -> bool,
        order: impl Fn(&Document) -> Micros,
    ) -> Vec<(String, u64)> {
        let more = i64::from(self.has(Mutant::SweepOneMore));
        let limit = usize::try_from(int(limit).unwrap_or(i64::MAX) + more).unwrap_or(0);
        let mut rows: Vec<_> = self.documents.iter().filter(|(_, row)| condition(self, row)).collect();
        rows.sort_by_key(|(_, row)| order(row));
        rows.into_iter().take(limit).map(|(url, row)| (url.clone(), row.id)).collect()
    }

    pub(super) fn remove(
        &mut self,
        chosen: Vec<(String, u64)>,
        condition: impl Fn(&Self, &Document) -> bool,
    ) -> Vec<Row> {
        let mut removed = 0;
        for (url, id) in chosen {
            if self.documents.get(&url).is_some_and(|row| row.id == id && condition(self, row)) {
                self.documents.remove(&url);
                removed += 1;
            }
        }
        returning_true(removed)
    }
}
