//! The contract as a judge of histories.
//!
//! It is written from the contract (`ARCHITECTURE.md`, by its numbers) and knows neither the guest nor the SQL. It
//! blames an answer only if no course of events that the history leaves possible could have led to it: a legal
//! history is never blamed, however little is known of it. What it needs to believe is:
//!
//! * A call takes effect once at most, at some position from `began` to `settled`, and not at all after a refusal.
//! * A put is *known* to be stored from the end of its own call if that said so, and otherwise from the end of the
//!   first get that hit it.
//! * Purges go by the order of real time and not by any clock: a ticket is from before a purge if its get had ended
//!   when the purge began.
//! * Fetches and deletes go by the database's clock. Where there are several, a ticket is up to twice their tolerance
//!   earlier than the read by the clock of writes, and of a fetch no more is known than that it began between the two.
//! * Which of two is later is promised while the clock runs forward. If it was set back between the first of the two and
//!   the end of what they may still do, the later one must lie more than ten minutes past the latest time from before.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use crate::history::{
    Answer, Between, CallFailure, Expiry, History, Micros, Position, Refusal, Request, Ticket,
};

mod key;
mod put;

use key::Key;
use put::Put;

const SECOND: Micros = 1_000_000;
/// 5: for how long a ticket is good.
const TICKET: Micros = 600 * SECOND;
/// 5: how far ahead of now a fetch may lie before its row is one from the future.
const FUTURE_TOLERANCE: Micros = 60 * SECOND;
/// 5: no statement runs for longer.
const STATEMENT: Micros = FUTURE_TOLERANCE;
/// 6: how far ahead an expiry may lie.
const LIFETIME: Micros = 87_660 * 3_600 * SECOND;
/// 6: the last second of the year 9999.
const LATEST_SECOND: i64 = 253_402_300_799;
/// 12: the most that one sweep removes, whatever it was asked.
const SWEEP_ROWS: u32 = 1_000;

/// An answer that the contract does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The number in the contract.
    pub rule: u8,
    /// The calls that contradict each other, by their index in the history; the first gave the answer.
    pub calls: Vec<usize>,
    /// What is wrong, in words.
    pub explanation: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "contract {}: {} (calls {:?})", self.rule, self.explanation, self.calls)
    }
}

impl Violation {
    /// 1: the answers of a get-many are of one statement. What is wrong with them beside each other, if anything is.
    pub(crate) fn of_get_many(calls: Range<usize>, discord: Option<&str>) -> Option<Self> {
        discord.map(|why| Self { rule: 1, calls: calls.collect(), explanation: why.into() })
    }

    /// 12: after eleven years, sweeps until `last` have removed all `rows`, each once, left none, and said so.
    pub(crate) fn of_sweeps(last: usize, rows: u64, removed: u64, left: u64, more: bool) -> Option<Self> {
        let explanation = || {
            format!(
                "of {rows} rows the last sweeps removed {removed} and left {left}, and said {more} to more"
            )
        };
        demand(removed == rows && left == 0 && !more, 12, &[last], explanation).err()
    }
}

/// Judges every answer of a history. `permits` says for a call, by its index, whether the circumstances allowed it to
/// fail in that way.
///
/// # Errors
///
/// What the contract does not allow, in the order of the calls.
///
/// # Panics
///
/// If two puts have the same document.
pub fn check(history: &History, permits: impl Fn(usize, CallFailure) -> bool) -> Result<(), Vec<Violation>> {
    let facts = Facts::of(history);
    let violations: Vec<_> =
        (0..history.calls.len()).filter_map(|call| facts.judge(call, &permits).err()).collect();
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

/// What a history says, in the order in which the rules need it.
struct Facts<'a> {
    history: &'a History,
    keys: HashMap<usize, Key>,
    /// The key of each document, and its put's place there.
    documents: HashMap<u64, (usize, usize)>,
    /// In the order in which they began.
    purges: Vec<Removal>,
}

/// A delete or a purge that may have taken effect.
#[derive(Clone, Copy, Debug)]
struct Removal {
    call: usize,
    began: Position,
    settled: Position,
    /// From when on it is certain that it took effect; none if it never is.
    known: Option<Position>,
    now: Between,
}

/// When a document was fetched or deleted.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Between,
    /// The position from which on the clock's steps matter: the time is from no earlier.
    since: Position,
}

type Judgement = Result<(), Violation>;

impl<'a> Facts<'a> {
    fn of(history: &'a History) -> Self {
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

    /// A put whose document was seen has been stored.
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

    fn judge(&self, index: usize, permits: &impl Fn(usize, CallFailure) -> bool) -> Judgement {
        let call = &self.history.calls[index];
        match (call.request, call.answer) {
            (_, Answer::Lost) => Ok(()),
            (_, Answer::Failed(failure)) => {
                let explanation = || format!("nothing explains that the call failed with {failure:?}");
                demand(permits(index, failure), 14, &[index], explanation)
            }
            (Request::Get { key }, Answer::Hit { document, expires_at, fresh_for, ticket_at }) => {
                self.ticket(index, ticket_at)?;
                self.hit(index, key, document, (expires_at, fresh_for), ticket_at)
            }
            (Request::Get { key }, Answer::Miss { ticket_at }) => {
                self.ticket(index, ticket_at)?;
                self.miss(index, key, self.read_at(ticket_at))
            }
            (Request::Delete { key }, Answer::Deleted(false)) => {
                // What it found is from some moment of its run. In the minute that this may take after its now, a
                // document can expire and be swept.
                let latest = call.now.latest.saturating_add(STATEMENT);
                self.miss(index, key, Between { latest, ..call.now })
            }
            (Request::Delete { key }, Answer::Deleted(true)) => {
                let had = self.keys.get(&key).is_some_and(|key| {
                    key.puts.iter().rev().any(|put| self.why_not_there(put, index, call.now).is_ok())
                });
                demand(had, 11, &[index], || "there was no document that a get would have hit".into())
            }
            (Request::Put { key, document, expiry, ticket }, answer) => {
                self.put(index, key, document, expiry, ticket, answer)
            }
            (Request::Purge, Answer::Purged) => Ok(()),
            (Request::Sweep { limit }, Answer::Swept { removed, .. }) => {
                let most = limit.min(SWEEP_ROWS);
                demand(removed <= most, 12, &[index], || format!("{removed} is more than {most} rows"))
            }
            (request, answer) => {
                violation(14, &[index], format!("{answer:?} is no answer to a valid {request:?}"))
            }
        }
    }

    /// 3: a ticket says when its read took place.
    fn ticket(&self, index: usize, at: Micros) -> Judgement {
        let now = self.history.calls[index].now;
        let right = now.earliest <= self.read_at(at).latest && at <= now.latest;
        demand(right, 3, &[index], || format!("the ticket says {at}, which is not when the read took place"))
    }

    /// Between what times a read took place, by the clock of writes, whose ticket says `at`.
    fn read_at(&self, at: Micros) -> Between {
        Between { earliest: at, latest: at.saturating_add(2 * self.history.clock_tolerance) }
    }

    fn hit(
        &self,
        index: usize,
        key: usize,
        document: u64,
        (expires_at, fresh_for): (i64, u64),
        read_at: Micros,
    ) -> Judgement {
        let put = match self.documents.get(&document) {
            Some(&(of_key, place)) if of_key == key => &self.keys[&key].puts[place],
            _ => return violation(2, &[index], format!("no put can have stored document {document} there")),
        };
        // By the clock of writes, and no later than the call.
        let (now, read) = (self.history.calls[index].now, self.read_at(read_at));
        let read = Between { earliest: read.earliest.max(now.earliest), latest: read.latest.min(now.latest) };
        self.why_not_there(put, index, read)?;
        // 3: the expiry in whole seconds and the freshness in whole milliseconds, both rounded down, and neither longer
        // than any clock allows.
        let seconds = |time: Micros| time.div_euclid(SECOND);
        let millis = |time: Micros| time.max(0).unsigned_abs() / 1_000;
        let Between { earliest, latest } = put.expiry;
        let earliest = earliest.saturating_sub(2 * self.history.clock_tolerance);
        let calls = [index, put.call];
        demand((seconds(earliest)..=seconds(latest)).contains(&expires_at), 3, &calls, || {
            format!("it expires at {earliest} to {latest} and not in second {expires_at}")
        })?;
        let (shortest, longest) =
            (earliest.saturating_sub(read.latest), latest.saturating_sub(read.earliest));
        demand((millis(shortest)..=millis(longest)).contains(&fresh_for), 3, &calls, || {
            format!("it is fresh until {earliest} to {latest} and not for {fresh_for} ms from {read_at}")
        })
    }

    /// Why a put's document cannot be what the call `reader` finds, at `read` by the database's clock.
    fn why_not_there(&self, put: &Put, reader: usize, read: Between) -> Judgement {
        let call = &self.history.calls[reader];
        let document = put.document;
        demand(put.began < call.ended, 2, &[reader, put.call], || {
            format!("document {document} was not put yet")
        })?;
        demand(read.earliest < put.expiry.latest, 2, &[reader, put.call], || {
            format!("document {document} had expired at {}", put.expiry.latest)
        })?;
        match self.gone(put) {
            Some(gone) if gone.from < call.began => {
                violation(gone.rule, &[reader, put.call, gone.by], gone.why.into())
            }
            _ => Ok(()),
        }
    }

    /// 2, 12: a document that is known to be stored, is fresh, and that nothing can have displaced is found.
    fn miss(&self, index: usize, key: usize, read: Between) -> Judgement {
        match self.keys.get(&key).and_then(|key| self.surely_there(key, index, read)) {
            None => Ok(()),
            Some(put) => {
                let why = format!(
                    "document {} was stored, is fresh until {}, and nothing else can be there",
                    put.document, put.expiry.earliest
                );
                violation(2, &[index, put.call], why)
            }
        }
    }

    fn put(
        &self,
        index: usize,
        key: usize,
        document: u64,
        expiry: Expiry,
        ticket: Option<Ticket>,
        answer: Answer,
    ) -> Judgement {
        let call = &self.history.calls[index];
        let bounds = put::Bounds::of(call, expiry, ticket);
        match answer {
            Answer::Stored => {
                demand(!bounds.garbage, 5, &[index], || "what it presented is no ticket".into())?;
                demand(!bounds.surely_old, 5, &[index], || "the ticket is over ten minutes old".into())?;
                demand(!bounds.surely_ahead, 5, &[index], || "the ticket is ahead of the clock".into())?;
                demand(!bounds.outside, 6, &[index], || {
                    "the expiry is of no year that can be stored".into()
                })?;
                let (_, place) = self.documents[&document];
                self.not_superseded(&self.keys[&key], place, call.began)
            }
            Answer::Superseded => {
                demand(!bounds.garbage, 5, &[index], || "what it presented is no ticket".into())?;
                demand(!bounds.surely_far_ahead, 5, &[index], || {
                    "the ticket is over a minute ahead of the clock".into()
                })?;
                let reason = bounds.maybe_old || bounds.maybe_ahead || self.may_supersede(index, key, ticket);
                demand(reason, 5, &[index], || "nothing newer can have been known".into())
            }
            Answer::Refused(Refusal::InvalidTicket) => {
                let wrong = bounds.garbage || bounds.maybe_far_ahead;
                demand(wrong, 5, &[index], || {
                    "the ticket is one of a get and not far ahead of the clock".into()
                })
            }
            Answer::Refused(Refusal::InvalidExpiry) => {
                demand(bounds.outside, 6, &[index], || "the expiry can be stored".into())
            }
            answer => violation(14, &[index], format!("{answer:?} is no answer to a valid put")),
        }
    }

    /// Whether `one` is later than `other`, both of which have done what they can do by `until`.
    fn surely_later(&self, one: Moment, other: Moment, until: Position) -> bool {
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

    /// The latest time that the clock showed from `from` to `until`, at which it may have shown `now`.
    fn latest_time(&self, from: Position, until: Position, now: Micros) -> Micros {
        let steps = self.history.steps_back.iter().filter(|step| (from..=until).contains(&step.at));
        steps.map(|step| step.peak).fold(now, Micros::max)
    }
}

fn demand(kept: bool, rule: u8, calls: &[usize], explanation: impl FnOnce() -> String) -> Judgement {
    if kept { Ok(()) } else { violation(rule, calls, explanation()) }
}

fn violation(rule: u8, calls: &[usize], explanation: String) -> Judgement {
    Err(Violation { rule, calls: calls.to_vec(), explanation })
}

#[cfg(test)]
mod tests;
