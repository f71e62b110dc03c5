//! What waits in a queue, in which order, and how much room it takes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::types::Lookup;
use crate::workers::request::{Get, Reply, Request};

/// The most that waiting calls may occupy, in bytes: room for 500 of the largest documents.
const WAITING_BYTES: usize = 8 << 20;

/// The most that the URLs of one batch may have, in bytes: they are sent as one parameter.
const BATCH_BYTES: usize = 48 << 10;

/// What a place occupies besides its text, in bytes, rounded up.
const PLACE_BYTES: usize = 256;

/// With fewer calls than this it is not worth looking for those that nobody waits for any more.
pub(super) const FEW: usize = 64;

/// Looking through all that waits takes a moment in which nobody else has the queue.
const PRUNE_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What a queue may hold, and who serves it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most workers.
    pub(crate) workers: usize,
    /// The most gets that one of them takes at once.
    pub(crate) batch: usize,
    /// The most calls that wait.
    pub(crate) waiting: usize,
}

/// What a worker takes.
pub(crate) enum Work {
    Gets(Vec<Get>),
    One(Request),
}

#[derive(Default)]
pub(super) struct Waiting {
    urgent: VecDeque<Request>,
    places: VecDeque<Place>,
    gets: HashMap<Arc<str>, Get>,
    /// How many callers wait, and how many bytes their calls occupy.
    callers: usize,
    bytes: usize,
    /// At this many callers, calls that nobody waits for are dropped; and when that was last done.
    prune_at: usize,
    pruned: Option<Instant>,
}

enum Place {
    /// Who waits for it stands in `gets`.
    Get(Arc<str>),
    Other(Request),
}

/// What one caller's get occupies.
pub(super) fn bytes_of_get(url: &str) -> usize {
    PLACE_BYTES + url.len()
}

pub(super) fn bytes_of(request: &Request) -> usize {
    PLACE_BYTES + request.bytes
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.urgent.is_empty()
    }

    pub(super) fn callers(&self) -> usize {
        self.callers
    }

    /// Whether there is no room for one more call of this size. Urgent calls have room of their own: a flood
    /// must not keep them out.
    pub(super) fn is_full(&self, urgent: bool, bytes: usize, bounds: &Bounds) -> bool {
        if urgent {
            return self.urgent.len() >= bounds.waiting;
        }
        self.callers >= bounds.waiting || self.bytes + bytes > WAITING_BYTES
    }

    /// How much work comes before a call that is urgent, or is not.
    pub(super) fn ahead(&self, urgent: bool, batch: usize) -> usize {
        let others = self.places.len() - self.gets.len() + self.gets.len() / batch;
        self.urgent.len() + if urgent { 0 } else { others }
    }

    pub(super) fn push_get(&mut self, url: &str, reply: Reply<Result<Lookup, Error>>) {
        self.comes(bytes_of_get(url));
        if let Some(get) = self.gets.get_mut(url) {
            get.join(reply);
            return;
        }
        let url: Arc<str> = url.into();
        self.gets.insert(url.clone(), Get::new(url.clone(), reply));
        self.places.push_back(Place::Get(url));
    }

    pub(super) fn push(&mut self, request: Request) {
        self.comes(bytes_of(&request));
        if request.urgent {
            self.urgent.push_back(request);
        } else {
            self.places.push_back(Place::Other(request));
        }
    }

    /// The next work that somebody waits for.
    pub(super) fn next(&mut self, bounds: &Bounds, now: Instant) -> Option<Work> {
        while !self.is_empty() {
            if let Some(request) = self.urgent.pop_front().or_else(|| self.pop_other()) {
                self.leaves(1, bytes_of(&request));
                if request.is_wanted(now) {
                    return Some(Work::One(request));
                }
                continue;
            }
            let gets = self.pop_gets(bounds.batch, now);
            if !gets.is_empty() {
                return Some(Work::Gets(gets));
            }
        }
        None
    }

    /// The gets that are first, as many as go together.
    fn pop_gets(&mut self, batch: usize, now: Instant) -> Vec<Get> {
        let (mut gets, mut bytes) = (Vec::new(), 0);
        while let Some(Place::Get(url)) = self.places.front()
            && gets.len() < batch
            && (gets.is_empty() || bytes + url.len() <= BATCH_BYTES)
        {
            bytes += url.len();
            let get = self.gets.remove(url);
            self.places.pop_front();
            if let Some(get) = get {
                self.leaves(get.callers(), get.callers() * bytes_of_get(&get.url));
                if get.is_wanted(now) {
                    gets.push(get);
                }
            }
        }
        gets
    }

    /// What is first, if it is not a get.
    fn pop_other(&mut self) -> Option<Request> {
        match self.places.pop_front()? {
            Place::Other(request) => Some(request),
            get @ Place::Get(_) => {
                self.places.push_front(get);
                None
            }
        }
    }

    fn comes(&mut self, bytes: usize) {
        self.callers += 1;
        self.bytes += bytes;
    }

    fn leaves(&mut self, callers: usize, bytes: usize) {
        self.callers -= callers;
        self.bytes -= bytes;
    }

    /// Drops calls that nobody waits for any more, if there are twice as many calls as last time, or if room
    /// is needed; but not for every call that finds no room.
    pub(super) fn prune(&mut self, needs_room: bool, now: Instant) {
        let is_due = self.pruned.is_none_or(|pruned| now.duration_since(pruned) >= PRUNE_AGAIN_AFTER);
        if self.callers < self.prune_at.max(FEW) && !(needs_room && is_due) {
            return;
        }
        self.pruned = Some(now);
        self.urgent.retain(|request| request.is_wanted(now));
        self.gets.retain(|_, get| get.prune(now));
        let gets = &self.gets;
        self.places.retain(|place| match place {
            Place::Get(url) => gets.contains_key(url),
            Place::Other(request) => request.is_wanted(now),
        });
        (self.callers, self.bytes) = (0, 0);
        let requests = self.urgent.iter().map(|request| (1, bytes_of(request)));
        let places = self.places.iter().map(|place| match place {
            Place::Get(url) => {
                let callers = self.gets.get(url).map_or(0, Get::callers);
                (callers, callers * bytes_of_get(url))
            }
            Place::Other(request) => (1, bytes_of(request)),
        });
        for (callers, bytes) in requests.chain(places) {
            self.callers += callers;
            self.bytes += bytes;
        }
        self.prune_at = 2 * self.callers;
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.places.len() + self.urgent.len() + self.gets.len()
    }
}
