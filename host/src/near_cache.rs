//! The near cache: documents that this process keeps for a short time, in front of the sandbox and the database.
//!
//! It bends the contract in one place: what *another* node puts or deletes may stay unseen for as long as the near
//! cache's time to live. For the rest:
//!
//! * A document is kept until its expiry at most, counted by a clock of this machine from before the query was sent, and
//!   as if that clock were slow.
//! * A put or delete through this process takes effect at once: when it returns, the document is forgotten, and what was
//!   in flight for its key meanwhile is not kept. While it is in flight, or if its outcome is unknown for as long as the
//!   statement may still run, the key is left to the database.
//! * Misses are not kept: a document that was just put by another node is found.
//! * A hit carries the ticket of its own moment, not that of the old query: a fetch that begins now is as new as it is.
//!
//! Workers tell it what they send and what became of it, so that it does not matter whether a caller still waits. What
//! changed nothing, because it was refused or never sent, leaves everything as it is.

mod kept;

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cimd_cache_guest::limits::FUTURE_TOLERANCE_SECONDS;
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use self::kept::{Bytes, Kept};
use crate::error::Error;
use crate::types::{Entry, Lookup};

pub(crate) use self::kept::Instant;

/// How the near cache is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// For how long a document may be answered without asking the database.
    pub(crate) ttl: Duration,
    /// The most that is kept, in bytes.
    pub(crate) bytes: usize,
}

/// For how long a put or delete whose outcome is unknown may still take effect: no statement runs for so long. One
/// that does so later nevertheless, from the backlog of a server that hung, is seen as if it came from another node.
const UNSETTLED: Duration = Duration::from_secs(FUTURE_TOLERANCE_SECONDS.unsigned_abs());

/// The near cache of one process.
pub(crate) struct NearCache {
    settings: Settings,
    kept: Cache<Box<str>, Arc<Kept>, Bytes, RandomState>,
    /// What is in flight changes together with what is kept.
    flights: Mutex<Flights>,
    /// How many writes are in flight: while there is none, a hit need not look for them.
    writes: AtomicUsize,
    hits: AtomicU64,
}

/// What is in flight. Events have numbers: what began before a write ended may be older than that.
#[derive(Default)]
struct Flights {
    events: u64,
    keys: HashMap<Arc<str>, Marks>,
    all: Marks,
    /// When there are so many keys, those that nothing is known of any more are removed.
    prune_at: usize,
}

/// What is known of a key, or of all.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    gets: usize,
    writes: usize,
    /// When the last write ended, in events.
    written: u64,
    /// Nothing that was asked before this is kept: a write whose outcome is unknown may take effect until then.
    closed_until: Option<Instant>,
}

impl Marks {
    fn allow(&self, asked: &Asked) -> bool {
        self.writes == 0
            && self.written < asked.number
            && self.closed_until.is_none_or(|until| until <= asked.at)
    }

    fn are_needed(&self, now: Instant) -> bool {
        self.gets > 0 || self.writes > 0 || self.closed_until.is_some_and(|until| now < until)
    }
}

/// When some gets were asked of the database.
#[derive(Clone, Copy, Debug)]
struct Asked {
    number: u64,
    at: Instant,
}

/// Gets in flight. Dropped, they bring nothing.
pub(crate) struct Gets<'a> {
    near: &'a NearCache,
    urls: Vec<Arc<str>>,
    asked: Asked,
}

/// A put or delete in flight. Dropped before it [ended](Write::ended), it may yet take effect.
pub(crate) struct Write<'a> {
    near: &'a NearCache,
    /// None stands for all keys.
    url: Option<Arc<str>>,
    end: Option<Effect>,
}

/// What became of a put or delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    /// It changed nothing: it was refused, or never sent.
    None,
    /// It is done, or something newer was there already.
    Done,
    /// Nobody knows.
    Unknown,
}

impl NearCache {
    pub(crate) fn new(settings: Settings) -> Self {
        // A typical document with its overhead; only the number of shards follows from it.
        let typical = settings.bytes / 1_024;
        let kept = Cache::with(typical, settings.bytes as u64, Bytes, RandomState::new(), Default::default());
        Self {
            settings,
            kept,
            flights: Mutex::default(),
            writes: AtomicUsize::new(0),
            hits: AtomicU64::new(0),
        }
    }

    /// How many gets were answered from memory.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// How much is kept, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.kept.weight()
    }

    /// The document, if it is kept and still good.
    pub(crate) fn hit(&self, url: &str, now: Instant) -> Option<Entry> {
        // In this order: whoever sees no write in flight finds removed what one has removed that is over.
        if self.writes.load(Ordering::Acquire) > 0 && self.flights.lock().is_written(url) {
            return None;
        }
        let entry = self.kept.get(url)?.entry(now)?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(entry)
    }

    /// A statement that looks up documents is about to be sent.
    pub(crate) fn gets(&self, urls: Vec<Arc<str>>) -> Gets<'_> {
        let mut flights = self.flights.lock();
        flights.events += 1;
        for url in &urls {
            flights.keys.entry(url.clone()).or_default().gets += 1;
        }
        let asked = Asked { number: flights.events, at: Instant::now() };
        Gets { near: self, urls, asked }
    }

    /// A put or delete of a key, or of all keys, is about to be sent.
    pub(crate) fn write(&self, url: Option<&str>) -> Write<'_> {
        let mut flights = self.flights.lock();
        self.writes.fetch_add(1, Ordering::Release);
        let url = url.map(Arc::from);
        flights.marks(url.as_ref()).writes += 1;
        Write { near: self, url, end: None }
    }
}

impl Flights {
    fn marks(&mut self, url: Option<&Arc<str>>) -> &mut Marks {
        match url {
            Some(url) => self.keys.entry(url.clone()).or_default(),
            None => &mut self.all,
        }
    }

    fn is_written(&self, url: &str) -> bool {
        self.all.writes > 0 || self.keys.get(url).is_some_and(|marks| marks.writes > 0)
    }

    /// Forgets a key of which nothing need be known any more; now and then, all such.
    fn tidy(&mut self, url: &Arc<str>, now: Instant) {
        if self.keys.get(url).is_some_and(|marks| !marks.are_needed(now)) {
            self.keys.remove(url);
        }
        if self.keys.len() > self.prune_at.max(1_024) {
            self.keys.retain(|_, marks| marks.are_needed(now));
            self.prune_at = 2 * self.keys.len();
        }
    }
}

impl Gets<'_> {
    /// The answers have come, in the order of the URLs. Documents are kept whose keys nothing was written to meanwhile.
    pub(crate) fn answered(mut self, answers: &[Result<Lookup, Error>]) {
        let (near, asked, now) = (self.near, self.asked, Instant::now());
        let urls = std::mem::take(&mut self.urls);
        let mut flights = near.flights.lock();
        let all = flights.all;
        for (url, answer) in urls.iter().zip(answers) {
            let Some(marks) = flights.keys.get_mut(url) else { continue };
            marks.gets -= 1;
            let allowed = all.allow(&asked) && marks.allow(&asked);
            flights.tidy(url, now);
            if let Ok(Lookup::Hit(entry)) = answer
                && allowed
                && let Some(kept) = Kept::new(entry, asked.at, now, near.settings.ttl)
            {
                // What was asked later has been there first, now and then. The lock is held: a write that ends now waits,
                // and removes this.
                if near.kept.peek(&**url).is_none_or(|there| there.is_older_than(&kept)) {
                    near.kept.insert((**url).into(), Arc::new(kept));
                }
            }
        }
    }
}

impl Drop for Gets<'_> {
    fn drop(&mut self) {
        if self.urls.is_empty() {
            // They were answered.
            return;
        }
        let now = Instant::now();
        let mut flights = self.near.flights.lock();
        for url in &self.urls {
            if let Some(marks) = flights.keys.get_mut(url) {
                marks.gets -= 1;
            }
            flights.tidy(url, now);
        }
    }
}

impl Write<'_> {
    /// Says how it ended.
    pub(crate) fn ended(mut self, effect: Effect) {
        self.end = Some(effect);
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        let Self { near, url, end } = self;
        let effect = end.unwrap_or(Effect::Unknown);
        let now = Instant::now();
        let mut flights = near.flights.lock();
        flights.events += 1;
        let event = flights.events;
        let marks = flights.marks(url.as_ref());
        marks.writes -= 1;
        if effect != Effect::None {
            marks.written = event;
            match url {
                Some(url) => drop(near.kept.remove(&**url)),
                None => near.kept.clear(),
            }
        }
        if effect == Effect::Unknown {
            marks.closed_until = marks.closed_until.max(Some(now.after(UNSETTLED)));
        }
        if let Some(url) = url {
            flights.tidy(url, now);
        }
        // Last: see `hit`.
        near.writes.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
