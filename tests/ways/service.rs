//! The service as a way in: `cimd-cache serve` on a socket of its own, and HTTP to it.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Map, Value, json};
use support::http::{Client, encoded};
use support::service::connected;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::command::{answer, rfc3339};
use crate::lines::{Answers, CALLS, hello, text};

pub(crate) struct Service {
    directory: TempDir,
    _child: Child,
}

impl Service {
    pub(crate) async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listen = format!("unix:{}/cache.sock", directory.path().display());
        let child = Command::new(env!("CARGO_BIN_EXE_cimd-cache"))
            .args(["serve", "--listen", &listen, "--sweep-every", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let service = Self { directory, _child: child };
        drop(connected(&service.socket()).await);
        service
    }

    /// Runs a program that is a client of the service, and by itself a way in.
    pub(crate) async fn with(&self, program: &[&str]) {
        let mut client = Command::new(program[0]);
        client.args(&program[1..]).env("CIMD_CACHE_SOCKET", self.socket()).kill_on_drop(true);
        let ended = client.status().await;
        let ended = ended.unwrap_or_else(|error| panic!("{} cannot be run: {error}", program[0]));
        assert!(ended.success(), "{program:?}: {ended}");
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("cache.sock")
    }
}

impl Answers for Service {
    async fn answer(&self, call: &str, args: Map<String, Value>) -> Result<Value, String> {
        let document =
            |method: &str| format!("{method} /v1/document?client_id={}", encoded(text(&args, "client_id")));
        let (request, body) = match call {
            "hello" => return Ok(hello("service", &CALLS)),
            "get" => (document("GET"), None),
            "get-many" => {
                let body = json!({ "client_ids": args["client_ids"] }).to_string();
                ("POST /v1/lookup".to_owned(), Some(body))
            }
            "put" => {
                let ticket = args.get("ticket").map_or("none", |ticket| ticket.as_str().unwrap());
                let expiry = match args.get("expires_in") {
                    Some(seconds) => format!("expires_in={seconds}"),
                    None => format!("expires_at={}", rfc3339(args["expires_at"].as_i64().unwrap())),
                };
                let request = format!("{}&ticket={}&{expiry}", document("PUT"), encoded(ticket));
                (request, Some(text(&args, "metadata").to_owned()))
            }
            "delete" => (document("DELETE"), None),
            "purge" => ("POST /v1/purge".to_owned(), None),
            "check" => ("GET /v1/check".to_owned(), None),
            "sweep" => (format!("POST /v1/sweep?limit={}", args["limit"]), None),
            other => return Err(format!("no call {other}")),
        };
        let mut client = Client::new(UnixStream::connect(self.socket()).await.unwrap());
        let response = client.call(&request, body.as_deref()).await;
        match call {
            "get-many" => {
                let answers = response.json()["answers"].as_array().unwrap().clone();
                let each = answers.iter().map(|one| match answer(&one.to_string()) {
                    Ok(ok) => json!({ "ok": ok }),
                    Err(error) => json!({ "error": error }),
                });
                Ok(json!({ "answers": each.collect::<Vec<_>>() }))
            }
            _ => answer(&response.body),
        }
    }
}
