//! What the guest answers, looked at before a caller sees it.
//!
//! The rules keep all of this. It is for a component that does not: one with a fault, or one that somebody else built.
//! Which documents there are has to be taken on its word; but no answer may be one that the interface rules out, that a
//! caller cannot calculate with, or that writes lines of its own into a log. One that is counts as none: the call fails,
//! and its instance is discarded.

use std::time::{Duration, UNIX_EPOCH};

use cimd_cache_guest::limits::{LATEST_SECOND, SWEEP_ROWS};

use crate::bindings::exports::cimd::cache::cache as wit;
use crate::bindings::exports::cimd::cache::maintenance;
use crate::cache::{Entry, Lookup, Stored, Swept, Ticket};
use crate::error::Error;

/// The most that a ticket has, according to the WIT package.
pub(crate) const TICKET_BYTES: usize = 64;

/// The last second of the year 9999.
const LATEST: u64 = LATEST_SECOND.unsigned_abs();

/// The most that the text of an error may have, likewise.
const SENTENCE_BYTES: usize = 256;

/// An answer that its interface rules out.
#[derive(Debug, thiserror::Error)]
#[error("it answered with {0}")]
struct Implausible(&'static str);

/// The answer of a call. The outer result is the host's.
pub(crate) fn checked<A, T>(
    answer: Result<A, wit::Error>,
    success: impl FnOnce(A) -> wasmtime::Result<T>,
) -> wasmtime::Result<Result<T, Error>> {
    match answer {
        Ok(answer) => success(answer).map(Ok),
        Err(error) => refusal(error).map(Err),
    }
}

pub(crate) fn lookup(lookup: wit::Lookup) -> wasmtime::Result<Lookup> {
    Ok(match lookup {
        wit::Lookup::Hit(entry) => {
            let seconds = u64::try_from(entry.expires_at).ok().filter(|&seconds| seconds <= LATEST);
            let expires_at = seconds.ok_or(Implausible("an expiry outside of the years 1970 to 9999"))?;
            // An expiry is at most ten years ahead when it is stored, but the clock may be set back after that.
            if entry.fresh_for > LATEST * 1_000 {
                return Err(Implausible("a document that is fresh for ever").into());
            }
            Lookup::Hit(Entry {
                metadata: entry.metadata,
                expires_at: UNIX_EPOCH + Duration::from_secs(expires_at),
                fresh_for: Duration::from_millis(entry.fresh_for),
                ticket: ticket(entry.ticket)?,
            })
        }
        wit::Lookup::Miss(text) => Lookup::Miss(ticket(text)?),
    })
}

/// Only that it is one by its form: what is in it is the guest's business.
fn ticket(text: String) -> wasmtime::Result<Ticket> {
    let is_one = (1..=TICKET_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_one { Ok(text.into()) } else { Err(Implausible("a ticket that is none").into()) }
}

impl From<wit::Stored> for Stored {
    fn from(stored: wit::Stored) -> Self {
        match stored {
            wit::Stored::Stored => Self::Stored,
            wit::Stored::Superseded => Self::Superseded,
        }
    }
}

pub(crate) fn swept(swept: &maintenance::Swept, limit: u32) -> wasmtime::Result<Swept> {
    let most = limit.min(SWEEP_ROWS);
    // To say that there is more without having removed all that it may would have a caller go on for ever.
    if swept.removed > most || (swept.more && swept.removed < most) {
        return Err(Implausible("a sweep that cannot have been").into());
    }
    Ok(Swept { removed: swept.removed, more: swept.more })
}

fn refusal(error: wit::Error) -> wasmtime::Result<Error> {
    let error = Error::from(error);
    if let Error::InvalidUrl(text)
    | Error::InvalidMetadata(text)
    | Error::InvalidExpiry(text)
    | Error::InvalidTicket(text) = &error
        && (text.len() > SENTENCE_BYTES || text.chars().any(char::is_control))
    {
        return Err(Implausible("an error whose text is no sentence").into());
    }
    Ok(error)
}
