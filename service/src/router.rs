//! The routes, each with the role that it needs.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use cimd_cache::Cache;

use crate::access::guard;
use crate::call::Kind;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::observe::observe;
use crate::problem::Problem;
use crate::role::Role;
use crate::{calls, openapi};

/// The interface `/v1` of a cache, to mount in an axum of your own, which must guard it: only the listeners
/// of [`serve`](crate::serve) check who may call.
pub fn router(cache: Cache) -> Router {
    observed(cache, None)
}

/// The same, observed.
pub(crate) fn observed(cache: Cache, observers: Option<(&Metrics, &Health)>) -> Router {
    let observers = observers.map(|(metrics, health)| (metrics.clone(), health.clone()));
    let route = |kind: Kind, role: Role, route: MethodRouter<Cache>| {
        let observed = middleware::from_fn_with_state((kind, observers.clone()), observe);
        route.route_layer(middleware::from_fn_with_state(role, guard)).route_layer(observed)
    };
    let document = route(Kind::Lookup, Role::Read, get(calls::get))
        .merge(route(Kind::Put, Role::Write, put(calls::put)))
        .merge(route(Kind::Delete, Role::Admin, delete(calls::delete)));
    let description = get(openapi::serve).route_layer(middleware::from_fn_with_state(Role::Read, guard));
    Router::new()
        .route("/v1/document", document)
        .route("/v1/lookup", route(Kind::Lookup, Role::Read, post(calls::lookup)))
        .route("/v1/purge", route(Kind::Purge, Role::Admin, post(calls::purge)))
        .route("/v1/sweep", route(Kind::Sweep, Role::Admin, post(calls::sweep)))
        .route("/v1/check", route(Kind::Check, Role::Read, get(calls::check)))
        .route("/openapi.json", description)
        .fallback(async || Problem::NotFound)
        .method_not_allowed_fallback(async || Problem::Method)
        .layer(middleware::from_fn(no_head))
        .with_state(cache)
}

/// axum answers HEAD as GET without its body. A call of the cache for nobody is none.
async fn no_head(request: Request, next: Next) -> Response {
    if request.method() == axum::http::Method::HEAD {
        return Problem::Method.into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    /// Whatever is asked, the answer is a problem with a code, because there is no database: nothing panics, and
    /// nothing is answered.
    #[tokio::test]
    async fn any_request_has_a_problem_for_an_answer() {
        let router = router(Cache::builder().build().unwrap());
        let seeds = [
            "GET /v1/document?client_id=https%3A%2F%2Fc.example%2F\n250\napplication/json\n",
            "PUT /v1/document?client_id=a&ticket=none&expires_in=60\n\napplication/json; charset=utf-8\n{\"a\":1}",
            "PUT /v1/document?client_id=a&ticket=0006611e1c4e2c7f-0006611e1c3e42c7&expires_at=2030-01-31T12:00:00Z\n\n\n{}",
            "POST /v1/lookup\n1\napplication/json\n{\"client_ids\":[\"a\",\"\\u00e9\"]}",
            "POST /v1/sweep?limit=10\n\n*/*;q=0.1, text/html\n",
            "DELETE /v1/document?client_id=%00\n\n\n",
        ];
        let (mut asked, mut codes) = (0, std::collections::BTreeSet::new());
        for seed in 0..30_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (one, other) = (rng.choice(seeds).unwrap(), rng.choice(seeds).unwrap());
            let text = cimd_cache_fuzz::mutate::mutated(&mut rng, one.as_bytes(), other.as_bytes());
            let mut lines = text.splitn(4, '\n');
            let (line, timeout, kind) = (lines.next(), lines.next(), lines.next());
            let body = lines.next().unwrap_or_default().to_owned();
            let Some((method, target)) = line.and_then(|line| line.split_once(' ')) else { continue };
            let request = axum::http::Request::builder().method(method).uri(target);
            let request = request.header("cimd-timeout-ms", timeout.unwrap_or_default());
            let request = request.header("content-type", kind.unwrap_or_default());
            let request = request.header("accept", kind.unwrap_or_default());
            let Ok(request) = request.body(Body::from(body)) else { continue };
            let response = router.clone().oneshot(request).await.unwrap();
            let (status, body) = (response.status(), to_bytes(response.into_body(), 1 << 20).await.unwrap());
            // A lookup has an answer for each of its URLs.
            if status == 200 && body.starts_with(b"{\"answers\"") {
                assert!(!body.windows(5).any(|part| part == b"\"hit\"" || part == b"\"miss"));
                continue;
            }
            let problem: Value =
                serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{text:?}: {status}"));
            assert_eq!(problem["status"], status.as_u16(), "{text:?}");
            codes.insert(problem["code"].as_str().unwrap().to_owned());
            asked += 1;
        }
        assert!(asked > 10_000 && codes.len() > 10, "{asked} asked, {codes:?}");
    }
}
