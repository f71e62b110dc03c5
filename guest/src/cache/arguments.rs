//! The checks on a call's arguments, before the database is asked. [`crate::document`] has those on a
//! document.

use super::types::Expiry;
use crate::error::Error;
use crate::limits::{LATEST_SECOND, LIFETIME_SECONDS, TICKET_SECONDS, URL_BYTES};

pub(super) fn check_url(url: &str) -> Result<(), Error> {
    let refusal = if url.is_empty() {
        "the client_id URL is empty"
    } else if url.len() > URL_BYTES {
        "the client_id URL is longer than 2048 bytes"
    } else if url.contains('\0') {
        "the client_id URL contains a NUL"
    } else {
        return Ok(());
    };
    Err(Error::InvalidUrl(refusal.into()))
}

/// A lifetime in seconds that ends over ten years ahead of now, whatever good ticket it is counted from.
pub(super) const LONGEST_LIFETIME: u64 = (LIFETIME_SECONDS + TICKET_SECONDS).unsigned_abs();

/// A lifetime may have any length: one over ten years comes from another party's header, where RFC 9111
/// section 1.2.2 takes a number that overflows for "for ever". A time outside the years that can be written
/// is a mistake in its unit.
pub(super) fn check_expiry(expiry: Expiry) -> Result<(), Error> {
    match expiry {
        Expiry::At(seconds) if !(0..=LATEST_SECOND).contains(&seconds) => Err(Error::InvalidExpiry(
            "the expiry's year is outside 1970 to 9999: it is a time in seconds since 1970".into(),
        )),
        Expiry::At(_) | Expiry::After(_) => Ok(()),
    }
}

pub(super) fn not_a_ticket() -> Error {
    Error::InvalidTicket("the ticket is not one that a get gave".into())
}
