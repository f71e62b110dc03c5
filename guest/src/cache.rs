//! The calls: each checks its arguments, sends a statement, and reads the answer out of rows.
//!
//! Which of two writes wins is decided by the SQL, because only the database sees both. Here stands what can be
//! decided before and after: the limits, the freshness of what came back, and what an empty answer means.

use crate::error::Error;
use crate::limits::{
    LATEST_SECOND, LEFTOVER_SECONDS, LIFETIME_SECONDS, MICROS, SWEEP_ROWS, TICKET_SECONDS, URL_BYTES,
};
use crate::metadata;
use crate::sql::{Row, Sql, Value};
use crate::statements::{self, Statement};
use crate::ticket::Ticket;

/// A document that is fresh: the WIT `entry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The document as JSON.
    pub metadata: String,
    /// When it expires, in seconds since 1970, rounded down.
    pub expires_at: i64,
    /// For how many milliseconds it stays fresh, rounded down.
    pub fresh_for: u64,
    /// The moment of the read.
    pub ticket: Ticket,
}

/// The answer of a get: the WIT `lookup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// There is a fresh document.
    Hit(Entry),
    /// There is none.
    Miss(Ticket),
}

/// When a document expires: the WIT `expiry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// At this many seconds since 1970.
    At(i64),
    /// This many seconds after the ticket, or after now.
    After(u64),
}

/// The outcome of a put: the WIT `stored`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The document is stored.
    Stored,
    /// Something newer is known; nothing was changed.
    Superseded,
}

/// The outcome of a sweep: the WIT `swept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// How many rows were removed.
    pub removed: u32,
    /// Whether there are rows left that another sweep would remove.
    pub more: bool,
}

/// The cache, on a database.
#[derive(Debug)]
pub struct Cache<S>(pub S);

impl<S: Sql> Cache<S> {
    /// Looks up the document of a `client_id` URL.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], and those of the database.
    pub fn get(&mut self, url: &str) -> Result<Lookup, Error> {
        let row = self.one_row(&statements::GET, vec![key(url)?])?;
        let [now, purged_at, metadata, expires_at] = columns(row)?;
        let now = int64(&now)?;
        let ticket = Ticket::new(now, int64(&purged_at)?).ok_or(Error::Storage)?;
        // The statement has looked at the expiry already. It is looked at once more because an expired document
        // must not be served whatever a host's database makes of the statement.
        match (metadata, expires_at) {
            (Value::Text(metadata), Value::Int64(expires_at)) if expires_at > now => Ok(Lookup::Hit(Entry {
                metadata,
                expires_at: expires_at.div_euclid(MICROS),
                fresh_for: expires_at.saturating_sub(now).unsigned_abs() / 1_000,
                ticket,
            })),
            (Value::Null | Value::Text(_), Value::Null | Value::Int64(_)) => Ok(Lookup::Miss(ticket)),
            _ => Err(Error::Storage),
        }
    }

    /// Stores a document, unless something newer is known.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::InvalidMetadata`], [`Error::InvalidExpiry`], [`Error::InvalidTicket`], and those
    /// of the database. After `Unavailable` and `TimedOut` it may have been stored.
    pub fn put(
        &mut self,
        url: &str,
        metadata: String,
        expiry: Expiry,
        ticket: Option<&str>,
    ) -> Result<Stored, Error> {
        let url = key(url)?;
        metadata::check(&metadata)?;
        check_expiry(expiry)?;
        let ticket = ticket.map(|text| Ticket::parse(text).ok_or_else(not_a_ticket)).transpose()?;

        let (at, after) = match expiry {
            Expiry::At(seconds) => (Value::Int64(seconds), Value::Null),
            // Longer than any that is kept, and short enough to calculate with: the statement cuts it to ten years.
            Expiry::After(seconds) => {
                (Value::Null, Value::Int64(seconds.min(LONGEST_LIFETIME).cast_signed()))
            }
        };
        let (read_at, purged_at) = ticket.map_or((Value::Null, Value::Null), |ticket| {
            (Value::Int64(ticket.read_at()), Value::Int64(ticket.purged_at()))
        });
        let parameters = vec![url, Value::Text(metadata), at, after, read_at, purged_at];
        let rows = self.0.query(&statements::PUT, parameters)?;
        if rows.is_empty() { self.why_not_stored(ticket) } else { Ok(Stored::Stored) }
    }

    /// Why a put stored nothing: something newer is known, or the ticket has run out, or it is ahead of the clock. A
    /// little ahead it may be after a failover to a clock that is behind, and a get puts that right; further ahead no get
    /// can have given it.
    fn why_not_stored(&mut self, ticket: Option<Ticket>) -> Result<Stored, Error> {
        let row = self.one_row(&statements::CLOCK, Vec::new())?;
        let [now, purged_at] = columns(row)?;
        let now = int64(&now)?;
        // A table without its purge row refuses every put; that must not look like a lost race.
        int64(&purged_at)?;
        match ticket {
            Some(ticket) if ticket.read_at() > now.saturating_add(LEFTOVER_SECONDS * MICROS) => {
                Err(Error::InvalidTicket(
                    "the ticket is over a minute ahead of the database's clock: present the ticket of the get before \
                     the fetch"
                        .into(),
                ))
            }
            _ => Ok(Stored::Superseded),
        }
    }

    /// Removes a document and says whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], and those of the database. After `Unavailable` and `TimedOut` it may have been applied.
    pub fn delete(&mut self, url: &str) -> Result<bool, Error> {
        let row = self.one_row(&statements::DELETE, vec![key(url)?])?;
        match columns(row)? {
            [Value::Boolean(had_document)] => Ok(had_document),
            _ => Err(Error::Storage),
        }
    }

    /// Removes all documents.
    ///
    /// # Errors
    ///
    /// Those of the database. After `Unavailable` and `TimedOut` it may have been applied.
    pub fn delete_all(&mut self) -> Result<(), Error> {
        // No row means no purge row, so nothing was removed: `one_row` makes that an error.
        self.one_row(&statements::DELETE_ALL, Vec::new())?;
        Ok(())
    }

    /// Removes at most `limit` rows that no get can return any more.
    ///
    /// # Errors
    ///
    /// Those of the database. After `Unavailable` and `TimedOut` rows may have been removed.
    pub fn sweep(&mut self, limit: u32) -> Result<Swept, Error> {
        let limit = limit.min(SWEEP_ROWS);
        let mut removed = 0;
        for statement in [&statements::SWEEP_EXPIRED, &statements::SWEEP_PURGED] {
            if removed < limit {
                let rest = Value::Int64(i64::from(limit - removed));
                let rows = self.0.query(statement, vec![rest])?;
                removed += u32::try_from(rows.len()).unwrap_or(u32::MAX - removed);
            }
        }
        // One that removed all it may need not ask whether there are more. One that did not has to: other sweepers may
        // have removed the rows that it had chosen.
        if limit > 0 && removed >= limit {
            return Ok(Swept { removed, more: true });
        }
        let row = self.one_row(&statements::SWEEPABLE, Vec::new())?;
        match columns(row)? {
            [Value::Int64(_), Value::Boolean(more)] => Ok(Swept { removed, more }),
            _ => Err(Error::Storage),
        }
    }

    fn one_row(&mut self, statement: &'static Statement, parameters: Vec<Value>) -> Result<Row, Error> {
        let rows = self.0.query(statement, parameters)?;
        <[Row; 1]>::try_from(rows).map(|[row]| row).map_err(|_| Error::Storage)
    }
}

fn key(url: &str) -> Result<Value, Error> {
    let refusal = if url.is_empty() {
        "the client_id URL is empty"
    } else if url.len() > URL_BYTES {
        "the client_id URL is longer than 2048 bytes"
    } else if url.contains('\0') {
        "the client_id URL contains a NUL"
    } else {
        return Ok(Value::Text(url.to_owned()));
    };
    Err(Error::InvalidUrl(refusal.into()))
}

/// A lifetime in seconds that reaches over ten years ahead of now whatever good ticket it is counted from.
const LONGEST_LIFETIME: u64 = (LIFETIME_SECONDS + TICKET_SECONDS).unsigned_abs();

/// A lifetime may be of any length: those over ten years come from headers of others, where RFC 9111 section 1.2.2 takes
/// what overflows for "for ever". A time outside of the years that can be written is a mistake in its unit.
fn check_expiry(expiry: Expiry) -> Result<(), Error> {
    match expiry {
        Expiry::At(seconds) if !(0..=LATEST_SECOND).contains(&seconds) => Err(Error::InvalidExpiry(
            "the expiry's year is outside 1970 to 9999: it is a time in seconds since 1970".into(),
        )),
        Expiry::At(_) | Expiry::After(_) => Ok(()),
    }
}

fn not_a_ticket() -> Error {
    Error::InvalidTicket("the ticket is not one that a get gave".into())
}

fn columns<const N: usize>(row: Row) -> Result<[Value; N], Error> {
    row.try_into().map_err(|_| Error::Storage)
}

fn int64(value: &Value) -> Result<i64, Error> {
    match value {
        Value::Int64(number) => Ok(*number),
        _ => Err(Error::Storage),
    }
}

#[cfg(test)]
mod tests;
