//! What a history says, before anything is judged.

use std::collections::HashMap;

use super::key::{Key, Removal};
use super::limits::TICKET;
use super::put::{Moment, Put};
use crate::history::{Answer, CallFailure, History, Micros, Position, Request};

/// What a history says, arranged as the rules need it.
pub(super) struct Facts<'a> {
    pub(super) history: &'a History,
    pub(super) keys: HashMap<usize, Key>,
    /// The key of each document, and the place of its put there.
    pub(super) documents: HashMap<u64, (usize, usize)>,
    /// In the order in which they began.
    pub(super) purges: Vec<Removal>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut facts = Self { history, keys: HashMap::new(), documents: HashMap::new(), purges: Vec::new() };
        for (index, call) in history.calls.iter().enumerate() {
            if let Answer::Refused(_) | Answer::Failed(CallFailure::NotConfigured) = call.answer {
                continue;
            }
            let removal = |done| Removal {
                call: index,
                began: call.began,
                settled: call.settled,
                known: if done { Some(call.ended) } else { None },
                now: call.now,
            };
            match call.request {
                Request::Put { key, document, expiry, ticket } => {
                    if let Some(put) = Put::of(index, call, document, expiry, ticket) {
                        facts.keys.entry(key).or_default().puts.push(put);
                    }
                }
                Request::Delete { key } => {
                    let delete = removal(matches!(call.answer, Answer::Deleted(_)));
                    facts.keys.entry(key).or_default().deletes.push(delete);
                }
                Request::Purge => facts.purges.push(removal(call.answer == Answer::Purged)),
                Request::Get { .. } | Request::Sweep { .. } => {}
            }
        }
        facts.purges.sort_by_key(|purge| purge.began);
        for (&number, key) in &mut facts.keys {
            key.puts.sort_by_key(|put| put.began);
            key.deletes.sort_by_key(|delete| delete.began);
            for (place, put) in key.puts.iter().enumerate() {
                let other = facts.documents.insert(put.document, (number, place));
                assert!(other.is_none(), "two puts have the document {}", put.document);
            }
        }
        facts.learn_from_hits();
        facts
    }

    /// A put is stored if somebody saw its document.
    fn learn_from_hits(&mut self) {
        for call in &self.history.calls {
            if let (Request::Get { key }, Answer::Hit { document, .. }) = (call.request, call.answer)
                && let Some(&(of_key, place)) = self.documents.get(&document)
                && of_key == key
                && let Some(found) = self.keys.get_mut(&key)
            {
                let put = &mut found.puts[place];
                put.known = Some(put.known.map_or(call.ended, |known| known.min(call.ended)));
            }
        }
        for key in self.keys.values_mut() {
            key.index();
        }
    }

    /// Whether `one` is certainly later than `other`, if both have done what they can do by `until`.
    pub(super) fn surely_later(&self, one: Moment, other: Moment, until: Position) -> bool {
        if one.at.earliest <= other.at.latest {
            return false;
        }
        let from = one.since.min(other.since);
        self.history
            .steps_back
            .iter()
            .filter(|step| (from..=until).contains(&step.at))
            .all(|step| one.at.earliest > step.peak.saturating_add(TICKET))
    }

    /// The latest time that the clock showed from `from` to `until`, if it showed `now` in between.
    pub(super) fn latest_time(&self, from: Position, until: Position, now: Micros) -> Micros {
        let steps = self.history.steps_back.iter().filter(|step| (from..=until).contains(&step.at));
        steps.map(|step| step.peak).fold(now, Micros::max)
    }
}
