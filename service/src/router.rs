//! The routes, each with the role that it needs.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use cimd_cache::Cache;

use crate::access::guard;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::openapi;
use crate::problem::Problem;
use crate::role::Role;
use crate::{calls, metrics};

/// The interface `/v1` of a cache, to mount in an axum of your own, which must guard it: only the listeners
/// of
/// [`serve`](crate::serve) check who may call.
pub fn router(cache: Cache) -> Router {
    counted(cache, &Metrics::new(), None)
}

/// The same, with its calls counted.
pub(crate) fn counted(cache: Cache, metrics: &Metrics, health: Option<&Health>) -> Router {
    let route = |name: &'static str, role: Role, route: MethodRouter<Cache>| {
        let counted =
            middleware::from_fn_with_state((metrics.clone(), health.cloned(), name), metrics::count);
        route.route_layer(middleware::from_fn_with_state(role, guard)).route_layer(counted)
    };
    let document = route("get", Role::Read, get(calls::get))
        .merge(route("put", Role::Write, put(calls::put)))
        .merge(route("delete", Role::Admin, delete(calls::delete)));
    Router::new()
        .route("/v1/document", document)
        .route("/v1/lookup", route("lookup", Role::Read, post(calls::lookup)))
        .route("/v1/purge", route("purge", Role::Admin, post(calls::purge)))
        .route("/v1/sweep", route("sweep", Role::Admin, post(calls::sweep)))
        .route("/openapi.json", route("openapi", Role::Read, get(openapi::serve)))
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
