//! The put and the delete.

use cimd_cache_guest::sql::{Row, Value};

use super::rows::{Document, SECOND, Table, int, returning_true, text};
use crate::history::Micros;
use crate::mutant::Mutant;

const TICKET: Micros = 600 * SECOND;
const FUTURE_TOLERANCE: Micros = 60 * SECOND;
const LIFETIME: Micros = 315_576_000 * SECOND;

impl Table {
    /// The row that a put would insert, unless one of the conditions of its select fails.
    pub(super) fn select_put(&self, parameters: &[Value], now: Micros) -> Option<Document> {
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

    pub(super) fn put(&mut self, url: String, excluded: Document, now: Micros) -> Vec<Row> {
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

    pub(super) fn delete(&mut self, url: String, after_purge: Micros, now: Micros) -> Vec<Row> {
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
}
