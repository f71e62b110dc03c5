//! The answer to a call that fails: problem details (RFC 9457).
//!
//! Programs switch on `code`; the status is for proxies and metrics; `detail` is one sentence for people,
//! either the library's or one of those below. It never contains what was sent, SQL, or a message of the
//! server.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cimd_cache::Error;
use serde_json::json;

use crate::answer::Outcomes;

/// What `type` begins with. It need not lead anywhere (RFC 9457 section 3.1.1); what each code means is in
/// docs/operating.md.
pub(crate) const TYPES: &str = "urn:cimd-cache:problem:";

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error(transparent)]
    Cache(#[from] Error),
    /// The check has found what is missing.
    #[error("{0}")]
    NotReady(String),
    #[error(
        "the query is not a list of name=value, percent-encoded UTF-8: encode each value, & and % included"
    )]
    QuerySyntax,
    #[error("the query has a parameter that this call does not have: encode the & within a client_id as %26")]
    UnknownParameter,
    #[error("the query has a parameter twice: encode the & within a client_id as %26")]
    ParameterTwice,
    #[error("the parameter {0} is missing")]
    MissingParameter(&'static str),
    #[error("the parameter {0} must be {1}")]
    ParameterValue(&'static str, &'static str),
    #[error("expires_in and expires_at are both given, or neither is: give one of them")]
    OneExpiry,
    #[error("the header {0} must be {1}")]
    HeaderValue(&'static str, &'static str),
    #[error("the body must be {0}")]
    Body(&'static str),
    #[error("the body is larger than this call takes")]
    BodyTooLarge,
    #[error("the body did not arrive within 10 seconds")]
    BodyTimeout,
    #[error("the Content-Type must be application/json")]
    ContentType,
    #[error("the answer is application/json, which the Accept of this request does not allow")]
    NotAcceptable,
    #[error("there is no such resource")]
    NotFound,
    #[error("this resource does not have that method: Allow lists those that it has")]
    Method,
    #[error("this listener needs a token: send `Authorization: Bearer TOKEN`")]
    NoToken,
    #[error("the token is not one of this service's")]
    WrongToken,
    #[error("neither this listener nor this token may make that call")]
    Role,
    #[error("the Host of this request is not one that this listener serves")]
    Host,
    #[error("a web page may not make this call")]
    CrossSite,
}

impl Problem {
    /// For programs to switch on.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Cache(error) => error.code(),
            Self::NotReady(_) => "not-ready",
            Self::QuerySyntax => "query-syntax",
            Self::UnknownParameter => "unknown-parameter",
            Self::ParameterTwice => "parameter-twice",
            Self::MissingParameter(_) => "missing-parameter",
            Self::ParameterValue(..) => "parameter-value",
            Self::OneExpiry => "one-expiry",
            Self::HeaderValue(..) => "header-value",
            Self::Body(_) => "body",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyTimeout => "body-timeout",
            Self::ContentType => "content-type",
            Self::NotAcceptable => "not-acceptable",
            Self::NotFound => "not-found",
            Self::Method => "method",
            Self::NoToken => "no-token",
            Self::WrongToken => "wrong-token",
            Self::Role => "role",
            Self::Host => "host",
            Self::CrossSite => "cross-site",
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Cache(error) => match error {
                Error::InvalidUrl(_)
                | Error::InvalidMetadata(_)
                | Error::InvalidExpiry(_)
                | Error::InvalidTicket(_) => StatusCode::UNPROCESSABLE_ENTITY,
                Error::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                Error::TimedOut => StatusCode::GATEWAY_TIMEOUT,
                Error::NotConfigured | Error::Storage => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::QuerySyntax
            | Self::UnknownParameter
            | Self::ParameterTwice
            | Self::MissingParameter(_)
            | Self::ParameterValue(..)
            | Self::OneExpiry
            | Self::HeaderValue(..)
            | Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::Role | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    /// All of them, one of each kind, for the description of the interface.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let text = String::new;
        let cache = [
            Error::InvalidUrl(text()),
            Error::InvalidMetadata(text()),
            Error::InvalidExpiry(text()),
            Error::InvalidTicket(text()),
            Error::NotConfigured,
            Error::Unavailable,
            Error::TimedOut,
            Error::Storage,
        ];
        let own = [
            Self::NotReady(text()),
            Self::QuerySyntax,
            Self::UnknownParameter,
            Self::ParameterTwice,
            Self::MissingParameter(""),
            Self::ParameterValue("", ""),
            Self::OneExpiry,
            Self::HeaderValue("", ""),
            Self::Body(""),
            Self::BodyTooLarge,
            Self::BodyTimeout,
            Self::ContentType,
            Self::NotAcceptable,
            Self::NotFound,
            Self::Method,
            Self::NoToken,
            Self::WrongToken,
            Self::Role,
            Self::Host,
            Self::CrossSite,
        ];
        cache.into_iter().map(Self::Cache).chain(own).collect()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = json!({
            "type": format!("{TYPES}{}", self.code()),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.to_string(),
            "code": self.code(),
        });
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match status {
            // The library is back within a second of its database.
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response.extensions_mut().insert(Outcomes(vec![Err(self.code())]));
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_problem_has_a_code_of_its_own_and_a_sentence() {
        let codes: HashSet<_> = Problem::all().iter().map(Problem::code).collect();
        assert_eq!(codes.len(), Problem::all().len());
        for problem in Problem::all() {
            let response = problem.clone().into_response();
            assert!(response.status().is_client_error() || response.status().is_server_error());
            assert!(!problem.to_string().ends_with('.'), "{problem}");
        }
    }
}
