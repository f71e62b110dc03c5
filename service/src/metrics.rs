//! What is counted, in Prometheus' terms. No label has a value that a client has chosen, so the number of
//! series is fixed.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use cimd_cache::{Cache, Stats};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::answer::Outcome;
use crate::health::Health;
use crate::problem::Code;

/// In seconds: from a hit in the near cache to the longest deadline.
const BUCKETS: [f64; 11] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0];

/// What the service counts by itself. What the library counts is read from its [`Stats`].
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Counted>);

type Histograms = Family<Timed, Histogram, fn() -> Histogram>;

#[derive(Debug)]
struct Counted {
    calls: Family<Call, Counter>,
    problems: Family<Problems, Counter>,
    seconds: Histograms,
    connections: Gauge,
    refused: Counter,
    swept: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Problems {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    call: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Counted {
            calls: Family::default(),
            problems: Family::default(),
            seconds: Histograms::new_with_constructor(|| Histogram::new(BUCKETS)),
            connections: Gauge::default(),
            refused: Counter::default(),
            swept: Counter::default(),
        }))
    }

    /// One connection more, until the guard is dropped.
    pub(crate) fn connection(&self) -> Connection {
        self.0.connections.inc();
        Connection(self.clone())
    }

    /// A connection was closed unserved, because there were too many.
    pub(crate) fn connection_refused(&self) {
        self.0.refused.inc();
    }

    /// The service itself has removed rows.
    pub(crate) fn swept(&self, rows: u32) {
        self.0.swept.inc_by(rows.into());
    }

    /// Everything, in OpenMetrics' text.
    pub(crate) fn text(&self, cache: &Cache, health: &Health) -> String {
        let mut registry = Registry::with_prefix("cimd_cache");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", version);
        let Counted { calls, problems, seconds, connections, refused, swept } = &*self.0;
        registry.register("calls", "Calls that were answered, by their outcome", calls.clone());
        registry.register(
            "problems",
            "Requests that were not answered, by their problem's code",
            problems.clone(),
        );
        registry.register("call_seconds", "How long calls took", seconds.clone());
        registry.register("client_connections", "Connections of clients", connections.clone());
        registry.register("client_connections_refused", "Connections beyond the limit", refused.clone());
        registry.register("swept_rows", "Rows that the service itself has removed", swept.clone());
        let up = Gauge::<i64>::default();
        up.set(health.is_up().into());
        registry.register("up", "1 if the database answered when it was last asked", up);
        library(&mut registry, &cache.stats());
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode_registry(&mut text, &registry).and_then(|()| encode_eof(&mut text));
        text
    }
}

/// What the library says of itself.
fn library(registry: &mut Registry, stats: &Stats) {
    for (name, help, value) in [
        ("statements", "Statements sent", stats.statements),
        ("statements_prepared", "Statements prepared", stats.statements_prepared),
        ("database_connections_opened", "Connections to the database opened", stats.connections_opened),
        ("batches", "Statements that looked several documents up", stats.batches),
        ("batched_keys", "Documents that those looked up", stats.batched_keys),
        (
            "instances_discarded",
            "Instances of the component discarded because it failed",
            stats.instances_discarded,
        ),
        ("shed", "Calls refused at once because they could not have been served in time", stats.shed),
        ("near_hits", "Gets that the near cache answered", stats.near_hits),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    for (name, help, value) in [
        ("waiting", "Calls that wait for a worker", count(stats.waiting)),
        ("in_flight", "Workers that serve calls", count(stats.in_flight)),
        ("workers", "Workers, each with one connection and one instance", count(stats.workers)),
        ("database_connections", "Connections to the database that are open", count(stats.connections)),
        ("database_connections_opening", "Connections that are being opened", count(stats.connecting)),
        ("database_connections_silent", "Connections on which an answer is overdue", count(stats.silent)),
        ("near_bytes", "Bytes in the near cache", i64::try_from(stats.near_bytes).unwrap_or(i64::MAX)),
    ] {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
}

/// A client's connection, while it lasts.
#[derive(Debug)]
pub(crate) struct Connection(Metrics);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.0.connections.dec();
    }
}

/// Counts the calls of a route, and what they show of the database.
pub(crate) async fn count(
    State((metrics, health, call)): State<(Metrics, Option<Health>, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let response = next.run(request).await;
    let Metrics(counted) = &metrics;
    let outcome = response.extensions().get::<Outcome>().map_or("error", |outcome| outcome.0);
    counted.calls.get_or_create(&Call { call, outcome }).inc();
    let code = response.extensions().get::<Code>().map(|Code(code)| *code);
    if let Some(code) = code {
        counted.problems.get_or_create(&Problems { code }).inc();
    }
    if let Some(health) = health {
        match code {
            None => health.shown(true),
            Some("unavailable" | "timed-out" | "storage") => health.shown(false),
            Some(_) => {}
        }
    }
    counted.seconds.get_or_create(&Timed { call }).observe(began.elapsed().as_secs_f64());
    response
}
