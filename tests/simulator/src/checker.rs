//! The contract as a judge of histories.
//!
//! The checker is written from the contract (`ARCHITECTURE.md`, by its numbers) and knows neither the guest
//! nor the SQL. It flags an answer only if no possible execution explains it: it never flags a legal history,
//! however little is known of it. It assumes:
//!
//! * A call takes effect at most once, at some position from `began` to `settled`, and not at all after a
//!   refusal.
//! * A put is *known* to be stored from the end of its own call if that said so, and otherwise from the end
//!   of the first get that hit it.
//! * Real time orders purges, and no clock does: a ticket is from before a purge if its get had ended when
//!   the purge began.
//! * The database's clock orders fetches and deletes. If there are several clocks, a ticket is up to twice
//!   their tolerance earlier than the read by the clock of writes, and the fetch is only known to have begun
//!   between the two.
//! * The contract promises which of two is later while the clock runs forward. If it was set back between the
//!   first of the two and the end of what they may still do, the later one must lie more than ten minutes
//!   past the latest time from before.

use crate::history::{Answer, Between, CallFailure, Expiry, History, Micros, Refusal, Request, Ticket};

mod facts;
mod key;
mod limits;
mod put;
mod violation;
mod writes;

use facts::Facts;
use limits::{SECOND, STATEMENT, SWEEP_ROWS};
use put::Put;
use violation::{Judgement, demand, violation};

pub use violation::Violation;

/// Judges every answer of a history. `permits` says whether the circumstances allowed a call, given by its
/// index, to fail in that way.
///
/// # Errors
///
/// Everything that the contract does not allow, in the order of the calls.
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

impl Facts<'_> {
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
                // It looked at some moment of its run. The run may end a minute after its now, and in that
                // minute a document can expire and be swept.
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
        let possible = now.earliest <= self.read_at(at).latest && at <= now.latest;
        demand(possible, 3, &[index], || {
            format!("the ticket says {at}, which is not when the read took place")
        })
    }

    /// When a read took place whose ticket says `at`, by the clock of writes.
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
        // By the clock of writes, and within the call.
        let (now, read) = (self.history.calls[index].now, self.read_at(read_at));
        let read = Between { earliest: read.earliest.max(now.earliest), latest: read.latest.min(now.latest) };
        self.why_not_there(put, index, read)?;
        // 3: the expiry in whole seconds and the freshness in whole milliseconds, both rounded down, and
        // neither beyond what any clock allows.
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

    /// Why the call `reader`, at `read` by the database's clock, cannot find a put's document.
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

    /// 2, 12: a get finds a document that is known to be stored, is fresh, and cannot have been displaced.
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
}

#[cfg(test)]
mod tests;
