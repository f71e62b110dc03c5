//! The command as a way in: a process for each call.

use std::process::Stdio;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::library;
use crate::lines::{Answers, hello, text};

pub(crate) struct CommandLine;

impl CommandLine {
    pub(crate) fn open() -> Self {
        Self
    }
}

impl Answers for CommandLine {
    async fn answer(&self, call: &str, args: Map<String, Value>) -> Result<Value, String> {
        let client_id = || text(&args, "client_id").to_owned();
        let (arguments, input) = match call {
            "hello" => return Ok(hello("command", &["get", "put", "delete", "purge", "sweep", "check"])),
            "get" => (vec!["get".to_owned(), client_id()], ""),
            "put" => {
                let expiry = match args.get("expires_in") {
                    Some(seconds) => format!("--expires-in={seconds}"),
                    None => format!("--expires-at={}", rfc3339(args["expires_at"].as_i64().unwrap())),
                };
                let ticket =
                    args.get("ticket").map(|ticket| format!("--ticket={}", ticket.as_str().unwrap()));
                let arguments = ["put".to_owned(), client_id(), "-".to_owned(), expiry];
                (arguments.into_iter().chain(ticket).collect(), text(&args, "metadata"))
            }
            "delete" => (vec!["delete".to_owned(), client_id()], ""),
            "purge" | "check" => (vec![call.to_owned()], ""),
            "sweep" => (vec!["sweep".to_owned(), format!("--limit={}", args["limit"])], ""),
            other => return Err(format!("no call {other}")),
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_cimd-cache"))
            .args(["--format", "json"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // One that refuses its arguments does not read its input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
        let output = child.wait_with_output().await.unwrap().stdout;
        answer(&String::from_utf8(output).unwrap())
    }
}

/// The answer that an object of the command, or of the service, stands for.
pub(crate) fn answer(object: &str) -> Result<Value, String> {
    let members: Map<String, Value> = serde_json::from_str(object).unwrap();
    if let Some(code) = members.get("code") {
        return Err(code.as_str().unwrap().to_owned());
    }
    let mut answer = members;
    if answer.contains_key("metadata") {
        let raw: std::collections::BTreeMap<String, Box<RawValue>> = serde_json::from_str(object).unwrap();
        answer.insert("metadata".to_owned(), raw["metadata"].get().into());
        let expires_at = OffsetDateTime::parse(answer["expires_at"].as_str().unwrap(), &Rfc3339).unwrap();
        answer.insert("expires_at".to_owned(), expires_at.unix_timestamp().into());
    }
    Ok(Value::Object(answer))
}

pub(crate) fn rfc3339(seconds: i64) -> String {
    OffsetDateTime::from(library::time(seconds)).format(&Rfc3339).unwrap()
}
