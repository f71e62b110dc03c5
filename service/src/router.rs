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
