//! What workers do for callers: each call goes to the guest, and the near cache is told what became of it.

use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tracing::Instrument;

use super::executor::Executor;
use super::loan::Loan;
use super::request::{Get, Put, Request, Task};
use crate::bindings::CimdCache;
use crate::bindings::cimd::cache::sql::{self, Row, Value};
use crate::error::Error;
use crate::sandbox::{self, Store};
use crate::types::{Lookup, PutOutcome, SweepOutcome};

/// How often gets are asked whose connection was lost: they only read.
const TRIES: u32 = 4;

impl Executor {
    /// Does what was asked for, in the caller's span, and answers.
    pub(super) async fn run(&mut self, request: Request) {
        let (task, span) = request.begin();
        self.perform(task).instrument(span).await;
    }

    async fn perform(&mut self, task: Task) {
        match task {
            Task::Put(put, reply) => reply.send(self.put(put).await),
            Task::Delete(url, reply) => reply.send(self.delete(&url).await),
            Task::Purge(reply) => reply.send(self.purge().await),
            Task::Sweep(limit, reply) => reply.send(self.sweep(limit).await),
            Task::Statement(index, parameters, reply) => {
                reply.send(self.statement(index, &parameters).await);
            }
            Task::Ask(question) => {
                question(self.connection.as_mut().ok_or(self.failure.clone())).await;
                self.look_after_connection();
            }
        }
    }

    /// Gets travel together. What failed for all of them may have been one key's fault: each is asked alone
    /// then, once.
    ///
    /// What is logged meanwhile belongs to the call that came first.
    pub(super) async fn gets(&mut self, gets: Vec<Get>) {
        if let Some(first) = gets.first() {
            let span = first.span();
            self.answer(gets).instrument(span).await;
        }
    }

    async fn answer(&mut self, mut gets: Vec<Get>) {
        // In the order in which an index has them, so that neither server nor guest has to search.
        gets.sort_unstable_by(|a, b| a.url.cmp(&b.url));
        let answers = self.look_up(&gets).await;
        let is_alone = gets.len() == 1;
        self.gathers = !is_alone;
        let mut again = Vec::new();
        for (get, answer) in gets.into_iter().zip(answers) {
            match answer {
                Err(Error::Storage) if !is_alone => again.push(get),
                answer => get.send(answer),
            }
        }
        for get in again.into_iter().filter(|get| is_wanted(std::slice::from_ref(get))) {
            let answer = self.look_up(std::slice::from_ref(&get)).await.pop();
            get.send(answer.unwrap_or(Err(Error::Storage)));
        }
    }

    /// Looks all of them up at once, and again over another connection if the first one is lost.
    async fn look_up(&mut self, gets: &[Get]) -> Vec<Result<Lookup, Error>> {
        let shared = self.shared.clone();
        gets.iter().for_each(|get| get.begin(gets.len()));
        for tried in 1.. {
            let urls = || gets.iter().map(|get| get.url.clone()).collect();
            let in_flight = shared.near().map(|near| near.gets(urls()));
            let was_connected = self.connection.is_some();
            let answers = match gets {
                [get] => vec![self.get(&get.url).await],
                _ => self.get_many(gets).await,
            };
            let is_lost = was_connected && self.connection.is_none();
            if is_lost && tried < TRIES && is_wanted(gets) && self.connect().await.is_ok() {
                continue;
            }
            if let Some(in_flight) = in_flight {
                in_flight.answered(&answers);
            }
            return answers;
        }
        unreachable!("the loop ends by returning")
    }

    async fn get(&mut self, url: &str) -> Result<Lookup, Error> {
        let call = async |guest: &CimdCache, store: &mut Store<Loan>| {
            sandbox::checked(guest.cimd_cache_cache().call_get(store, url).await?, sandbox::lookup)
        };
        self.call(call).await.0.flatten()
    }

    async fn get_many(&mut self, gets: &[Get]) -> Vec<Result<Lookup, Error>> {
        self.shared.batches.fetch_add(1, Ordering::Relaxed);
        self.shared.batched_keys.fetch_add(gets.len() as u64, Ordering::Relaxed);
        let urls: Vec<&str> = gets.iter().map(|get| &*get.url).collect();
        let call = async |guest: &CimdCache, store: &mut Store<Loan>| {
            let answers = guest.cimd_cache_cache().call_get_many(store, &urls).await?;
            sandbox::lookups(answers, urls.len())
        };
        self.call(call).await.0.unwrap_or_else(|error| vec![Err(error); gets.len()])
    }

    async fn put(&mut self, put: Put) -> Result<PutOutcome, Error> {
        let Put { url, metadata, expiry, ticket } = put;
        let call = async |guest: &CimdCache, store: &mut Store<Loan>| {
            let put = guest.cimd_cache_cache().call_put(store, &url, &metadata, expiry, ticket.as_ref());
            sandbox::checked(put.await?, |outcome| Ok(outcome.into()))
        };
        self.write(Some(&url), call).await
    }

    async fn delete(&mut self, url: &str) -> Result<bool, Error> {
        let call = async |guest: &CimdCache, store: &mut Store<Loan>| {
            sandbox::checked(guest.cimd_cache_cache().call_delete(store, url).await?, Ok)
        };
        self.write(Some(url), call).await
    }

    async fn purge(&mut self) -> Result<(), Error> {
        let call = async |guest: &CimdCache, store: &mut Store<Loan>| {
            sandbox::checked(guest.cimd_cache_cache().call_purge(store).await?, Ok)
        };
        self.write(None, call).await
    }

    async fn sweep(&mut self, limit: u32) -> Result<SweepOutcome, Error> {
        let call = async |guest: &CimdCache, store: &mut Store<Loan>| {
            let answer = guest.cimd_cache_maintenance().call_sweep(store, limit).await?;
            sandbox::checked(answer, |swept| sandbox::swept(&swept, limit))
        };
        self.call(call).await.0.flatten()
    }

    /// A put or delete of a key, or of all keys. The near cache learns how it ended.
    async fn write<T>(
        &mut self,
        url: Option<&str>,
        call: impl AsyncFnOnce(&CimdCache, &mut Store<Loan>) -> wasmtime::Result<Result<T, Error>>,
    ) -> Result<T, Error> {
        let shared = self.shared.clone();
        let write = shared.near().map(|near| near.write(url));
        let (outcome, effect) = self.call(call).await;
        if let Some(write) = write {
            write.ended(effect);
        }
        outcome.flatten()
    }

    async fn statement(&mut self, index: usize, parameters: &[Value]) -> Result<Vec<Row>, sql::Error> {
        let mut loan = self.lend();
        let rows = loan.run(index, parameters).await;
        self.take_back(loan);
        rows
    }
}

/// Whether anybody still waits for one of them.
fn is_wanted(gets: &[Get]) -> bool {
    let now = Instant::now();
    gets.iter().any(|get| get.is_wanted(now))
}
