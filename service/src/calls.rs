//! The calls of `/v1`: from a request to a call of the library, and back.

use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Request};
use axum::response::Response;
use cimd_cache::{Cache, Expiry, PutOutcome, Ticket};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::answer::{self, Looked};
use crate::problem::Problem;
use crate::query::Query;
use crate::request::Call;

/// The largest body of a put: more than any document that is stored, so that the library can say what is
/// wrong with it.
const DOCUMENT_BYTES: usize = 64 << 10;

/// The largest body of a lookup: 64 of the longest URLs, escaped as far as JSON allows.
const LOOKUP_BYTES: usize = 1 << 20;

/// The most URLs of one lookup.
const URLS_AT_ONCE: usize = 64;

/// As the ticket of a put, it states that there is none.
const NO_TICKET: &str = "none";

const OUTCOME: HeaderName = HeaderName::from_static("cimd-cache");

type Answer = Result<Response, Problem>;

/// `GET /v1/document?client_id=…`
pub(crate) async fn get(State(cache): State<Cache>, request: Request<Body>) -> Answer {
    let mut call = Call::read(cache, request, &["client_id"])?;
    let client_id = call.query.require("client_id")?;
    let looked = Looked::of(call.cache.get(&client_id).await?)?;
    let mut response = answer::json(looked.outcome(), &looked);
    response.headers_mut().insert(OUTCOME, HeaderValue::from_static(looked.outcome()));
    Ok(response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientIds {
    client_ids: Vec<String>,
}

#[derive(Serialize)]
struct Answers {
    answers: Vec<Looked>,
}

/// `POST /v1/lookup`: the library asks for all of them in as few statements as it can.
pub(crate) async fn lookup(State(cache): State<Cache>, request: Request<Body>) -> Answer {
    let mut call = Call::read(cache, request, &[])?;
    let body = call.json(LOOKUP_BYTES).await?;
    let expected = Problem::Body("{\"client_ids\": […]} with 1 to 64 strings");
    let ClientIds { client_ids } = serde_json::from_slice(&body).map_err(|_| expected.clone())?;
    if !(1..=URLS_AT_ONCE).contains(&client_ids.len()) {
        return Err(expected);
    }
    let gets =
        client_ids.iter().map(async |url| Looked::from(call.cache.get(url).await.map_err(Problem::Cache)));
    Ok(answer::json("looked_up", &Answers { answers: join_all(gets).await }))
}

#[derive(Serialize)]
struct Put {
    outcome: &'static str,
}

/// `PUT /v1/document?client_id=…&ticket=…&expires_in=…`, or `expires_at`
pub(crate) async fn put(State(cache): State<Cache>, request: Request<Body>) -> Answer {
    let mut call = Call::read(cache, request, &["client_id", "ticket", "expires_in", "expires_at"])?;
    let client_id = call.query.require("client_id")?;
    // Clients and proxies repeat PUTs, and a repeated PUT without a ticket undoes a delete. So having none is
    // explicit.
    let ticket = Some(call.query.require("ticket")?).filter(|ticket| ticket != NO_TICKET).map(Ticket::from);
    let expiry = expiry(&mut call.query)?;
    let body = call.json(DOCUMENT_BYTES).await?;
    let document = str::from_utf8(&body).map_err(|_| Problem::Body("a JSON object in UTF-8"))?;
    let outcome = match call.cache.put(&client_id, document, expiry, ticket.as_ref()).await? {
        PutOutcome::Stored => "stored",
        PutOutcome::Superseded => "superseded",
    };
    Ok(answer::json(outcome, &Put { outcome }))
}

fn expiry(query: &mut Query) -> Result<Expiry, Problem> {
    match (query.take("expires_in"), query.take("expires_at")) {
        (Some(seconds), None) => {
            let digits = Some(seconds).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let seconds = digits.and_then(|text| text.parse().ok());
            let wrong = Problem::ParameterValue("expires_in", "a whole number of seconds");
            Ok(Expiry::After(Duration::from_secs(seconds.ok_or(wrong)?)))
        }
        (None, Some(time)) => {
            let wrong = Problem::ParameterValue("expires_at", "a time such as 2030-01-31T12:00:00Z");
            let time = OffsetDateTime::parse(&time, &Rfc3339).map_err(|_| wrong)?;
            Ok(Expiry::At(SystemTime::from(time)))
        }
        (None, None) | (Some(_), Some(_)) => Err(Problem::OneExpiry),
    }
}

#[derive(Serialize)]
struct Deleted {
    outcome: &'static str,
    had_document: bool,
}

/// `DELETE /v1/document?client_id=…`
pub(crate) async fn delete(State(cache): State<Cache>, request: Request<Body>) -> Answer {
    let mut call = Call::read(cache, request, &["client_id"])?;
    let client_id = call.query.require("client_id")?;
    call.no_body().await?;
    let had_document = call.cache.delete(&client_id).await?;
    let outcome = if had_document { "deleted" } else { "absent" };
    Ok(answer::json(outcome, &Deleted { outcome: "deleted", had_document }))
}

#[derive(Serialize)]
struct Purged {
    outcome: &'static str,
}

/// `POST /v1/purge`
pub(crate) async fn purge(State(cache): State<Cache>, request: Request<Body>) -> Answer {
    let mut call = Call::read(cache, request, &[])?;
    call.no_body().await?;
    call.cache.purge().await?;
    Ok(answer::json("purged", &Purged { outcome: "purged" }))
}

#[derive(Serialize)]
struct Swept {
    outcome: &'static str,
    removed: u32,
    more: bool,
}

/// `POST /v1/sweep?limit=…`: one call of the library, which removes at most 1,000 rows.
pub(crate) async fn sweep(State(cache): State<Cache>, request: Request<Body>) -> Answer {
    let mut call = Call::read(cache, request, &["limit"])?;
    call.no_body().await?;
    let limit = match call.query.take("limit") {
        None => u32::MAX,
        Some(text) => {
            let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let limit = digits.and_then(|text| text.parse().ok()).filter(|limit| *limit > 0);
            limit.ok_or(Problem::ParameterValue("limit", "a whole number, at least 1"))?
        }
    };
    let swept = call.cache.sweep(limit).await?;
    Ok(answer::json("swept", &Swept { outcome: "swept", removed: swept.removed, more: swept.more }))
}
