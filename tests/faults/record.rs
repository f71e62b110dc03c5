//! What callers asked and were told, written down as the contract's judge reads it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use cimd_cache::{Error, Expiry, Lookup, PutOutcome};
use cimd_cache_simulator::history::{
    self, Answer, Between, Call, CallFailure, Micros, Position, Refusal, Request,
};
use parking_lot::Mutex;
use serde_json::Value;

use crate::node::Node;

/// The calls of all callers, on keys that no other record has.
pub(crate) struct Record {
    number: usize,
    started: Instant,
    calls: Mutex<Vec<Call>>,
    documents: AtomicU64,
    templates: Vec<Value>,
}

/// A ticket, and what the judge knows of it.
#[derive(Clone)]
pub(crate) struct Ticket {
    text: cimd_cache::Ticket,
    of: history::Ticket,
}

/// How long a document is to stay fresh.
#[derive(Clone, Copy)]
pub(crate) struct Seconds(pub(crate) u64);

impl Record {
    pub(crate) fn new() -> Self {
        let templates =
            cimd_cache_documents::ALL.iter().map(|document| serde_json::from_str(document.text).unwrap());
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        Self {
            number: COUNT.fetch_add(1, Ordering::Relaxed),
            started: Instant::now(),
            calls: Mutex::default(),
            documents: AtomicU64::new(0),
            templates: templates.collect(),
        }
    }

    /// Now, in the record's time.
    pub(crate) fn position(&self) -> Position {
        self.at(Instant::now())
    }

    pub(crate) fn at(&self, time: Instant) -> Position {
        u64::try_from(time.saturating_duration_since(self.started).as_nanos()).unwrap()
    }

    pub(crate) fn instant(&self, position: Position) -> Instant {
        self.started + Duration::from_nanos(position)
    }

    pub(crate) fn count(&self, which: impl Fn(&&Call) -> bool) -> usize {
        self.calls.lock().iter().filter(which).count()
    }

    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock())
    }

    /// The key with a number, as a URL.
    fn url(&self, key: usize) -> String {
        format!("https://client.example/{}/{key}/metadata.json", self.number)
    }

    /// A real document that can be told from all others.
    fn document(&self, number: u64) -> Value {
        let mut document = self.templates[number as usize % self.templates.len()].clone();
        document["number"] = number.into();
        document
    }

    /// Which document a text is: [`u64::MAX`] if it is not, as a whole, one that was put.
    fn number_of(&self, metadata: &str) -> u64 {
        let Ok(document) = serde_json::from_str::<Value>(metadata) else { return u64::MAX };
        let number = document["number"].as_u64().unwrap_or(u64::MAX);
        if number < self.documents.load(Ordering::Relaxed) && self.document(number) == document {
            number
        } else {
            u64::MAX
        }
    }
}

/// One who calls a node, and has each call written down.
#[derive(Clone)]
pub(crate) struct Caller<'a> {
    pub(crate) record: &'a Record,
    pub(crate) node: usize,
    pub(crate) cache: &'a Node,
}

impl Caller<'_> {
    /// The ticket, and whether there was a document; none if the call failed.
    pub(crate) async fn get(&self, key: usize) -> Option<(bool, Ticket)> {
        let begun = self.begin(Request::Get { key });
        let (began, url) = (begun.began, self.record.url(key));
        let (answer, text) = match self.cache.get(&url).await {
            Ok(Lookup::Hit(entry)) => {
                let seconds = entry.expires_at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                let answer = Answer::Hit {
                    document: self.record.number_of(&entry.metadata),
                    expires_at: seconds.cast_signed(),
                    fresh_for: u64::try_from(entry.fresh_for.as_millis()).unwrap(),
                    ticket_at: time_of(&entry.ticket),
                };
                (answer, entry.ticket)
            }
            Ok(Lookup::Miss(ticket)) => (Answer::Miss { ticket_at: time_of(&ticket) }, ticket),
            Err(error) => {
                begun.end(failed(error));
                return None;
            }
        };
        let read_ended = begun.end(answer);
        let of =
            history::Ticket::Of { at: time_of(&text), latest: time_of(&text), read_began: began, read_ended };
        Some((matches!(answer, Answer::Hit { .. }), Ticket { text, of }))
    }

    pub(crate) async fn put(&self, key: usize, fresh_for: Seconds, ticket: Option<&Ticket>) -> Answer {
        let document = self.record.documents.fetch_add(1, Ordering::Relaxed);
        let expiry = history::Expiry::After(fresh_for.0);
        let (url, metadata) = (self.record.url(key), self.record.document(document).to_string());
        let begun =
            self.begin(Request::Put { key, document, expiry, ticket: ticket.map(|ticket| ticket.of) });
        let expiry = Expiry::After(Duration::from_secs(fresh_for.0));
        let answer = match self.cache.put(&url, &metadata, expiry, ticket.map(|ticket| &ticket.text)).await {
            Ok(PutOutcome::Stored) => Answer::Stored,
            Ok(PutOutcome::Superseded) => Answer::Superseded,
            Err(error) => failed(error),
        };
        begun.end(answer);
        answer
    }

    pub(crate) async fn delete(&self, key: usize) {
        let begun = self.begin(Request::Delete { key });
        let answer = self.cache.delete(&self.record.url(key)).await;
        begun.end(answer.map_or_else(failed, Answer::Deleted));
    }

    pub(crate) async fn purge(&self) {
        let begun = self.begin(Request::Purge);
        let answer = self.cache.purge().await;
        begun.end(answer.map_or_else(failed, |()| Answer::Purged));
    }

    pub(crate) async fn sweep(&self, limit: u32) {
        let begun = self.begin(Request::Sweep { limit });
        let answer = self.cache.sweep(limit).await;
        begun.end(
            answer.map_or_else(failed, |swept| Answer::Swept { removed: swept.removed, more: swept.more }),
        );
    }

    fn begin(&self, request: Request) -> Begun<'_> {
        let (began, earliest) = (self.record.position(), system_micros());
        Begun { record: self.record, node: self.node, request, began, earliest, answer: Answer::Lost }
    }
}

/// A call in flight. Dropped with its future, it is written down as one whose caller did not wait.
struct Begun<'a> {
    record: &'a Record,
    node: usize,
    request: Request,
    began: Position,
    earliest: Micros,
    answer: Answer,
}

impl Begun<'_> {
    /// Writes it down, and returns when it ended.
    fn end(mut self, answer: Answer) -> Position {
        self.answer = answer;
        // Not after what `Drop` writes down, which is all that has to be true.
        self.record.position()
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let now = Between { earliest: self.earliest, latest: system_micros() };
        let ended = self.record.position();
        let &mut Self { node, request, began, answer, .. } = self;
        let call = Call { node, began, ended, settled: ended, now, request, answer };
        self.record.calls.lock().push(call);
    }
}

/// The database runs on this machine, so this is its clock too.
fn system_micros() -> Micros {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_micros()).unwrap()
}

/// A ticket begins with the time of the read in hexadecimal microseconds.
fn time_of(ticket: &cimd_cache::Ticket) -> Micros {
    i64::from_str_radix(&ticket.to_string()[..16], 16).unwrap()
}

fn failed(error: Error) -> Answer {
    match error {
        Error::InvalidUrl(_) => Answer::Refused(Refusal::InvalidUrl),
        Error::InvalidMetadata(_) => Answer::Refused(Refusal::InvalidMetadata),
        Error::InvalidExpiry(_) => Answer::Refused(Refusal::InvalidExpiry),
        Error::InvalidTicket(_) => Answer::Refused(Refusal::InvalidTicket),
        Error::NotConfigured => Answer::Failed(CallFailure::NotConfigured),
        Error::Unavailable => Answer::Failed(CallFailure::Unavailable),
        Error::TimedOut => Answer::Failed(CallFailure::TimedOut),
        Error::Storage => Answer::Failed(CallFailure::Storage),
    }
}
