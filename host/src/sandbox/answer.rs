//! Checks what the guest answers before a caller sees it.
//!
//! Our own rules always pass. The checks are for a faulty component, or one that somebody else built. Which
//! documents exist must be taken on its word. But no answer may be one that the interface rules out, that
//! overflows a caller's arithmetic, or that forges lines in a log. After such an answer the call fails, and
//! the instance is discarded.

use std::time::{Duration, UNIX_EPOCH};

use cimd_cache_guest::limits::{ERROR_TEXT_BYTES, LATEST_SECOND, SWEEP_ROWS, TICKET_BYTES};

use crate::bindings::exports::cimd::cache::cache as wit;
use crate::bindings::exports::cimd::cache::maintenance;
use crate::error::Error;
use crate::types::{Entry, Lookup, PutOutcome, SweepOutcome, Ticket};

/// The most bytes of a document: one of 16 KiB has fewer, even with the spaces that `jsonb` adds.
const DOCUMENT_BYTES: usize = 64 << 10;

/// The last second of the year 9999.
const LATEST: u64 = LATEST_SECOND.unsigned_abs();

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

/// The answers to this many gets, each checked like that of one.
pub(crate) fn lookups(
    answers: Vec<Result<wit::Lookup, wit::Error>>,
    count: usize,
) -> wasmtime::Result<Vec<Result<Lookup, Error>>> {
    if answers.len() != count {
        return Err(Implausible("more or fewer answers than there were questions").into());
    }
    answers.into_iter().map(|answer| checked(answer, lookup)).collect()
}

pub(crate) fn lookup(lookup: wit::Lookup) -> wasmtime::Result<Lookup> {
    Ok(match lookup {
        wit::Lookup::Hit(entry) => {
            let seconds = u64::try_from(entry.expires_at).ok().filter(|&seconds| seconds <= LATEST);
            let expires_at = seconds.ok_or(Implausible("an expiry outside of the years 1970 to 9999"))?;
            if entry.metadata.len() > DOCUMENT_BYTES {
                return Err(Implausible("a document larger than any that is stored").into());
            }
            // An expiry is at most ten years ahead when it is stored, but the clock may be set back after
            // that.
            if entry.fresh_for > LATEST * 1_000 {
                return Err(Implausible("a document that is fresh for ever").into());
            }
            Lookup::Hit(Entry {
                metadata: entry.metadata,
                expires_at: UNIX_EPOCH + Duration::from_secs(expires_at),
                fresh_for: Duration::from_millis(entry.fresh_for),
                ticket: ticket(entry.ticket)?,
                is_near: false,
            })
        }
        wit::Lookup::Miss(text) => Lookup::Miss(ticket(text)?),
    })
}

/// Checks only the form of a ticket: its content is the guest's business.
fn ticket(text: String) -> wasmtime::Result<Ticket> {
    let is_one = (1..=TICKET_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_one { Ok(text.into()) } else { Err(Implausible("something that is not a ticket").into()) }
}

impl From<wit::PutOutcome> for PutOutcome {
    fn from(stored: wit::PutOutcome) -> Self {
        match stored {
            wit::PutOutcome::Stored => Self::Stored,
            wit::PutOutcome::Superseded => Self::Superseded,
        }
    }
}

pub(crate) fn swept(swept: &maintenance::SweepOutcome, limit: u32) -> wasmtime::Result<SweepOutcome> {
    if swept.removed > limit.min(SWEEP_ROWS) {
        return Err(Implausible("a sweep that cannot have been").into());
    }
    Ok(SweepOutcome { removed: swept.removed, more: swept.more })
}

fn refusal(error: wit::Error) -> wasmtime::Result<Error> {
    let error = Error::from(error);
    if let Error::InvalidUrl(text)
    | Error::InvalidMetadata(text)
    | Error::InvalidExpiry(text)
    | Error::InvalidTicket(text) = &error
        && (text.len() > ERROR_TEXT_BYTES || text.chars().any(char::is_control))
    {
        return Err(Implausible("an error whose text is no sentence").into());
    }
    Ok(error)
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use proptest::prelude::*;

    use super::*;

    fn is_one_line(text: &str, most: usize) -> bool {
        text.len() <= most && !text.chars().any(char::is_control)
    }

    /// Texts that are a ticket or a sentence, are nearly one, or are neither.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[!-~]{0,66}", "[ -~]{200,300}", "[!-~]{0,8}(?s:.)[!-~]{0,8}", "\\PC{0,100}"]
    }

    fn numbers() -> impl Strategy<Value = u64> {
        prop_oneof![any::<u64>(), 0..2 * LATEST, 900 * LATEST..1_100 * LATEST, 0..2_000_u64]
    }

    proptest! {
        #[test]
        fn a_hit_that_gets_through_can_be_calculated_with(
            seconds in numbers(), fresh_for in numbers(), ticket in text()
        ) {
            let entry = wit::Entry {
                metadata: "{}".to_owned(), expires_at: seconds.cast_signed(), fresh_for, ticket
            };
            if let Ok(Lookup::Hit(entry)) = lookup(wit::Lookup::Hit(entry)) {
                prop_assert!(entry.expires_at >= UNIX_EPOCH);
                prop_assert!(entry.expires_at.checked_add(entry.fresh_for).is_some());
                prop_assert!(SystemTime::now().checked_add(entry.fresh_for).is_some());
                prop_assert!(Instant::now().checked_add(entry.fresh_for).is_some());
                // In the database's unit too.
                prop_assert!(i64::try_from(entry.fresh_for.as_micros()).is_ok());
                prop_assert!(is_one_line(&entry.ticket.to_string(), TICKET_BYTES));
            }
        }

        #[test]
        fn an_error_that_gets_through_is_one_line(text in text(), kind in 0..4) {
            let error = match kind {
                0 => wit::Error::InvalidUrl(text),
                1 => wit::Error::InvalidMetadata(text),
                2 => wit::Error::InvalidExpiry(text),
                _ => wit::Error::InvalidTicket(text),
            };
            if let Ok(Err(error)) = checked(Err(error), |()| Ok(())) {
                prop_assert!(is_one_line(&error.to_string(), ERROR_TEXT_BYTES), "{}", error);
            }
        }

        #[test]
        fn a_sweep_that_gets_through_removed_no_more_than_it_may(
            removed in 0..1_100_u32, more in any::<bool>(), limit in prop_oneof![any::<u32>(), 0..1_100_u32]
        ) {
            let passed = swept(&maintenance::SweepOutcome { removed, more }, limit).is_ok();
            prop_assert_eq!(passed, removed <= limit.min(SWEEP_ROWS));
        }
    }
}
