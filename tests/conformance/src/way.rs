//! A way in: a process that is asked in lines of JSON.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

/// No call takes longer: its deadline is two seconds, and machines stall.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// What a way in is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// By which the answer is told from others.
    pub id: u64,
    /// The name of the call.
    pub call: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Map<String, Value>,
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// One copy of a way in.
pub struct Way {
    stdin: AsyncMutex<(ChildStdin, u64)>,
    waiting: Waiting,
    child: Child,
    /// The calls that it has.
    calls: Vec<String>,
}

/// What a way in says of itself.
#[derive(Debug, Deserialize)]
struct Hello {
    name: String,
    version: String,
    calls: Vec<String>,
}

impl Way {
    /// Starts a copy, for a database, and asks what it can do.
    ///
    /// # Errors
    ///
    /// When the process cannot be started, or does not say.
    pub async fn start(program: &std::process::Command, database_url: &str) -> Result<Self> {
        let mut command = Command::new(program.get_program());
        command.args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = command
            .env("DATABASE_URL", database_url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().context("it has no stdin")?;
        let stdout = child.stdout.take().context("it has no stdout")?;
        let waiting = Waiting::default();
        tokio::spawn({
            let waiting = waiting.clone();
            async move {
                let mut lines = BufReader::new(stdout).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let answer: Value = serde_json::from_str(&line).expect("a way in answers in JSON");
                    let id = answer["id"].as_u64().expect("an answer has an id");
                    let reply = waiting.lock().expect("nobody panics with it").remove(&id);
                    // Whoever asked may have gone.
                    let _ = reply.expect("each question is answered once").send(answer);
                }
            }
        });
        let mut way =
            Self { stdin: AsyncMutex::new((stdin, 0)), waiting, child, calls: vec!["hello".to_owned()] };
        match way.hello().await {
            Ok(hello) => {
                way.calls = hello.calls;
                Ok(way)
            }
            Err(error) => {
                // It may have a service of its own to end, which a kill would leave behind.
                let _ = way.end().await;
                Err(error)
            }
        }
    }

    async fn hello(&self) -> Result<Hello> {
        let hello = self.ask("hello", Map::new()).await.context("it does not answer hello")?;
        let hello: Hello = serde_json::from_value(hello["ok"].clone()).context("hello says too little")?;
        ensure!(!hello.name.is_empty() && !hello.version.is_empty(), "it has no name, or no version");
        Ok(hello)
    }

    /// Closes its stdin, and waits until it has ended: it may have processes of its own to end.
    ///
    /// # Errors
    ///
    /// When it does not end, or not well.
    pub async fn end(self) -> Result<()> {
        let Self { stdin, mut child, .. } = self;
        drop(stdin);
        let ended = tokio::time::timeout(ANSWERS_WITHIN, child.wait()).await;
        let status = ended.context("the way in does not end though its stdin has")??;
        ensure!(status.success(), "the way in ended with {status}");
        Ok(())
    }

    /// Asks, and returns the answer without its id: `{"ok": …}` or `{"error": …}`.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn ask(&self, call: &str, args: Map<String, Value>) -> Result<Value> {
        ensure!(self.calls.iter().any(|has| has == call), "it has no call {call}");
        let answer = {
            let mut stdin = self.stdin.lock().await;
            let (stdin, id) = &mut *stdin;
            *id += 1;
            let (reply, answer) = oneshot::channel();
            self.waiting.lock().expect("nobody panics with it").insert(*id, reply);
            let request = serde_json::to_string(&Request { id: *id, call: call.to_owned(), args })?;
            stdin.write_all(format!("{request}\n").as_bytes()).await?;
            stdin.flush().await?;
            answer
        };
        let answer = tokio::time::timeout(ANSWERS_WITHIN, answer).await;
        let answer = answer.context("no answer in 30 seconds")?.context("the way in has ended")?;
        Ok(match answer.get("error") {
            Some(error) => json!({ "error": error }),
            None => json!({ "ok": answer["ok"] }),
        })
    }
}
