//! The guest's calls, run natively, in the words of a history.

use cimd_cache_guest::cache::{Cache, Expiry as GuestExpiry, Lookup, Stored};
use cimd_cache_guest::error::Error;
use cimd_cache_guest::sql::Sql;
use cimd_cache_guest::ticket::Ticket as GuestTicket;

use crate::history::{Answer, Expiry, Failure, Refusal, Request};

/// The URL that a key of a history stands for.
pub fn url(key: usize) -> String {
    format!("https://client-{key}.example/metadata.json")
}

/// The document that a number of a history stands for.
pub fn document(number: u64) -> String {
    format!("{{\"number\":{number}}}")
}

/// The number of a document; [`u64::MAX`] if it is none of ours.
pub fn document_number(text: &str) -> u64 {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(u64::MAX)
}

/// A call as it is made: a request, and the text it presents as a ticket.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) ticket: Option<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) answer: Answer,
    /// Of a get.
    pub(crate) ticket: Option<GuestTicket>,
}

/// Makes a call.
pub(crate) fn call(sql: impl Sql, asked: &Asked) -> Told {
    let mut cache = Cache(sql);
    let mut told = Told { answer: Answer::Purged, ticket: None };
    let answered = match asked.request {
        Request::Get { key } => cache.get(&url(key)).map(|lookup| match lookup {
            Lookup::Hit(entry) => {
                told.ticket = Some(entry.ticket);
                Answer::Hit {
                    document: document_number(&entry.metadata),
                    expires_at: entry.expires_at,
                    fresh_for: entry.fresh_for,
                    ticket_at: entry.ticket.read_at(),
                }
            }
            Lookup::Miss(ticket) => {
                told.ticket = Some(ticket);
                Answer::Miss { ticket_at: ticket.read_at() }
            }
        }),
        Request::Put { key, document: number, expiry, .. } => {
            let expiry = match expiry {
                Expiry::At(seconds) => GuestExpiry::At(seconds),
                Expiry::After(seconds) => GuestExpiry::After(seconds),
            };
            cache.put(&url(key), document(number), expiry, asked.ticket.as_deref()).map(|stored| match stored
            {
                Stored::Stored => Answer::Stored,
                Stored::Superseded => Answer::Superseded,
            })
        }
        Request::Delete { key } => cache.delete(&url(key)).map(Answer::Deleted),
        Request::Purge => cache.delete_all().map(|()| Answer::Purged),
        Request::Sweep { limit } => {
            cache.sweep(limit).map(|swept| Answer::Swept { removed: swept.removed, more: swept.more })
        }
    };
    told.answer = answered.unwrap_or_else(|error| match error {
        Error::InvalidUrl(_) => Answer::Refused(Refusal::InvalidUrl),
        Error::InvalidMetadata(_) => Answer::Refused(Refusal::InvalidMetadata),
        Error::InvalidExpiry(_) => Answer::Refused(Refusal::InvalidExpiry),
        Error::InvalidTicket(_) => Answer::Refused(Refusal::InvalidTicket),
        Error::NotConfigured => Answer::Failed(Failure::NotConfigured),
        Error::Unavailable => Answer::Failed(Failure::Unavailable),
        Error::TimedOut => Answer::Failed(Failure::TimedOut),
        Error::Storage => Answer::Failed(Failure::Storage),
    });
    told
}
