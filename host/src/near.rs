//! The near tier: documents that this process keeps for a short time, in front of the sandbox and the database.
//!
//! It bends the contract in one place: what *another* node puts or deletes may stay unseen for as long as the tier's
//! time to live. For the rest:
//!
//! * A document is kept until its expiry at most, counted by a clock of this machine from before the query was sent.
//! * A put or delete through this process takes effect at once: when it returns, the document is forgotten, and a
//!   query that was under way leaves nothing behind. If its outcome is not known, the key is left to the database for
//!   as long as the statement may still run there.
//! * Misses are not kept: a document that was just put by another node is found.
//! * Gets of one key that miss at the same time share one query. A query that began before a put or delete returned
//!   here is not shared with a get that came after.
//! * A hit carries the ticket of its own moment, not that of the old query: a fetch that begins now is as new as it is.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use cimd_cache_guest::limits::LEFTOVER_SECONDS;
use cimd_cache_guest::ticket::Ticket;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::cache::{Entry, Lookup};
use crate::error::Error;

/// How the tier is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// For how long a document may be answered without asking the database.
    pub(crate) ttl: Duration,
    /// The most that is kept, in bytes.
    pub(crate) bytes: usize,
}

/// For how long a put or delete whose outcome is unknown may still take effect: no statement runs for so long. One
/// that does so later nevertheless, from the backlog of a server that hung, is seen as if it came from another node.
const UNSETTLED: Duration = Duration::from_secs(LEFTOVER_SECONDS.unsigned_abs());

/// A time of a clock that never goes back, and that goes on while the machine sleeps: a document must not stay fresh
/// for as long as a lid is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

impl Moment {
    pub(crate) fn now() -> Self {
        // Elsewhere than on Linux the monotonic clock is the one that counts sleep, or nothing does.
        #[cfg(target_os = "linux")]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(CLOCK);
        Self(Duration::try_from(time).unwrap_or_default())
    }

    fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A document, with what is needed to answer from it later.
struct Kept {
    metadata: String,
    expires_at: SystemTime,
    fresh_for: Duration,
    ticket: Ticket,
    /// Before the query was sent: freshness is counted from here.
    asked: Moment,
    /// After the answer came: the database's clock was at the ticket's time before this, so it is ahead of that by at
    /// least the time since.
    answered: Moment,
    until: Moment,
}

impl Kept {
    fn new(entry: &Entry, asked: Moment, answered: Moment, ttl: Duration) -> Option<Self> {
        Some(Self {
            metadata: entry.metadata.clone(),
            expires_at: entry.expires_at,
            fresh_for: entry.fresh_for,
            ticket: Ticket::parse(entry.ticket.as_str())?,
            asked,
            answered,
            until: asked.after(ttl.min(entry.fresh_for)),
        })
    }

    fn entry(&self, now: Moment) -> Option<Entry> {
        (now < self.until).then(|| Entry {
            metadata: self.metadata.clone(),
            expires_at: self.expires_at,
            fresh_for: self.fresh_for.saturating_sub(now.since(self.asked)),
            ticket: self.ticket.later(now.since(self.answered)).to_string().into(),
        })
    }
}

/// What a kept document occupies besides its key and text: itself, the two allocations' headers, and its places in the
/// map, rounded up.
const OVERHEAD_BYTES: usize = 384;

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<str>, Arc<Kept>> for Bytes {
    fn weight(&self, url: &Box<str>, kept: &Arc<Kept>) -> u64 {
        (OVERHEAD_BYTES + url.len() + kept.metadata.capacity()) as u64
    }
}

type Answer = Shared<BoxFuture<'static, Result<Lookup, Error>>>;

/// A query under way, which gets of the same key wait for together.
struct Flight {
    number: u64,
    asked: Moment,
    answer: Answer,
}

/// Some of the keys: what is under way for them changes together with what is kept.
#[derive(Default)]
struct Stripe {
    flights: HashMap<Box<str>, Flight>,
    begun: u64,
    /// Nothing that was asked before this is kept: a write whose outcome is unknown may take effect until then.
    closed_until: Option<Moment>,
}

/// More than there are cores to contend for them.
const STRIPES: usize = 64;

/// The tier of one process.
pub(crate) struct Near {
    settings: Settings,
    kept: Cache<Box<str>, Arc<Kept>, Bytes, RandomState>,
    stripes: [Mutex<Stripe>; STRIPES],
    hasher: RandomState,
    hits: AtomicU64,
}

impl Near {
    pub(crate) fn new(settings: Settings) -> Self {
        let hasher = RandomState::new();
        // A typical document with its overhead; only the number of shards follows from it.
        let typical = settings.bytes / 1_024;
        let kept = Cache::with(typical, settings.bytes as u64, Bytes, hasher.clone(), Default::default());
        Self {
            settings,
            kept,
            stripes: std::array::from_fn(|_| Mutex::default()),
            hasher,
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
    pub(crate) fn hit(&self, url: &str, now: Moment) -> Option<Entry> {
        let entry = self.kept.get(url)?.entry(now)?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(entry)
    }

    /// The answer of the database, by a query that is under way or by a new one. It goes on in a task of its own: a
    /// caller that gives up does not take it from the others.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        url: &str,
        query: impl FnOnce() -> BoxFuture<'static, Result<Lookup, Error>>,
    ) -> Result<Lookup, Error> {
        let asked = Moment::now();
        let (answer, begun) = {
            let mut stripe = self.stripe(url).lock();
            match stripe.flights.get(url) {
                Some(flight) if self.may_share(flight, asked) => (flight.answer.clone(), false),
                _ => {
                    stripe.begun += 1;
                    let number = stripe.begun;
                    let answer = land(Arc::downgrade(self), url.into(), number, query()).boxed().shared();
                    stripe.flights.insert(url.into(), Flight { number, asked, answer: answer.clone() });
                    (answer, true)
                }
            }
        };
        if begun {
            tokio::spawn(answer.clone());
        }
        answer.await
    }

    /// One that has landed is only still here if its task was lost. One that is older than the time to live could bring
    /// what another node replaced longer ago than that.
    fn may_share(&self, flight: &Flight, now: Moment) -> bool {
        flight.answer.peek().is_none() && now.since(flight.asked) < self.settings.ttl
    }

    /// Begins a put or delete of a key, or of all keys. What is kept is forgotten when the guard is dropped.
    pub(crate) fn writing<'a>(&'a self, url: Option<&'a str>) -> Writing<'a> {
        Writing { near: self, url, settled: false }
    }

    fn stripe(&self, url: &str) -> &Mutex<Stripe> {
        let hash = self.hasher.hash_one(url);
        // The high bits: the low ones choose the map's shard.
        &self.stripes[(hash >> 32) as usize % STRIPES]
    }

    /// Takes the flight of a key off the list, and keeps what it brought if nothing was written since it began.
    fn landed(&self, url: &str, number: u64, answer: &Result<Lookup, Error>) {
        let answered = Moment::now();
        let mut stripe = self.stripe(url).lock();
        let Some(&Flight { asked, .. }) = stripe.flights.get(url).filter(|flight| flight.number == number)
        else {
            return;
        };
        stripe.flights.remove(url);
        if stripe.closed_until.is_some_and(|until| asked < until) {
            return;
        }
        if let Ok(Lookup::Hit(entry)) = answer
            && let Some(kept) = Kept::new(entry, asked, answered, self.settings.ttl)
            // The lock of the stripe is held: a write that returns now waits, and removes this.
            && answered < kept.until
        {
            self.kept.insert(url.into(), Arc::new(kept));
        }
    }

    fn forget(&self, url: Option<&str>, settled: bool) {
        let closed_until = (!settled).then(|| Moment::now().after(UNSETTLED));
        let close = |stripe: &mut Stripe| stripe.closed_until = closed_until.max(stripe.closed_until);
        match url {
            Some(url) => {
                let mut stripe = self.stripe(url).lock();
                stripe.flights.remove(url);
                close(&mut stripe);
                self.kept.remove(url);
            }
            None => {
                for stripe in &self.stripes {
                    let mut stripe = stripe.lock();
                    stripe.flights.clear();
                    close(&mut stripe);
                }
                // After the last of them nothing from before can be added any more.
                self.kept.clear();
            }
        }
    }
}

async fn land(
    near: Weak<Near>,
    url: Box<str>,
    number: u64,
    query: BoxFuture<'static, Result<Lookup, Error>>,
) -> Result<Lookup, Error> {
    let answer = query.await;
    if let Some(near) = near.upgrade() {
        near.landed(&url, number, &answer);
    }
    answer
}

/// A put or delete under way. Dropped, it is over, and what was known of the key is forgotten.
pub(crate) struct Writing<'a> {
    near: &'a Near,
    /// None stands for all keys.
    url: Option<&'a str>,
    settled: bool,
}

impl Writing<'_> {
    /// Says how it ended. Not called, or after an error that leaves it open, the statement may yet take effect.
    pub(crate) fn ended<T>(mut self, outcome: &Result<T, Error>) {
        self.settled = match outcome {
            Ok(_) => true,
            Err(error) => match error {
                Error::InvalidUrl(_)
                | Error::InvalidMetadata(_)
                | Error::InvalidExpiry(_)
                | Error::InvalidTicket(_)
                | Error::NotConfigured => true,
                Error::Unavailable | Error::TimedOut | Error::Storage => false,
            },
        };
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.near.forget(self.url, self.settled);
    }
}

#[cfg(test)]
mod tests;
