//! What is seen of each call from outside: its span, its outcome in the metrics, and what it shows of the
//! database.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::answer::Outcomes;
use crate::call::Kind;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::request::TIMEOUT;

/// Who wants to know.
pub(crate) type Observers = Option<(Metrics, Health)>;

pub(crate) async fn observe(
    State((kind, observers)): State<(Kind, Observers)>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let is_hurried = request.headers().contains_key(TIMEOUT);
    let span = span(kind, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    let outcomes = response.extensions().get::<Outcomes>().map_or(&[][..], |outcomes| &outcomes.0);
    span.record("status", response.status().as_u16());
    if let [Ok(outcome) | Err(outcome)] = outcomes {
        span.record("outcome", outcome);
    }
    if let Some((metrics, health)) = observers {
        metrics.count(kind, outcomes, began.elapsed());
        for outcome in outcomes {
            health.saw(*outcome, is_hurried);
        }
    }
    response
}

/// A span of a call. It has nothing that a client has chosen, but for the trace that it belongs to
/// (`traceparent`, W3C Trace Context).
fn span(kind: Kind, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: "cimd_cache_service",
        "request",
        call = kind.name(),
        outcome = Empty,
        status = Empty,
        otel.kind = "server",
    );
    #[cfg(feature = "otlp")]
    if !span.is_disabled() {
        use tracing_opentelemetry::OpenTelemetrySpanExt;
        let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.extract(&Carrier(headers))
        });
        // An error means that no exporter is there.
        let _ = span.set_parent(parent);
    }
    #[cfg(not(feature = "otlp"))]
    let _ = headers;
    span
}

/// The headers of a request, as OpenTelemetry reads them.
#[cfg(feature = "otlp")]
struct Carrier<'a>(&'a HeaderMap);

#[cfg(feature = "otlp")]
impl opentelemetry::propagation::Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}
