//! What the writes on one key can have done to each other.

use super::facts::Facts;
use super::key::Key;
use super::limits::FUTURE_TOLERANCE;
use super::put::Put;
use super::violation::{Judgement, violation};
use crate::history::{Between, Call, Position, Ticket};

/// From when a document can no longer be found, and why.
pub(super) struct Gone {
    pub(super) from: Position,
    pub(super) by: usize,
    pub(super) rule: u8,
    pub(super) why: &'static str,
}

impl Facts<'_> {
    /// When the document of a put was certainly replaced, deleted or purged, and by what.
    pub(super) fn gone(&self, put: &Put) -> Option<Gone> {
        let key = &self.keys[&self.documents[&put.document].0];
        let by_put = key.known_after(put).filter(|(_, other)| other.document != put.document).find_map(
            |(from, other)| {
                let why = if put.settled < other.began {
                    // Whatever the clocks say: the later put said that it was stored.
                    "a put that began after this one was over has taken its place"
                } else if self.surely_later(
                    other.fetched,
                    put.fetched,
                    put.settled.max(from.min(other.settled)),
                ) {
                    "a document with a later ticket was stored"
                } else {
                    return None;
                };
                Some(Gone { from, by: other.call, rule: 5, why })
            },
        );
        let by_deletes = key.deletes.iter().filter_map(|delete| {
            let from = delete.known?;
            let why = if put.settled < delete.began {
                "it was deleted after it was stored"
            } else if self.surely_later(delete.moment(), put.fetched, put.settled.max(from)) {
                "it was fetched before a delete"
            } else {
                return None;
            };
            Some(Gone { from, by: delete.call, rule: 11, why })
        });
        let later = self.purges.partition_point(|purge| purge.began <= put.before_purges_from);
        let by_purges = self.purges[later..].iter().filter_map(|purge| {
            let why = "it was fetched before a purge";
            Some(Gone { from: purge.known?, by: purge.call, rule: 11, why })
        });
        by_put.into_iter().chain(by_deletes).chain(by_purges).min_by_key(|gone| gone.from)
    }

    /// 5, 11: a put that says it was stored is older than nothing that was certain before it began.
    pub(super) fn not_superseded(&self, key: &Key, place: usize, began: Position) -> Judgement {
        let put = &key.puts[place];
        let before = |known: Option<Position>| known.is_some_and(|known| known < began);
        if key.latest_fetch_known_before(began) > put.fetched.at.latest {
            let newer = key.puts.iter().find(|other| {
                before(other.known) && self.surely_later(other.fetched, put.fetched, put.settled)
            });
            if let Some(newer) = newer {
                let why = "a document with a later ticket was stored before this put began";
                return violation(5, &[put.call, newer.call], why.into());
            }
        }
        let delete = key.deletes.iter().take_while(|delete| delete.began < began).find(|delete| {
            before(delete.known) && self.surely_later(delete.moment(), put.fetched, put.settled)
        });
        let purge =
            self.purges.iter().find(|purge| before(purge.known) && put.before_purges_from < purge.began);
        match delete.or(purge) {
            None => Ok(()),
            Some(removal) => {
                let why = "the ticket is older than a delete or purge that was over before this put began";
                violation(11, &[put.call, removal.call], why.into())
            }
        }
    }

    /// Whether anything can have made the put `index` lose. The times alone decide, because a time that is
    /// not later never wins; a row from the future does not win either, because it may be replaced.
    pub(super) fn may_supersede(&self, index: usize, key: usize, ticket: Option<Ticket>) -> bool {
        let call = &self.history.calls[index];
        let (fetched, read) = match ticket {
            Some(Ticket::Of { at, read_began, .. }) => (at, Some(read_began)),
            Some(Ticket::Garbage) | None => (call.now.earliest, None),
        };
        let wins = |at: Between| {
            at.latest > fetched && at.earliest <= call.now.latest.saturating_add(FUTURE_TOLERANCE)
        };
        let on_key = self.keys.get(&key).is_some_and(|key| {
            key.puts
                .iter()
                .rev()
                .any(|put| put.call != index && put.began < call.ended && wins(put.fetched.at))
                || key.deletes.iter().any(|delete| delete.began < call.ended && wins(delete.now))
        });
        on_key
            || read.is_some_and(|read| {
                self.purges.iter().any(|purge| purge.began < call.ended && read < purge.settled)
            })
    }

    /// The put whose document a read must find, if there is one.
    pub(super) fn surely_there<'k>(&self, key: &'k Key, index: usize, read: Between) -> Option<&'k Put> {
        let reader = &self.history.calls[index];
        let removals = key.deletes.iter().chain(&self.purges);
        let last_removal = removals
            .filter(|removal| removal.began < reader.ended && removal.call != index)
            .map(|removal| removal.settled)
            .max();
        let begun = key.puts.partition_point(|put| put.began < reader.began);
        for put in key.puts[..begun].iter().rev() {
            // If a removal may have come after this put, it may have come after every put that began before
            // it.
            if last_removal.is_some_and(|settled| put.began <= settled) {
                return None;
            }
            let known = put.known.is_some_and(|known| known < reader.began);
            if known
                && !self.may_be_gone(put, reader, read)
                && !key.puts.iter().rev().any(|other| self.may_hide(other, put, reader, read))
            {
                return Some(put);
            }
        }
        None
    }

    /// Whether a document may have expired, or have expired and been swept before the clock was set back.
    fn may_be_gone(&self, put: &Put, reader: &Call, read: Between) -> bool {
        put.expiry.earliest <= self.latest_time(put.began, reader.ended, read.latest)
    }

    /// Whether `other` may have replaced `put` with a document that a reader does not see: expired, or
    /// fetched before a purge. The latter needs a put that was in flight during the purge, with the same time
    /// as a ticket from after it.
    fn may_hide(&self, other: &Put, put: &Put, reader: &Call, read: Between) -> bool {
        let displaces = other.document != put.document
            && other.began < reader.ended
            && put.began <= other.settled
            && !self.surely_later(put.fetched, other.fetched, other.settled.max(put.settled));
        displaces
            && (self.may_be_gone(other, reader, read)
                || self
                    .purges
                    .iter()
                    .any(|purge| purge.began < reader.ended && other.after_purges_until <= purge.settled))
    }
}
