//! The guest's calls, run natively, in the words of a history.

use cimd_cache_guest::cache::{Cache, Expiry as GuestExpiry, Lookup, PutOutcome};
use cimd_cache_guest::error::Error;
use cimd_cache_guest::sql::Sql;
use cimd_cache_guest::ticket::Ticket as GuestTicket;

use crate::history::{Answer, CallFailure, Expiry, Refusal, Request};

/// The URL that a key of a history stands for. A key may be any text, and the keys of a get-many are sent as
/// one, so some have characters with a meaning there.
pub fn url(key: usize) -> String {
    match key % 3 {
        0 => format!("https://client-{key}.example/metadata.json"),
        1 => format!(r#"https://client-{key}.example/",\{{"#),
        _ => format!(r#"}}\\client-{key},""NULL"#),
    }
}

/// The document that a number of a history stands for.
pub fn document(number: u64) -> String {
    format!("{{\"number\":{number}}}")
}

/// The number of a document; [`u64::MAX`] if no put of the history stored it.
pub fn document_number(text: &str) -> u64 {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(u64::MAX)
}

/// A call as it is made: a request, and the text it presents as a ticket.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) ticket: Option<String>,
    /// The other keys of a get-many; the request has the first. None if this is not a get-many.
    pub(crate) also: Option<Vec<usize>>,
}

impl Asked {
    pub(crate) fn new(request: Request) -> Self {
        Self { request, ticket: None, also: None }
    }

    /// What it asks for. A get-many is one get for each of its keys.
    pub(crate) fn requests(&self) -> impl Iterator<Item = Request> {
        let others = self.also.iter().flatten().map(|&key| Request::Get { key });
        std::iter::once(self.request).chain(others)
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// One for each request.
    pub(crate) answers: Vec<Answer>,
    /// The ticket of a get.
    pub(crate) ticket: Option<GuestTicket>,
    /// What is wrong between the answers of a get-many.
    pub(crate) discord: Option<&'static str>,
}

/// Makes a call.
pub(crate) fn call(sql: impl Sql, asked: &Asked) -> Told {
    let mut cache = Cache(sql);
    let answer = match (asked.request, &asked.also) {
        (Request::Get { .. }, Some(_)) => {
            let urls: Vec<_> = asked.requests().filter_map(key_of_get).map(url).collect();
            return told_of_many(&urls, cache.get_many(&urls));
        }
        (Request::Get { key }, None) => {
            let found = cache.get(&url(key));
            return Told { ticket: ticket(&found), answers: vec![answer_of_get(found)], discord: None };
        }
        (Request::Put { key, document: number, expiry, .. }, _) => {
            let expiry = match expiry {
                Expiry::At(seconds) => GuestExpiry::At(seconds),
                Expiry::After(seconds) => GuestExpiry::After(seconds),
            };
            cache.put(&url(key), document(number), expiry, asked.ticket.as_deref()).map(|stored| match stored
            {
                PutOutcome::Stored => Answer::Stored,
                PutOutcome::Superseded => Answer::Superseded,
            })
        }
        (Request::Delete { key }, _) => cache.delete(&url(key)).map(Answer::Deleted),
        (Request::Purge, _) => cache.purge().map(|()| Answer::Purged),
        (Request::Sweep { limit }, _) => {
            cache.sweep(limit).map(|swept| Answer::Swept { removed: swept.removed, more: swept.more })
        }
    };
    Told {
        answers: vec![answer.unwrap_or_else(|error| answer_of_error(&error))],
        ticket: None,
        discord: None,
    }
}

fn key_of_get(request: Request) -> Option<usize> {
    match request {
        Request::Get { key } => Some(key),
        _ => None,
    }
}

/// What a get found.
type Found = Result<Lookup, Error>;

fn told_of_many(urls: &[String], found: Vec<Found>) -> Told {
    let discord = discord(urls, &found);
    let ticket = found.iter().find_map(ticket);
    let mut answers: Vec<_> = found.into_iter().map(answer_of_get).collect();
    // Each call of the history gets one, however many there are.
    answers.resize(urls.len(), Answer::Lost);
    Told { answers, ticket, discord }
}

/// What is wrong between the answers of a get-many. The checker judges each by itself as that of a get.
fn discord(urls: &[String], found: &[Found]) -> Option<&'static str> {
    if found.len() != urls.len() {
        return Some("there are not as many answers as URLs");
    }
    let moment = |found: &Found| found.as_ref().map(ticket_of).map_err(Clone::clone);
    if found.iter().any(|other| moment(other) != moment(&found[0])) {
        return Some("the answers are not all of one moment, or of one failure");
    }
    let asked = || urls.iter().zip(found);
    let differs = asked().any(|(url, one)| asked().any(|(again, other)| url == again && one != other));
    differs.then_some("a URL asked for twice has two answers")
}

fn ticket(found: &Found) -> Option<GuestTicket> {
    found.as_ref().ok().map(ticket_of)
}

fn ticket_of(lookup: &Lookup) -> GuestTicket {
    match lookup {
        Lookup::Hit(entry) => entry.ticket,
        Lookup::Miss(ticket) => *ticket,
    }
}

fn answer_of_get(found: Found) -> Answer {
    match found {
        Ok(Lookup::Hit(entry)) => Answer::Hit {
            document: document_number(&entry.metadata),
            expires_at: entry.expires_at,
            fresh_for: entry.fresh_for,
            ticket_at: entry.ticket.read_at(),
        },
        Ok(Lookup::Miss(ticket)) => Answer::Miss { ticket_at: ticket.read_at() },
        Err(error) => answer_of_error(&error),
    }
}

fn answer_of_error(error: &Error) -> Answer {
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

#[cfg(test)]
mod tests {
    use cimd_cache_guest::cache::Entry;

    use super::*;

    #[test]
    fn the_answers_of_a_get_many_have_to_agree() {
        let at = |read_at, purged_at| GuestTicket::new(read_at, purged_at).unwrap();
        let hit =
            |ticket| Ok(Lookup::Hit(Entry { metadata: "{}".into(), expires_at: 1, fresh_for: 1, ticket }));
        let miss = |ticket| Ok(Lookup::Miss(ticket));
        let one = at(7, 1);
        for (found, agree) in [
            (vec![miss(one), hit(one), miss(one)], true),
            (vec![hit(one), hit(one), hit(one)], true),
            (vec![Err(Error::TimedOut), Err(Error::TimedOut), Err(Error::TimedOut)], true),
            (vec![miss(one), hit(one)], false),
            (vec![miss(one), hit(one), miss(one), miss(one)], false),
            (vec![], false),
            (vec![miss(one), hit(at(8, 1)), miss(one)], false),
            (vec![miss(one), hit(at(7, 2)), miss(one)], false),
            (vec![miss(one), Err(Error::TimedOut), miss(one)], false),
            (vec![Err(Error::TimedOut), Err(Error::Storage), Err(Error::TimedOut)], false),
            (vec![miss(one), hit(one), hit(one)], false),
        ] {
            let urls = [0, 1, 0].map(url);
            assert_eq!(discord(&urls, &found).is_none(), agree, "{found:?}");
            assert_eq!(told_of_many(&urls, found).answers.len(), 3);
        }
    }
}
