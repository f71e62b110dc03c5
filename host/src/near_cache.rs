//! The near cache: documents that this process keeps for a short time, in front of the sandbox and the
//! database.
//!
//! It relaxes one guarantee of the contract: what *another* node puts or deletes can stay unseen for up to
//! the TTL. Everything else holds:
//!
//! * A document is kept no longer than until its expiry, measured with this machine's clock from before the
//!   query was sent, allowing for a clock that runs slow.
//! * A put or delete through this process takes effect at once: when it returns, the document is gone from
//!   here, and gets that were in flight for its key are not kept. While the write is in flight, gets of its
//!   key go to the database; if its outcome is unknown, they do for as long as the statement may still run.
//! * Misses are not kept, so a document that another node has just put is found.
//! * A hit carries a ticket of the present moment, not that of the old query: a fetch that begins now is that
//!   new.
//!
//! Workers report what they send and how it ended, so it does not matter whether a caller still waits. A
//! write that changed nothing, because it was refused or never sent, changes nothing here.

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

/// How long a put or delete of unknown outcome may still take effect: no statement runs for longer. One that
/// does so later anyway, from the backlog of a server that hung, counts as another node's.
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

/// What is in flight. Events are numbered: a get that began before a write ended may have read what was there
/// before it.
#[derive(Default)]
struct Flights {
    events: u64,
    keys: HashMap<Arc<str>, KeyState>,
    all: KeyState,
    /// At this many keys, those that are no longer needed are removed.
    prune_at: usize,
}

/// What is known about a key, or about all keys.
#[derive(Clone, Copy, Debug, Default)]
struct KeyState {
    gets: usize,
    writes: usize,
    /// When the last write ended, in events.
    written: u64,
    /// Gets that began before this are not kept: a write of unknown outcome may take effect until then.
    closed_until: Option<Instant>,
}

impl KeyState {
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

/// Gets in flight. If it is dropped, nothing is kept of them.
pub(crate) struct Gets<'a> {
    near: &'a NearCache,
    urls: Vec<Arc<str>>,
    asked: Asked,
}

/// A put or delete in flight. If it is dropped before it [ended](Write::ended), its outcome is unknown.
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
        // In this order: once no write is in flight, everything that past writes removed is gone from `kept`.
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
        flights.state(url.as_ref()).writes += 1;
        Write { near: self, url, end: None }
    }
}

impl Flights {
    fn state(&mut self, url: Option<&Arc<str>>) -> &mut KeyState {
        match url {
            Some(url) => self.keys.entry(url.clone()).or_default(),
            None => &mut self.all,
        }
    }

    fn is_written(&self, url: &str) -> bool {
        self.all.writes > 0 || self.keys.get(url).is_some_and(|state| state.writes > 0)
    }

    /// Forgets a key of which nothing need be known any more; now and then, all such.
    fn tidy(&mut self, url: &Arc<str>, now: Instant) {
        if self.keys.get(url).is_some_and(|state| !state.are_needed(now)) {
            self.keys.remove(url);
        }
        if self.keys.len() > self.prune_at.max(1_024) {
            self.keys.retain(|_, state| state.are_needed(now));
            self.prune_at = 2 * self.keys.len();
        }
    }
}

impl Gets<'_> {
    /// The answers have come, in the order of the URLs. Documents are kept whose keys nothing was written to
    /// meanwhile.
    pub(crate) fn answered(mut self, answers: &[Result<Lookup, Error>]) {
        let (near, asked, now) = (self.near, self.asked, Instant::now());
        let urls = std::mem::take(&mut self.urls);
        let mut flights = near.flights.lock();
        let all = flights.all;
        for (url, answer) in urls.iter().zip(answers) {
            let Some(state) = flights.keys.get_mut(url) else { continue };
            state.gets -= 1;
            let allowed = all.allow(&asked) && state.allow(&asked);
            flights.tidy(url, now);
            if let Ok(Lookup::Hit(entry)) = answer
                && allowed
                && let Some(kept) = Kept::new(entry, asked.at, now, near.settings.ttl)
            {
                // A get that was sent later may have been stored first. The lock is held: a write that ends
                // now waits, and then removes this.
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
            // All of them were answered.
            return;
        }
        let now = Instant::now();
        let mut flights = self.near.flights.lock();
        for url in &self.urls {
            if let Some(state) = flights.keys.get_mut(url) {
                state.gets -= 1;
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
        let state = flights.state(url.as_ref());
        state.writes -= 1;
        if effect != Effect::None {
            state.written = event;
            match url {
                Some(url) => drop(near.kept.remove(&**url)),
                None => near.kept.clear(),
            }
        }
        if effect == Effect::Unknown {
            state.closed_until = state.closed_until.max(Some(now.after(UNSETTLED)));
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
