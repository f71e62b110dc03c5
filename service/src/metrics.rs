//! What is counted, in Prometheus' terms. No label has a value that a client has chosen, so the number of
//! series is fixed.

use std::sync::Arc;
use std::time::Duration;

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
use crate::call::Kind;
use crate::health::Health;
use crate::process;

/// In seconds: from a hit in the near cache to the longest deadline.
const BUCKETS: [f64; 11] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0];

/// What the service counts by itself. What the library counts is read from its [`Stats`].
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    /// One for each kind of call.
    outcomes: [Family<ByOutcome, Counter>; Kind::ALL.len()],
    refusals: Family<ByCode, Counter>,
    seconds: Family<ByCall, Histogram, fn() -> Histogram>,
    clients: ConnectionCounts,
    operators: ConnectionCounts,
    swept: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCall {
    call: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPool {
    pool: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    pool: &'static str,
    state: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let outcomes = Kind::ALL.map(|kind| {
            let family = Family::default();
            // All series are there from the start, or the first failure would be no increase.
            for &outcome in kind.outcomes().iter().chain(&["error"]) {
                drop(family.get_or_create(&ByOutcome { outcome }));
            }
            family
        });
        Self(Arc::new(Counted {
            outcomes,
            refusals: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            clients: ConnectionCounts::default(),
            operators: ConnectionCounts::default(),
            swept: Counter::default(),
        }))
    }

    /// Counts a request that was answered: what came of each of its calls, or why it was refused.
    pub(crate) fn count(&self, kind: Kind, outcomes: &[Outcome], took: Duration) {
        let Counted { outcomes: families, refusals, seconds, .. } = &*self.0;
        for outcome in outcomes {
            let label = ByOutcome { outcome: outcome.map_or("error", |outcome| outcome) };
            families[kind as usize].get_or_create(&label).inc();
            if let Err(code) = *outcome {
                refusals.get_or_create(&ByCode { code }).inc();
            }
        }
        seconds.get_or_create(&ByCall { call: kind.name() }).observe(took.as_secs_f64());
    }

    /// The service itself has removed rows.
    pub(crate) fn swept(&self, rows: u32) {
        self.0.swept.inc_by(rows.into());
    }

    pub(crate) fn clients(&self) -> ConnectionCounts {
        self.0.clients.clone()
    }

    pub(crate) fn operators(&self) -> ConnectionCounts {
        self.0.operators.clone()
    }

    /// Everything, in OpenMetrics' text.
    pub(crate) fn text(&self, cache: &Cache, health: &Health) -> String {
        let mut registry = Registry::with_prefix("cimd_cache");
        self.register(&mut registry, health);
        library(&mut registry, &cache.stats());
        let mut of_process = Registry::with_prefix("process");
        process::register(&mut of_process);
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode_registry(&mut text, &registry)
            .and_then(|()| encode_registry(&mut text, &of_process))
            .and_then(|()| encode_eof(&mut text));
        text
    }

    fn register(&self, registry: &mut Registry, health: &Health) {
        let Counted { outcomes, refusals, seconds, clients, operators, swept } = &*self.0;
        registry.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        for (kind, family) in Kind::ALL.into_iter().zip(outcomes) {
            registry.register(kind.counter(), kind.help(), family.clone());
        }
        registry.register("refusals", "Calls that failed, by the code of their problem", refusals.clone());
        registry.register("call_seconds", "How long requests took", seconds.clone());
        registry.register("swept_rows", "Rows that the service itself has removed", swept.clone());
        gauge(registry, "up", "1 if the database answered when it was last asked", health.is_up().into());
        for (name, help, counts) in [
            ("client_connections", "Connections of clients", clients),
            ("operator_connections", "Connections of operators", operators),
        ] {
            registry.register(name, help, counts.open.clone());
            registry.register(
                format!("{name}_refused"),
                format!("{help} beyond the limit"),
                counts.refused.clone(),
            );
        }
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
        ("instances_discarded", "Instances of the component that failed", stats.instances_discarded),
        ("shed", "Calls refused at once because they could not have been served in time", stats.shed),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    let pools = [("read", stats.reads), ("write", stats.writes), ("maintenance", stats.maintenance)];
    let (waiting, in_flight) = (Family::<ByPool, Gauge>::default(), Family::<ByPool, Gauge>::default());
    let connections = Family::<ByState, Gauge>::default();
    for (pool, now) in pools {
        waiting.get_or_create(&ByPool { pool }).set(signed(now.waiting));
        in_flight.get_or_create(&ByPool { pool }).set(signed(now.in_flight));
        for (state, count) in [
            ("idle", now.connections.saturating_sub(now.in_flight)),
            ("busy", now.in_flight),
            ("connecting", now.connecting),
        ] {
            connections.get_or_create(&ByState { pool, state }).set(signed(count));
        }
    }
    registry.register("waiting", "Calls that wait for a worker", waiting);
    registry.register("in_flight", "Workers that serve calls", in_flight);
    registry.register("database_connections", "Connections to the database, by what they do", connections);
    gauge(registry, "database_connections_silent", "Connections on which an answer is overdue", stats.silent);
    gauge(registry, "instances", "Instances of the component, one for each worker", stats.workers);
    let near_bytes = usize::try_from(stats.near_bytes).unwrap_or(usize::MAX);
    gauge(registry, "near_bytes", "Bytes in the near cache", near_bytes);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: usize) {
    let gauge = Gauge::<i64>::default();
    gauge.set(signed(value));
    registry.register(name, help, gauge);
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The connections of clients, or of operators.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionCounts {
    open: Gauge,
    refused: Counter,
}

impl ConnectionCounts {
    /// One connection more, until the guard is dropped.
    pub(crate) fn open(&self) -> Open {
        self.open.inc();
        Open(self.open.clone())
    }

    /// A connection was closed unserved, because there were too many.
    pub(crate) fn refused(&self) {
        self.refused.inc();
    }
}

/// A connection, while it lasts.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
