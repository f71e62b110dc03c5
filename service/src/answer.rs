//! What a client is told when a call is answered. Documents are spliced in as they are stored: reading and
//! writing them again could change their numbers.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use cimd_cache::{Entry, Lookup};
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::problem::{Problem, TYPES};

/// The answer to one lookup: of [`Lookup`], or why there is none.
#[derive(Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub(crate) enum Looked {
    Hit {
        metadata: Box<RawValue>,
        expires_at: String,
        fresh_for_ms: u64,
        ticket: String,
        #[serde(skip)]
        is_near: bool,
    },
    Miss {
        ticket: String,
    },
    Error {
        #[serde(rename = "type")]
        kind: String,
        detail: String,
        code: &'static str,
    },
}

impl From<Result<Lookup, Problem>> for Looked {
    fn from(lookup: Result<Lookup, Problem>) -> Self {
        match lookup.and_then(Self::of) {
            Ok(looked) => looked,
            Err(problem) => Self::Error {
                kind: format!("{TYPES}{}", problem.code()),
                detail: problem.to_string(),
                code: problem.code(),
            },
        }
    }
}

impl Looked {
    pub(crate) fn of(lookup: Lookup) -> Result<Self, Problem> {
        Ok(match lookup {
            Lookup::Hit(Entry { metadata, expires_at, fresh_for, ticket, is_near }) => Self::Hit {
                // What Postgres gives as jsonb is JSON; another component might not keep to that.
                metadata: RawValue::from_string(metadata).map_err(|_| cimd_cache::Error::Storage)?,
                expires_at: OffsetDateTime::from(expires_at)
                    .format(&Rfc3339)
                    .map_err(|_| cimd_cache::Error::Storage)?,
                fresh_for_ms: u64::try_from(fresh_for.as_millis()).unwrap_or(u64::MAX),
                ticket: ticket.to_string(),
                is_near,
            },
            Lookup::Miss(ticket) => Self::Miss { ticket: ticket.to_string() },
        })
    }

    /// As the metrics count it.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Hit { is_near: false, .. } => Ok("hit"),
            Self::Hit { is_near: true, .. } => Ok("near_hit"),
            Self::Miss { .. } => Ok("miss"),
            Self::Error { code, .. } => Err(code),
        }
    }
}

/// How a call ended: one of the words of its [`Kind`](crate::call::Kind), or the code of a problem.
pub(crate) type Outcome = Result<&'static str, &'static str>;

/// How the calls of a request ended, on its response: for whoever observes it.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes(pub(crate) Vec<Outcome>);

/// A JSON object that no cache in between may keep: the cache is this service.
pub(crate) fn json(outcomes: Vec<Outcome>, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = body.into_response();
    response.extensions_mut().insert(Outcomes(outcomes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
