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
use crate::request::{Call, number};

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
    log("get", &client_id);
    let looked = Looked::of(call.cache.get(&client_id).await?)?;
    let outcome = looked.outcome();
    let mut response = answer::json(vec![outcome], &looked);
    let header = if outcome == Ok("miss") { "miss" } else { "hit" };
    response.headers_mut().insert(OUTCOME, HeaderValue::from_static(header));
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
    client_ids.iter().for_each(|client_id| log("lookup", client_id));
    let gets =
        client_ids.iter().map(async |url| Looked::from(call.cache.get(url).await.map_err(Problem::Cache)));
    let answers = join_all(gets).await;
    Ok(answer::json(answers.iter().map(Looked::outcome).collect(), &Answers { answers }))
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
    log("put", &client_id);
    let outcome = match call.cache.put(&client_id, document, expiry, ticket.as_ref()).await? {
        PutOutcome::Stored => "stored",
        PutOutcome::Superseded => "superseded",
    };
    Ok(answer::json(vec![Ok(outcome)], &Put { outcome }))
}

fn expiry(query: &mut Query) -> Result<Expiry, Problem> {
    match (query.take("expires_in"), query.take("expires_at")) {
        (Some(seconds), None) => {
            let wrong = Problem::ParameterValue("expires_in", "a whole number of seconds");
            Ok(Expiry::After(Duration::from_secs(number(&seconds).ok_or(wrong)?)))
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
    log("delete", &client_id);
    let had_document = call.cache.delete(&client_id).await?;
    let outcome = if had_document { "deleted" } else { "absent" };
    Ok(answer::json(vec![Ok(outcome)], &Deleted { outcome: "deleted", had_document }))
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
    Ok(answer::json(vec![Ok("purged")], &Purged { outcome: "purged" }))
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
            let limit = number(&text).filter(|limit| *limit > 0);
            limit.ok_or(Problem::ParameterValue("limit", "a whole number, at least 1"))?
        }
    };
    let swept = call.cache.sweep(limit).await?;
    Ok(answer::json(vec![Ok("swept")], &Swept { outcome: "swept", removed: swept.removed, more: swept.more }))
}

#[derive(Serialize)]
struct Ready {
    outcome: &'static str,
}

/// `GET /v1/check`: whether the cache can work, or what is missing.
pub(crate) async fn check(State(cache): State<Cache>, request: Request<Body>) -> Answer {
    let mut call = Call::read(cache, request, &[])?;
    call.no_body().await?;
    call.cache.check().await.map_err(|error| Problem::NotReady(error.to_string()))?;
    Ok(answer::json(vec![Ok("ready")], &Ready { outcome: "ready" }))
}

/// At level debug the log says which host a call was about, and no more of its URL at any level.
fn log(call: &str, client_id: &str) {
    let host = client_id.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next());
    let host = host.and_then(|host| host.rsplit('@').next()).unwrap_or_default();
    tracing::debug!(target: "cimd_cache_service", call, host, "called");
}
