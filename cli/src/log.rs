//! Where events and spans go: to stderr, and to a collector of traces if there is one.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::{Arguments, Command};
use crate::outcome::Failed;

/// Ends when the program does: what has not been sent yet is sent then.
#[must_use]
pub(super) struct Log {
    #[cfg(feature = "otlp")]
    traces: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Log {
    pub(super) fn begin(arguments: &Arguments) -> Result<Self, Failed> {
        let level = match (arguments.verbose, &arguments.command) {
            (true, _) => LevelFilter::DEBUG,
            // A service has nobody to print to but its log.
            (false, Command::Serve(_)) => LevelFilter::INFO,
            (false, _) => LevelFilter::OFF,
        };
        let colours = io::stderr().is_terminal();
        let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colours);
        let log = tracing_subscriber::registry().with(lines.with_filter(level));
        #[cfg(not(feature = "otlp"))]
        {
            log.init();
            Ok(Self {})
        }
        #[cfg(feature = "otlp")]
        {
            let endpoint = match &arguments.command {
                Command::Serve(serve) => serve.otlp_endpoint.as_deref(),
                _ => None,
            };
            let traces = endpoint.map(traces_to).transpose()?;
            let layer = traces.as_ref().map(|traces| {
                use opentelemetry::trace::TracerProvider;
                let tracer = traces.tracer("cimd-cache");
                tracing_opentelemetry::layer()
                    .with_tracer(tracer)
                    // A trace says what was done and how it went, not where in our source.
                    .with_location(false)
                    .with_threads(false)
                    .with_target(false)
                    .with_filter(tracing_subscriber::filter::Targets::new().with_targets([
                        ("cimd_cache", LevelFilter::INFO),
                        ("cimd_cache_service", LevelFilter::INFO),
                    ]))
            });
            log.with(layer).init();
            Ok(Self { traces })
        }
    }

    /// Sends what has not been sent yet.
    pub(super) fn end(self) {
        #[cfg(feature = "otlp")]
        if let Some(traces) = self.traces {
            // A collector that is away must not keep the service from ending.
            let _ = traces.shutdown_with_timeout(std::time::Duration::from_secs(2));
        }
    }
}

#[cfg(feature = "otlp")]
fn traces_to(endpoint: &str) -> Result<opentelemetry_sdk::trace::SdkTracerProvider, Failed> {
    use opentelemetry::global;
    use opentelemetry_otlp::{SpanExporter, WithExportConfig};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    if !url.starts_with("http://") {
        return Err(Failed::usage(
            "--otlp-endpoint must begin with http://: run a collector on this machine, which can send on with TLS",
        ));
    }
    let exporter = SpanExporter::builder().with_http().with_endpoint(url).build();
    let exporter =
        exporter.map_err(|error| Failed::usage(format!("--otlp-endpoint cannot be used: {error}")))?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    let resource = Resource::builder().with_service_name("cimd-cache").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}
