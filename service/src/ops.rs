//! The operators' listener: health and metrics, and nothing else. It needs no token, and shows nothing of
//! clients.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cimd_cache::Cache;

use crate::health::Health;
use crate::metrics::Metrics;

#[derive(Clone)]
struct Ops {
    cache: Cache,
    metrics: Metrics,
    health: Health,
}

pub(crate) fn router(cache: Cache, metrics: Metrics, health: Health) -> Router {
    Router::new()
        .route("/health/live", get(async || "live\n"))
        .route("/health/ready", get(ready))
        .route("/health/database", get(database))
        .route("/metrics", get(metrics_text))
        .with_state(Ops { cache, metrics, health })
}

/// Whether this process should be sent calls. A database that is away for a moment does not change that: all
/// nodes would be taken out at once, though near-cache hits are still served and clients know what to do.
async fn ready(State(ops): State<Ops>) -> Response {
    say(ops.health.is_ready(), "ready\n", "not ready\n")
}

/// Whether the database answered when it was last asked.
async fn database(State(ops): State<Ops>) -> Response {
    say(ops.health.is_up(), "up\n", "down\n")
}

async fn metrics_text(State(ops): State<Ops>) -> Response {
    let mut response = ops.metrics.text(&ops.cache, &ops.health).into_response();
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn say(holds: bool, yes: &'static str, no: &'static str) -> Response {
    if holds { yes.into_response() } else { (StatusCode::SERVICE_UNAVAILABLE, no).into_response() }
}
