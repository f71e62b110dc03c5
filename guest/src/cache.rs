//! The calls: each checks its arguments, sends a statement, and reads the answer out of rows.
//!
//! The SQL decides which of two writes wins, because only the database sees both. This module decides what
//! can be decided before and after: the limits, the freshness of what came back, and what an empty answer
//! means.

use crate::document;
use crate::error::Error;
use crate::limits::{FUTURE_TOLERANCE_SECONDS, MICROS, SWEEP_ROWS, URLS_AT_ONCE};
use crate::sql::{Row, Sql, Value};
use crate::statements::{self, Statement};
use crate::ticket::Ticket;

mod arguments;
mod rows;
mod types;

use arguments::{LONGEST_LIFETIME, check_expiry, check_url, not_a_ticket};
use rows::{array, columns, fresh, int64};

pub use types::{Entry, Expiry, Lookup, PutOutcome, SweepOutcome};

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
        check_url(url)?;
        let row = self.one_row(&statements::GET, vec![Value::Text(url.to_owned())])?;
        let [now, purged_at, metadata, expires_at] = columns(row)?;
        let ticket = Ticket::new(int64(&now)?, int64(&purged_at)?).ok_or(Error::Storage)?;
        Ok(fresh(metadata, &expires_at, ticket)?.map_or(Lookup::Miss(ticket), Lookup::Hit))
    }

    /// Looks up several documents at one moment. Returns what a get of each URL would return at that moment,
    /// in the order of the URLs.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get), for each URL. A URL that cannot be a key is refused without affecting the
    /// others; a failure of the database is the answer for all the others.
    pub fn get_many(&mut self, urls: &[String]) -> Vec<Result<Lookup, Error>> {
        let mut answers = Vec::with_capacity(urls.len());
        if urls.len() > URLS_AT_ONCE {
            let refusal = "more than 64 URLs are looked up at once: make several calls";
            answers.resize(urls.len(), Err(Error::InvalidUrl(refusal.into())));
            return answers;
        }
        // URLs that cannot be keys have their answers now; the statement answers the others.
        let mut keys = Vec::with_capacity(urls.len());
        for url in urls {
            let checked = check_url(url);
            if checked.is_ok() {
                keys.push((url.as_str(), answers.len()));
            }
            answers.push(checked.and(Err(Error::Storage)));
        }
        if !keys.is_empty()
            && let Err(error) = self.find(&keys, &mut answers)
        {
            for (_, place) in keys {
                answers[place] = Err(error.clone());
            }
        }
        answers
    }

    /// Looks up `keys`, each a URL with the place of its answer in `answers`.
    fn find(&mut self, keys: &[(&str, usize)], answers: &mut [Result<Lookup, Error>]) -> Result<(), Error> {
        let parameters = vec![Value::Text(array(keys)), Value::Int64(keys.len() as i64)];
        let rows = self.0.query(&statements::GET_MANY, parameters)?;
        let in_order = keys.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let (mut moment, mut next) = (None, 0);
        for row in rows {
            let [now, purged_at, url, metadata, expires_at] = columns(row)?;
            let ticket = Ticket::new(int64(&now)?, int64(&purged_at)?).ok_or(Error::Storage)?;
            if moment != Some(ticket) {
                if moment.is_some() {
                    return Err(Error::Storage);
                }
                moment = Some(ticket);
                for (_, place) in keys {
                    answers[*place] = Ok(Lookup::Miss(ticket));
                }
            }
            match (url, fresh(metadata, &expires_at, ticket)?) {
                (Value::Text(url), Some(entry)) => {
                    // Rows come in the order of the index. If the URLs are in that order too, this is one of
                    // the next.
                    next = if in_order { next } else { 0 };
                    let mut left = keys.len();
                    while left > 0 && keys[next % keys.len()].0 != url {
                        (next, left) = (next + 1, left - 1);
                    }
                    let (_, place) = keys[next % keys.len()];
                    if left == 0 {
                        return Err(Error::Storage);
                    }
                    answers[place] = Ok(Lookup::Hit(entry));
                    next += 1;
                }
                (Value::Text(_) | Value::Null, None) => {}
                _ => return Err(Error::Storage),
            }
        }
        if moment.is_none() {
            return Err(Error::Storage);
        }
        // A URL that occurs more than once was found where it occurs first.
        for (at, (url, place)) in keys.iter().enumerate() {
            if !in_order && let Some((_, first)) = keys[..at].iter().find(|(before, _)| before == url) {
                answers[*place] = answers[*first].clone();
            }
        }
        Ok(())
    }

    /// Stores a document, unless something newer is known.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::InvalidMetadata`], [`Error::InvalidExpiry`], [`Error::InvalidTicket`],
    /// and those of the database. After `Unavailable` and `TimedOut` it may have been stored.
    pub fn put(
        &mut self,
        url: &str,
        metadata: String,
        expiry: Expiry,
        ticket: Option<&str>,
    ) -> Result<PutOutcome, Error> {
        check_url(url)?;
        document::check(&metadata)?;
        check_expiry(expiry)?;
        let ticket = ticket.map(|text| Ticket::parse(text).ok_or_else(not_a_ticket)).transpose()?;

        let (at, after) = match expiry {
            Expiry::At(seconds) => (Value::Int64(seconds), Value::Null),
            // Longer than any lifetime that is kept, and short enough to calculate with: the statement cuts
            // it to ten years.
            Expiry::After(seconds) => {
                (Value::Null, Value::Int64(seconds.min(LONGEST_LIFETIME).cast_signed()))
            }
        };
        let (read_at, purged_at) = ticket.map_or((Value::Null, Value::Null), |ticket| {
            (Value::Int64(ticket.read_at()), Value::Int64(ticket.purged_at()))
        });
        let parameters =
            vec![Value::Text(url.to_owned()), Value::Text(metadata), at, after, read_at, purged_at];
        let rows = self.0.query(&statements::PUT, parameters)?;
        if rows.is_empty() { self.why_not_stored(ticket) } else { Ok(PutOutcome::Stored) }
    }

    /// Why a put stored nothing: something newer is known, or the ticket has run out, or it is ahead of the
    /// clock. After a failover to a clock that is behind, a ticket may be a little ahead, and another get
    /// solves that. No get can have given one that is further ahead.
    fn why_not_stored(&mut self, ticket: Option<Ticket>) -> Result<PutOutcome, Error> {
        let row = self.one_row(&statements::CLOCK, Vec::new())?;
        let [now, purged_at] = columns(row)?;
        let now = int64(&now)?;
        // A table without its purge row refuses every put; that must not look like a lost race.
        int64(&purged_at)?;
        match ticket {
            Some(ticket) if ticket.read_at() > now.saturating_add(FUTURE_TOLERANCE_SECONDS * MICROS) => {
                Err(Error::InvalidTicket(
                    "the ticket is over a minute ahead of the database's clock: present the ticket of the get before \
                     the fetch"
                        .into(),
                ))
            }
            _ => Ok(PutOutcome::Superseded),
        }
    }

    /// Removes a document. Returns whether a get would have hit.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], and those of the database. After `Unavailable` and `TimedOut` it may have been
    /// applied.
    pub fn delete(&mut self, url: &str) -> Result<bool, Error> {
        check_url(url)?;
        let row = self.one_row(&statements::DELETE, vec![Value::Text(url.to_owned())])?;
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
    pub fn purge(&mut self) -> Result<(), Error> {
        // No row means no purge row, so nothing was removed: `one_row` makes that an error.
        self.one_row(&statements::PURGE, Vec::new())?;
        Ok(())
    }

    /// Removes at most `limit` rows that no get can return any more.
    ///
    /// # Errors
    ///
    /// Those of the database. After `Unavailable` and `TimedOut` rows may have been removed.
    pub fn sweep(&mut self, limit: u32) -> Result<SweepOutcome, Error> {
        let limit = limit.min(SWEEP_ROWS);
        let mut removed = 0;
        for statement in [&statements::SWEEP_EXPIRED, &statements::SWEEP_PURGED] {
            if removed < limit {
                let rest = Value::Int64(i64::from(limit - removed));
                let rows = self.0.query(statement, vec![rest])?;
                removed += u32::try_from(rows.len()).unwrap_or(u32::MAX - removed);
            }
        }
        // A sweep that removed as many as it may need not ask whether there are more. One that removed fewer
        // must: other sweepers may have removed the rows that it had chosen.
        if limit > 0 && removed >= limit {
            return Ok(SweepOutcome { removed, more: true });
        }
        let row = self.one_row(&statements::SWEEPABLE, Vec::new())?;
        match columns(row)? {
            [Value::Int64(_), Value::Boolean(more)] => Ok(SweepOutcome { removed, more }),
            _ => Err(Error::Storage),
        }
    }

    fn one_row(&mut self, statement: &'static Statement, parameters: Vec<Value>) -> Result<Row, Error> {
        let rows = self.0.query(statement, parameters)?;
        <[Row; 1]>::try_from(rows).map(|[row]| row).map_err(|_| Error::Storage)
    }
}

#[cfg(test)]
mod tests;
