//! The description of the interface, for generators of clients and for people.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

/// OpenAPI 3.1. It is written by hand, because it is a contract: a test holds it against the routes and the
/// problems.
pub const OPENAPI: &str = include_str!("../openapi.json");

pub(crate) async fn serve() -> Response {
    let mut response = OPENAPI.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::body::Body;
    use axum::http::{Method, Request, StatusCode};
    use cimd_cache::Cache;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;
    use crate::problem::Problem;

    fn described() -> Value {
        serde_json::from_str(OPENAPI).unwrap()
    }

    #[test]
    fn it_lists_every_problem() {
        let described = described();
        let codes = &described["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
        let codes: BTreeSet<_> =
            codes.as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
        assert_eq!(codes, Problem::all().iter().map(Problem::code).collect());
    }

    /// Each path has the methods that are described, and no others.
    #[tokio::test]
    async fn it_describes_the_routes_as_they_are() {
        let router = crate::router(Cache::builder().build().unwrap());
        let described = described();
        let paths = described["paths"].as_object().unwrap();
        for (path, item) in paths {
            for method in
                [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH, Method::HEAD]
            {
                let request = Request::builder().method(&method).uri(path).body(Body::empty()).unwrap();
                let status = router.clone().oneshot(request).await.unwrap().status();
                let is_described = item.get(method.as_str().to_lowercase()).is_some();
                assert_ne!(status, StatusCode::NOT_FOUND, "{path}");
                assert_eq!(
                    status != StatusCode::METHOD_NOT_ALLOWED,
                    is_described,
                    "{method} {path}: {status}"
                );
            }
        }
        for path in ["/", "/v1", "/v1/clients", "/v1/document/", "/v1/clients/x", "/health/live", "/metrics"]
        {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            assert_eq!(
                router.clone().oneshot(request).await.unwrap().status(),
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
    }
}
