//! A model of the two tables, and of what each statement does to them at READ COMMITTED.
//!
//! A statement has two moments. When it *begins*, `now()` and its snapshot are fixed: it selects what it
//! selects then. When it is *applied*, it acts on the newest version of each row, which others may have
//! written since, and decides the conditions of `on conflict … where` and of a delete's outer `where` on that
//! version. Between the two it waits for a lock. Reads have one moment.
//!
//! The model is written from the SQL in `cimd_cache_guest::statements` and from how Postgres runs it. A
//! [`Mutant`] breaks one of its rules.

use cimd_cache_guest::sql::{Row, Value};
use cimd_cache_guest::statements::Statement;

use crate::history::Micros;
use crate::mutant::Mutant;

mod reads;
mod rows;
mod sweeps;
mod writes;

use rows::{Document, int, returning_true, text};

pub use rows::Table;

/// What became of a statement that began.
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
}

#[cfg(test)]
mod tests;
