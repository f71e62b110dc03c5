//! What follows from a put's own arguments and its time.

use super::{LATEST_SECOND, LIFETIME, Moment, SECOND, TICKET};
use crate::history::{Answer, Between, Call, Expiry, Micros, Position, Ticket};

/// A put that may have been stored.
#[derive(Clone, Debug)]
pub(super) struct Put {
    pub(super) call: usize,
    pub(super) document: u64,
    pub(super) began: Position,
    pub(super) settled: Position,
    /// From when on it is certain that it was stored.
    pub(super) known: Option<Position>,
    pub(super) fetched: Moment,
    pub(super) expiry: Between,
    /// A purge that begins after this is after the fetch.
    pub(super) before_purges_from: Position,
    /// A purge that has settled before this is before the fetch.
    pub(super) after_purges_until: Position,
}

impl Put {
    /// None if it cannot have been stored.
    pub(super) fn of(
        index: usize,
        call: &Call,
        document: u64,
        expiry: Expiry,
        ticket: Option<Ticket>,
    ) -> Option<Self> {
        let stored = call.answer == Answer::Stored;
        let bounds = Bounds::of(call, expiry, ticket);
        let impossible = bounds.garbage || bounds.surely_old || bounds.surely_ahead || bounds.surely_too_far;
        // One that claims to be stored is kept: it is to blame, and what was hit should not be too.
        if (impossible && !stored) || call.answer == Answer::Superseded {
            return None;
        }
        let (read_began, read_ended) = match ticket {
            Some(Ticket::Of { read_began, read_ended, .. }) => (read_began, read_ended),
            Some(Ticket::Garbage) | None => (call.began, call.settled),
        };
        Some(Self {
            call: index,
            document,
            began: call.began,
            settled: call.settled,
            known: stored.then_some(call.ended),
            fetched: Moment { at: bounds.fetched, since: read_began },
            expiry: bounds.expiry,
            before_purges_from: read_ended,
            after_purges_until: read_began,
        })
    }
}

/// What is sure and what may be of a put's ticket and expiry, given its time.
pub(super) struct Bounds {
    pub(super) fetched: Between,
    pub(super) expiry: Between,
    pub(super) garbage: bool,
    pub(super) surely_old: bool,
    pub(super) maybe_old: bool,
    pub(super) surely_ahead: bool,
    pub(super) maybe_ahead: bool,
    pub(super) surely_too_far: bool,
    pub(super) maybe_too_far: bool,
}

impl Bounds {
    pub(super) fn of(call: &Call, expiry: Expiry, ticket: Option<Ticket>) -> Self {
        let now = call.now;
        let ticket_at = match ticket {
            Some(Ticket::Of { at, .. }) => Some(at),
            Some(Ticket::Garbage) | None => None,
        };
        let fetched = ticket_at.map_or(now, Between::exactly);
        let outside = matches!(expiry, Expiry::At(at) if !(0..=LATEST_SECOND).contains(&at));
        let expires = match expiry {
            Expiry::At(at) => Between::exactly(at.saturating_mul(SECOND)),
            Expiry::After(seconds) => fetched.plus_seconds(seconds),
        };
        // Without a ticket a lifetime counts from now, so how far it reaches ahead is sure whatever now is.
        let ahead = match (expiry, ticket_at) {
            (Expiry::After(seconds), None) => Between::exactly(0).plus_seconds(seconds),
            _ => Between {
                earliest: expires.earliest.saturating_sub(now.latest),
                latest: expires.latest.saturating_sub(now.earliest),
            },
        };
        // Of a lifetime that is too long after any good ticket, no more needs to be known.
        let hopeless = matches!(expiry, Expiry::After(seconds)
            if Between::exactly(0).plus_seconds(seconds).earliest > LIFETIME + TICKET);
        let age = |now: Micros| ticket_at.map_or(0, |at| now.saturating_sub(at));
        Self {
            fetched,
            expiry: expires,
            garbage: ticket == Some(Ticket::Garbage),
            surely_old: age(now.earliest) >= TICKET,
            maybe_old: age(now.latest) >= TICKET,
            surely_ahead: age(now.latest) < 0,
            maybe_ahead: age(now.earliest) < 0,
            surely_too_far: outside || ahead.earliest > LIFETIME,
            maybe_too_far: outside || hopeless || ahead.latest > LIFETIME,
        }
    }
}
