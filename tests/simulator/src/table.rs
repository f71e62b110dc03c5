//! A model of the two tables, and of what each statement does to them at READ COMMITTED.
//!
//! A statement has two moments. When it *begins*, `now()` and its snapshot are fixed: what it selects, it selects
//! then. When it is *applied*, it acts on the newest version of each row, which others may have written since, and
//! the conditions of `on conflict … where` and of a delete's outer `where` are decided on that one. Between the two
//! it waits for a lock. Reads have one moment.
//!
//! The model is written from the SQL in `cimd_cache_guest::statements` and from how Postgres runs it; each of its
//! rules can be [broken](Mutant).

use std::collections::BTreeMap;

use cimd_cache_guest::sql::{Row, Value};
use cimd_cache_guest::statements::Statement;

use crate::history::Micros;
use crate::mutant::Mutant;

mod reads;

const SECOND: Micros = 1_000_000;
const TICKET: Micros = 600 * SECOND;
const FUTURE_TOLERANCE: Micros = 60 * SECOND;
const SWEEP_AGE: Micros = 660 * SECOND;
const LIFETIME: Micros = 315_576_000 * SECOND;

/// The two tables.
#[derive(Debug)]
pub struct Table {
    mutant: Option<Mutant>,
    clock_tolerance: Micros,
    purged_at: Micros,
    documents: BTreeMap<String, Document>,
    inserted: u64,
}

/// A row of `client_id_metadata`.
#[derive(Clone, Debug)]
struct Document {
    /// Tells a row from one that was inserted for the same URL after it was removed: a statement that chose the one
    /// does not see the other.
    id: u64,
    metadata: Option<String>,
    expires_at: Micros,
    fetched_at: Micros,
    after_purge: Micros,
}

/// What came of beginning a statement.
#[derive(Debug)]
pub enum Begun {
    /// It is over.
    Done(Vec<Row>),
    /// It waits to be applied.
    Waiting(Waiting),
}

/// A statement that has begun and waits for its lock.
#[derive(Debug)]
pub struct Waiting {
    /// The statement's `now()`.
    pub now: Micros,
    write: Write,
}

#[derive(Debug)]
enum Write {
    Put { url: String, excluded: Document },
    Delete { url: String, after_purge: Micros },
    Purge,
    SweepExpired { chosen: Vec<(String, u64)> },
    SweepPurged { chosen: Vec<(String, u64)>, purged_at: Micros },
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

    /// Begins a statement.
    pub fn begin(&mut self, statement: &Statement, parameters: &[Value], now: Micros) -> Begun {
        let write = match statement.name {
            "get" => return Begun::Done(self.get(&text(&parameters[0]), now)),
            "get-many" => {
                let (urls, count) = (text(&parameters[0]), int(&parameters[1]));
                return Begun::Done(self.get_many(&urls, count, now));
            }
            "clock" => return Begun::Done(vec![vec![Value::Int64(now), Value::Int64(self.purged_at)]]),
            "put" => match self.select_put(parameters, now) {
                Some(excluded) => Write::Put { url: text(&parameters[0]), excluded },
                None => return Begun::Done(Vec::new()),
            },
            "delete" => Write::Delete { url: text(&parameters[0]), after_purge: self.purged_at },
            "purge" => Write::Purge,
            "sweep-expired" => {
                let condition = |table: &Self, row: &Document| table.may_sweep_expired(row, now);
                Write::SweepExpired { chosen: self.choose(&parameters[0], condition, |row| row.expires_at) }
            }
            "sweep-purged" => {
                let purged_at = self.purged_at;
                let condition = |table: &Self, row: &Document| table.may_sweep_purged(row, purged_at, now);
                let chosen = self.choose(&parameters[0], condition, |row| row.after_purge);
                Write::SweepPurged { chosen, purged_at }
            }
            "sweepable" => {
                let rows = self.documents.values();
                let left = rows.into_iter().any(|row| {
                    self.may_sweep_expired(row, now) || self.may_sweep_purged(row, self.purged_at, now)
                });
                return Begun::Done(vec![vec![Value::Int64(self.purged_at), Value::Boolean(left)]]);
            }
            name => unreachable!("the model has no statement {name}"),
        };
        Begun::Waiting(Waiting { now, write })
    }

    /// Applies a statement that has begun, and commits.
    pub fn apply(&mut self, waiting: Waiting) -> Vec<Row> {
        let now = waiting.now;
        match waiting.write {
            Write::Put { url, excluded } => self.put(url, excluded, now),
            Write::Delete { url, after_purge } => self.delete(url, after_purge, now),
            Write::Purge => {
                self.purged_at =
                    if self.has(Mutant::PurgesShareTimes) { now } else { now.max(self.purged_at + 1) };
                returning_true(1)
            }
            Write::SweepExpired { chosen } => {
                let unconditional = self.has(Mutant::SweepRemovesRefreshed);
                self.remove(chosen, |table, row| unconditional || table.may_sweep_expired(row, now))
            }
            Write::SweepPurged { chosen, purged_at } => {
                let unconditional = self.has(Mutant::SweepPurgedRemovesRefreshed);
                self.remove(chosen, |table, row| unconditional || table.may_sweep_purged(row, purged_at, now))
            }
        }
    }

    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The row that a put would insert, unless one of the conditions of its select fails.
    fn select_put(&self, parameters: &[Value], now: Micros) -> Option<Document> {
        let [_, metadata, at, after, read_at, purged_at] = parameters else {
            unreachable!("of six parameters")
        };
        let fetched_at = int(read_at).unwrap_or(now);
        let counted_from = if self.has(Mutant::ExpiryFromNow) { now } else { fetched_at };
        let expires_at = match (int(at), int(after)) {
            (Some(at), _) => at * SECOND,
            (None, Some(after)) => counted_from + after * SECOND,
            (None, None) => unreachable!("a put has an expiry"),
        };
        let purge =
            int(purged_at).is_none_or(|seen| seen == self.purged_at) || self.has(Mutant::PutIgnoresPurge);
        let past = fetched_at <= now || self.has(Mutant::TicketFromTheFuture);
        let good = fetched_at > now - TICKET || self.has(Mutant::TicketNeverOld);
        let longest = if self.has(Mutant::LifetimeUnbounded) { Micros::MAX } else { now + LIFETIME };
        (purge && past && good).then(|| Document {
            id: 0,
            metadata: Some(text(metadata)),
            expires_at: expires_at.min(longest),
            fetched_at,
            after_purge: self.purged_at,
        })
    }

    fn put(&mut self, url: String, excluded: Document, now: Micros) -> Vec<Row> {
        let mutant = self.mutant;
        let has = |other| mutant == Some(other);
        let Some(row) = self.documents.get_mut(&url) else {
            self.insert(url, excluded);
            return returning_true(1);
        };
        let newest = if has(Mutant::PutLosesTies) {
            excluded.fetched_at > row.fetched_at
        } else if has(Mutant::PutComparesExpiries) {
            excluded.expires_at >= row.expires_at
        } else {
            excluded.fetched_at >= row.fetched_at
        };
        let ahead = if has(Mutant::FutureRowAtOnce) { 0 } else { FUTURE_TOLERANCE };
        let tombstone = row.metadata.is_none() && !has(Mutant::FutureRowIfFetchedAhead);
        let touched = if tombstone { row.expires_at } else { row.fetched_at };
        let from_the_future = touched - now > ahead && !has(Mutant::FutureRowForEver);
        if !(newest || from_the_future || has(Mutant::PutUnguarded)) {
            return Vec::new();
        }
        if !has(Mutant::PutKeepsDocument) {
            row.metadata = excluded.metadata;
        }
        if !has(Mutant::PutKeepsExpiry) {
            row.expires_at = excluded.expires_at;
        }
        if !has(Mutant::PutKeepsFetchTime) {
            row.fetched_at = excluded.fetched_at;
        }
        if !has(Mutant::PutKeepsPurge) {
            row.after_purge = excluded.after_purge;
        }
        returning_true(1)
    }

    fn delete(&mut self, url: String, after_purge: Micros, now: Micros) -> Vec<Row> {
        let mutant = self.mutant;
        let has = |other| mutant == Some(other);
        let deleted_at = if has(Mutant::TombstoneWithoutTime) { 0 } else { now };
        let Some(row) = self.documents.get_mut(&url) else {
            let tombstone =
                Document { id: 0, metadata: None, expires_at: now, fetched_at: deleted_at, after_purge };
            self.insert(url, tombstone);
            return vec![vec![Value::Boolean(false)]];
        };
        let had_document = row.metadata.is_some()
            && (row.expires_at > now || has(Mutant::DeleteCountsExpired))
            && (row.after_purge >= after_purge || has(Mutant::DeleteCountsPurged));
        let tombstone = row.metadata.is_none() && !has(Mutant::TombstoneIfFetchedAhead);
        let touched = if tombstone { row.expires_at } else { row.fetched_at };
        let from_the_future =
            touched - deleted_at > FUTURE_TOLERANCE && !has(Mutant::TombstoneKeepsFutureTime);
        if !has(Mutant::DeleteKeepsDocument) {
            row.metadata = None;
        }
        row.expires_at = now;
        row.fetched_at = if from_the_future || has(Mutant::TombstoneForgetsLaterFetch) {
            deleted_at
        } else {
            row.fetched_at.max(deleted_at)
        };
        row.after_purge = after_purge;
        vec![vec![Value::Boolean(had_document)]]
    }

    fn may_sweep_expired(&self, row: &Document, now: Micros) -> bool {
        (row.expires_at < now || self.has(Mutant::SweepRemovesFresh))
            && (row.fetched_at < now - SWEEP_AGE || self.has(Mutant::SweepTooSoon))
    }

    fn may_sweep_purged(&self, row: &Document, purged_at: Micros, now: Micros) -> bool {
        (row.after_purge < purged_at
            || row.after_purge == purged_at && self.has(Mutant::SweepPurgedRemovesFresh))
            && (row.fetched_at < now - SWEEP_AGE || self.has(Mutant::SweepPurgedTooSoon))
    }

    fn choose(
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

    fn remove(
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

    fn insert(&mut self, url: String, row: Document) {
        self.inserted += 1;
        self.documents.insert(url, Document { id: self.inserted, ..row });
    }
}

fn returning_true(rows: usize) -> Vec<Row> {
    vec![vec![Value::Boolean(true)]; rows]
}

fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int64(number) => Some(*number),
        _ => None,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => unreachable!("a text, not {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use cimd_cache_guest::statements::{DELETE, GET, PUT};

    use super::*;

    const URL: &str = "https://client.example/";
    const NOW: Micros = 1_795_465_560 * SECOND;

    fn begin(table: &mut Table, statement: &Statement, more: &[Value], now: Micros) -> Waiting {
        let parameters = [&[Value::Text(URL.into())], more].concat();
        match table.begin(statement, &parameters, now) {
            Begun::Waiting(waiting) => waiting,
            Begun::Done(rows) => panic!("{} gave {rows:?}", statement.name),
        }
    }

    /// A put of a document fetched at its beginning.
    fn begin_put(table: &mut Table, now: Micros) -> Waiting {
        let lifetime = Value::Int64(3_600);
        let parameters = [Value::Text("{}".into()), Value::Null, lifetime, Value::Null, Value::Null];
        begin(table, &PUT, &parameters, now)
    }

    /// The clock is set back, and then passes the moment at which a row is a minute ahead. To what began before
    /// that moment the row is from the future, and to what began after it is not; the latter is done first.
    #[test]
    fn what_began_before_a_row_was_only_a_minute_ahead_does_not_undo_a_delete_from_after() {
        let (before, after) = (NOW - 60 * SECOND - 1, NOW - 60 * SECOND);
        for (mutant, late_delete, undone) in [
            (None, false, false),
            (None, true, false),
            (Some(Mutant::FutureRowIfFetchedAhead), false, true),
            (Some(Mutant::TombstoneIfFetchedAhead), true, true),
        ] {
            let mut table = Table::new(NOW, 0, mutant);
            let ahead = begin_put(&mut table, NOW);
            table.apply(ahead);
            let put = begin_put(&mut table, before);
            let late = late_delete.then(|| begin(&mut table, &DELETE, &[], before));
            let delete = begin(&mut table, &DELETE, &[], after);
            table.apply(delete);
            if let Some(late) = late {
                table.apply(late);
            }
            let stored = !table.apply(put).is_empty();
            assert_eq!(stored, undone, "{mutant:?}, with a second delete: {late_delete}");
            let Begun::Done(rows) = table.begin(&GET, &[Value::Text(URL.into())], after) else { panic!() };
            assert_eq!(rows[0][2] != Value::Null, undone, "{mutant:?}");
        }
    }
}
