//! What every call has in common: what the client accepts, how long it waits, and its body.

use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, Request, header};
use bytes::Bytes;
use cimd_cache::Cache;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::problem::Problem;
use crate::query::Query;

/// How long a client may take to send a body.
const BODY_WITHIN: Duration = Duration::from_secs(10);

pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("cimd-timeout-ms");

/// A request that this service can answer.
pub(crate) struct Call {
    /// The cache, with the deadline that the client asks for.
    pub(crate) cache: Cache,
    pub(crate) query: Query,
    headers: HeaderMap,
    body: Body,
}

impl Call {
    /// A call with the parameters `known`.
    pub(crate) fn read(cache: Cache, request: Request<Body>, known: &[&str]) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !accepts_json(&parts.headers) {
            return Err(Problem::NotAcceptable);
        }
        let cache = match timeout(&parts.headers)? {
            Some(timeout) => cache.with_deadline(timeout),
            None => cache,
        };
        let query = Query::read(parts.uri.query(), known)?;
        Ok(Self { cache, query, headers: parts.headers, body })
    }

    /// The body, which must be JSON by its type and at most so long.
    pub(crate) async fn json(&mut self, most: usize) -> Result<Bytes, Problem> {
        let is_json = self.headers.get(header::CONTENT_TYPE).is_some_and(|value| {
            let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
            essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
        });
        if !is_json || self.headers.contains_key(header::CONTENT_ENCODING) {
            return Err(Problem::ContentType);
        }
        self.collect(most, Problem::Body("sent to its end")).await
    }

    /// Refuses a body where the call has none.
    pub(crate) async fn no_body(&mut self) -> Result<(), Problem> {
        match self.collect(0, Problem::Body("empty")).await {
            Err(Problem::BodyTooLarge) => Err(Problem::Body("empty")),
            collected => collected.map(drop),
        }
    }

    async fn collect(&mut self, most: usize, broken: Problem) -> Result<Bytes, Problem> {
        let body = std::mem::take(&mut self.body);
        let body = tokio::time::timeout(BODY_WITHIN, Limited::new(body, most).collect()).await;
        match body.map_err(|_| Problem::BodyTimeout)? {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(Problem::BodyTooLarge),
            Err(_) => Err(broken),
        }
    }
}

/// A whole number, written in digits and nothing else: `+1` is not one.
pub(crate) fn number<T: FromStr>(text: &str) -> Option<T> {
    Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// Whether `Accept` allows JSON (RFC 9110 section 12.5.1). One that gives it a weight of 0 does not.
fn accepts_json(headers: &HeaderMap) -> bool {
    let mut ranges = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .peekable();
    if ranges.peek().is_none() {
        return true;
    }
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default().to_ascii_lowercase();
        let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        !refused && matches!(&*range, "*/*" | "application/*" | "application/json")
    })
}

fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    match value.to_str().ok().and_then(number) {
        Some(millis @ 1..) => Ok(Some(Duration::from_millis(millis))),
        _ => Err(Problem::HeaderValue("Cimd-Timeout-Ms", "a number of milliseconds, at least 1")),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn json_is_accepted_unless_it_is_ruled_out() {
        for (accept, accepted) in [
            (None, true),
            (Some("*/*"), true),
            (Some("application/json"), true),
            (Some("text/html, application/*;q=0.5"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("text/html"), false),
            (Some("application/json;q=0"), false),
            (Some("application/problem+json"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(accepts_json(&headers), accepted, "{accept:?}");
        }
    }

    #[test]
    fn a_timeout_is_a_number_of_milliseconds() {
        for (text, expected) in [
            ("1", Ok(1)),
            ("250", Ok(250)),
            ("0", Err(())),
            ("-1", Err(())),
            ("+1", Err(())),
            ("1s", Err(())),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, HeaderValue::from_static(text));
            let read = timeout(&headers).map_err(drop);
            assert_eq!(read, expected.map(|millis| Some(Duration::from_millis(millis))), "{text}");
        }
    }
}
