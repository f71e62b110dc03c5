//! What follows from a put's own arguments and its time.

use super::limits::{FUTURE_TOLERANCE, LATEST_SECOND, LIFETIME, SECOND, TICKET};
use crate::history::{Answer, Between, Call, Expiry, Micros, Position, Ticket};

/// When a document was fetched or deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Between,
    /// The position from which the clock's steps matter: the time was read no earlier.
    pub(super) since: Position,
}

/// A put that may have been stored.
#[derive(Clone, Debug)]
pub(super) struct Put {
    pub(super) call: usize,
    pub(super) document: u64,
    pub(super) began: Position,
    pub(super) settled: Position,
    /// From when it is certain that it was stored.
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
        let impossible = bounds.garbage || bounds.surely_old || bounds.surely_ahead || bounds.outside;
        // A put that claims to be stored is kept: the checker flags it, and must not flag the hits too.
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

/// What is certain and what is possible of a put's ticket and expiry, given its time.
pub(super) struct Bounds {
    pub(super) fetched: Between,
    pub(super) expiry: Between,
    pub(super) garbage: bool,
    pub(super) surely_old: bool,
    pub(super) maybe_old: bool,
    pub(super) surely_ahead: bool,
    pub(super) maybe_ahead: bool,
    /// Over a minute ahead: the caller's mistake, and not a clock that is a little behind.
    pub(super) surely_far_ahead: bool,
    pub(super) maybe_far_ahead: bool,
    /// The expiry's year is none of 1970 to 9999.
    pub(super) outside: bool,
}

impl Bounds {
    pub(super) fn of(call: &Call, expiry: Expiry, ticket: Option<Ticket>) -> Self {
        let now = call.now;
        let (ticket_at, fetched) = match ticket {
            Some(Ticket::Of { at, latest, .. }) => (Some(at), Between { earliest: at.min(latest), latest }),
            Some(Ticket::Garbage) | None => (None, now),
        };
        let expires = match (expiry, ticket_at) {
            (Expiry::At(at), _) => Between::exactly(at.saturating_mul(SECOND)),
            (Expiry::After(seconds), ticket_at) => {
                ticket_at.map_or(now, Between::exactly).plus_seconds(seconds)
            }
        };
        // 6: a later one is stored as ten years ahead.
        let bounded = |expires: Micros, now: Micros| expires.min(now.saturating_add(LIFETIME));
        let age = |now: Micros| ticket_at.map_or(0, |at| now.saturating_sub(at));
        Self {
            fetched,
            expiry: Between {
                earliest: bounded(expires.earliest, now.earliest),
                latest: bounded(expires.latest, now.latest),
            },
            garbage: ticket == Some(Ticket::Garbage),
            surely_old: age(now.earliest) >= TICKET,
            maybe_old: age(now.latest) >= TICKET,
            surely_ahead: age(now.latest) < 0,
            maybe_ahead: age(now.earliest) < 0,
            surely_far_ahead: age(now.latest) < -FUTURE_TOLERANCE,
            maybe_far_ahead: age(now.earliest) < -FUTURE_TOLERANCE,
            outside: matches!(expiry, Expiry::At(at) if !(0..=LATEST_SECOND).contains(&at)),
        }
    }
}
