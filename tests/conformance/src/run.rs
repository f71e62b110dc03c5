//! Plays a case: step after step, on two copies of a way in and a database.

use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use tokio::join;
use tokio::task::{JoinHandle, JoinSet};

use crate::case::{Call, Case, Node, RowsAre, Start, Step, Together, Word};
use crate::expect::matches;
use crate::stage::Stage;
use crate::value::{Saved, resolve, resolve_all};
use crate::way::Way;

/// Plays a case on a way in.
///
/// # Errors
///
/// When an answer is not as expected; the text says at which step.
pub async fn run(case: &Case, way: &Command) -> Result<()> {
    let is_own = case.needs.iter().any(|need| need == "own-server");
    let stage = if is_own { Stage::own().await? } else { Stage::shared().await? };
    // Not one after the other, and neither is left half started.
    let nodes = match join!(Way::start(way, stage.url()), Way::start(way, stage.url())) {
        (Ok(a), Ok(b)) => [Arc::new(a), Arc::new(b)],
        (Err(error), other) | (other, Err(error)) => {
            if let Ok(way) = other {
                way.end().await?;
            }
            stage.end().await;
            return Err(error);
        }
    };
    let mut play = Play { stage, nodes, saved: Saved::new(), flights: HashMap::new() };
    let mut result = Ok(());
    for (number, step) in case.steps.iter().enumerate() {
        result = play.step(step).await.with_context(|| format!("step {} of {}", number + 1, case.id));
        if result.is_err() {
            break;
        }
    }
    let Play { stage, nodes, flights, .. } = play;
    for (_, flight) in flights {
        // A case that failed may have left some.
        let _ = flight.await;
    }
    for node in nodes {
        let ended = match Arc::into_inner(node) {
            Some(node) => node.end().await,
            None => Ok(()),
        };
        result = result.and(ended);
    }
    stage.end().await;
    result
}

struct Play {
    stage: Stage,
    nodes: [Arc<Way>; 2],
    saved: Saved,
    flights: HashMap<String, JoinHandle<Result<Value>>>,
}

impl Play {
    async fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Call(call) => self.call(call).await,
            Step::Start(Start { start, call, on, args }) => {
                let (node, call, args) = (self.node(*on), call.clone(), resolve_all(args, &self.saved)?);
                self.flights.insert(start.clone(), tokio::spawn(async move { node.ask(&call, args).await }));
                Ok(())
            }
            Step::Finish(finish) => {
                let flight =
                    self.flights.remove(&finish.finish).context("nothing of that name is in flight")?;
                self.check(&finish.expect, &flight.await??)
            }
            Step::Together(together) => self.together(together).await,
            Step::Database(database) => {
                let client_id = database.client_id.as_ref().map(|id| resolve(id, &self.saved)).transpose()?;
                self.stage.fault(database.database, client_id.as_ref().and_then(Value::as_str)).await
            }
            Step::Age(age) => {
                let client_id = resolve(&age.client_id, &self.saved)?;
                self.stage.age(client_id.as_str().context("a client_id is a text")?, age.age).await
            }
            Step::Rows(rows) => match rows.rows {
                RowsAre::Word(Word::Note) => self.stage.note().await,
                RowsAre::Word(Word::Unchanged) => {
                    ensure!(self.stage.is_unchanged().await?, "the rows have changed");
                    Ok(())
                }
                RowsAre::Count(expected) => {
                    let count = self.stage.count().await?;
                    ensure!(count == expected, "there are {count} rows, and not {expected}");
                    Ok(())
                }
            },
        }
    }

    fn node(&self, node: Node) -> Arc<Way> {
        self.nodes[node as usize].clone()
    }

    async fn call(&mut self, call: &Call) -> Result<()> {
        let began = Instant::now();
        let answer = self.node(call.on).ask(&call.call, resolve_all(&call.args, &self.saved)?).await?;
        if let Some(within) = call.within_ms.map(Duration::from_millis) {
            ensure!(began.elapsed() <= within, "it took {:?}, and not at most {within:?}", began.elapsed());
        }
        self.check(&call.expect, &answer)?;
        for (name, member) in &call.save {
            let value = answer["ok"].get(member).with_context(|| format!("the answer has no {member}"))?;
            self.saved.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    fn check(&self, expected: &Value, answer: &Value) -> Result<()> {
        let expected = resolve(expected, &self.saved)?;
        ensure!(matches(&expected, answer), "expected {expected}, got {answer}");
        Ok(())
    }

    async fn together(&mut self, together: &Together) -> Result<()> {
        let args: Map<String, Value> = resolve_all(&together.args, &self.saved)?;
        let mut calls = JoinSet::new();
        for number in 0..together.together {
            let (node, call, args) = (self.nodes[number % 2].clone(), together.call.clone(), args.clone());
            calls.spawn(async move { node.ask(&call, args).await });
        }
        // All of them have ended before one is judged: a call in flight would keep its way in from being ended.
        let mut outcomes = BTreeMap::<String, usize>::new();
        for answer in calls.join_all().await {
            let answer = answer?;
            let outcome = match (&*together.call, answer["error"].as_str()) {
                (_, Some(error)) => error,
                ("get" | "put", None) => answer["ok"]["outcome"].as_str().context("no outcome")?,
                (_, None) => "done",
            };
            *outcomes.entry(outcome.to_owned()).or_default() += 1;
        }
        ensure!(outcomes == together.outcomes, "expected {:?}, got {outcomes:?}", together.outcomes);
        Ok(())
    }
}
