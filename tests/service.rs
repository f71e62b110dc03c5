//! The service as clients in any language use it: HTTP over a Unix socket or a port, byte for byte.

mod access;
mod calls;
mod deployment;
mod encryption;
mod operation;
#[cfg(feature = "otlp")]
mod traces;

/// The client_id of most tests, percent-encoded.
const ENCODED: &str = "https%3A%2F%2Fclient.example%2Fmetadata.json";

fn get(id: &str) -> String {
    format!("GET /v1/document?client_id={id}")
}
