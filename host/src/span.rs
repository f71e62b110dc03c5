//! A span for each call, so that a trace of a login goes on here.
//!
//! It is a child of whatever span the caller is in, and tells how the call ended; what is logged while the
//! call is served belongs to it. Never in it: a URL, a document, or anything else that a stranger has chosen.

use tracing::{Instrument, Span};

/// A span of the level `info` with the field `outcome`, and others that are named.
macro_rules! call_span {
    ($name:literal $(, $field:ident)*) => {
        tracing::info_span!(
            target: "cimd_cache",
            concat!("cimd_cache::", $name),
            outcome = tracing::field::Empty,
            $($field = tracing::field::Empty)*
        )
    };
}

pub(crate) use call_span;

/// Makes a call within its span, and records there what came of it.
pub(crate) async fn within<T, E>(
    span: Span,
    call: impl Future<Output = Result<T, E>>,
    outcome: impl FnOnce(&T) -> &'static str,
    error: impl FnOnce(&E) -> &'static str,
) -> Result<T, E> {
    let result = call.instrument(span.clone()).await;
    span.record(
        "outcome",
        match &result {
            Ok(answer) => outcome(answer),
            Err(failed) => error(failed),
        },
    );
    result
}
