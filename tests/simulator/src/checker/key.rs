//! The writes on one key.

use super::put::{Moment, Put};
use crate::history::{Between, Micros, Position};

/// A delete or a purge that may have taken effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    pub(super) call: usize,
    pub(super) began: Position,
    pub(super) settled: Position,
    /// From when it is certain that it took effect; none if it never is.
    pub(super) known: Option<Position>,
    pub(super) now: Between,
}

impl Removal {
    pub(super) fn moment(&self) -> Moment {
        Moment { at: self.now, since: self.began }
    }
}

/// The writes on one key that may have taken effect.
#[derive(Debug, Default)]
pub(super) struct Key {
    /// In the order in which they began.
    pub(super) puts: Vec<Put>,
    /// In the order in which they began.
    pub(super) deletes: Vec<Removal>,
    /// The known puts, in the order in which they became known.
    known: Vec<Known>,
}

/// A put that became known to be stored.
#[derive(Debug)]
struct Known {
    from: Position,
    /// Its place among the puts.
    place: usize,
    /// The latest fetch of all that were known by then. It shows at once that there is no later one.
    latest_fetch: Micros,
}

impl Key {
    /// Call this once it is known which puts were stored.
    pub(super) fn index(&mut self) {
        let known = self.puts.iter().enumerate().filter_map(|(place, put)| Some((put.known?, place)));
        let mut known: Vec<_> = known.collect();
        known.sort_unstable();
        let mut latest_fetch = Micros::MIN;
        let known = known.into_iter().map(|(from, place)| {
            latest_fetch = latest_fetch.max(self.puts[place].fetched.at.earliest);
            Known { from, place, latest_fetch }
        });
        self.known = known.collect();
    }

    pub(super) fn latest_fetch_known_before(&self, position: Position) -> Micros {
        let before = self.known.partition_point(|known| known.from < position);
        before.checked_sub(1).map_or(Micros::MIN, |last| self.known[last].latest_fetch)
    }

    /// The known puts, from the first one that can have been fetched or have begun after this put.
    pub(super) fn known_after(&self, put: &Put) -> impl Iterator<Item = (Position, &Put)> {
        let later = self.known.partition_point(|known| {
            known.latest_fetch <= put.fetched.at.latest && known.from <= put.settled
        });
        self.known[later..].iter().map(|known| (known.from, &self.puts[known.place]))
    }
}
