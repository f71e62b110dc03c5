//! What every way in has in common: requests in lines on stdin, answers in lines on stdout.

use std::io::Write;
use std::sync::Arc;

use cimd_cache_conformance::Request;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Something that answers calls: with what the call returns, or with the name of an error's case.
pub(crate) trait Answers: Send + Sync + 'static {
    fn answer(
        &self,
        call: &str,
        args: Map<String, Value>,
    ) -> impl Future<Output = Result<Value, String>> + Send;
}

/// Serves until stdin ends.
pub(crate) async fn serve(way: impl Answers) {
    let way = Arc::new(way);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        let Request { id, call, args } = serde_json::from_str(&line).unwrap();
        let way = way.clone();
        tokio::spawn(async move {
            let answer = match way.answer(&call, args).await {
                Ok(ok) => json!({ "id": id, "ok": ok }),
                Err(error) => json!({ "id": id, "error": error }),
            };
            let mut out = std::io::stdout().lock();
            writeln!(out, "{answer}").unwrap();
            out.flush().unwrap();
        });
    }
}

/// All calls that a way in may have.
pub(crate) const CALLS: [&str; 7] = ["get", "get-many", "put", "delete", "purge", "sweep", "check"];

/// What a way in says of itself.
pub(crate) fn hello(name: &str, calls: &[&str]) -> Value {
    json!({ "name": name, "version": env!("CARGO_PKG_VERSION"), "calls": calls })
}

/// A text among the arguments.
pub(crate) fn text<'a>(args: &'a Map<String, Value>, name: &str) -> &'a str {
    args[name].as_str().unwrap()
}
