//! What workers do for callers: each call, by the guest, with the near cache told.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use wasmtime::Store;

use crate::answer;
use crate::bindings::CimdCache;
use crate::bindings::cimd::cache::sql::{self, Row, Value};
use crate::bindings::exports::cimd::cache::cache::Expiry;
use crate::error::Error;
use crate::postgres::Failure;
use crate::request::Get;
use crate::sandbox::State;
use crate::types::{Lookup, Stored, Swept};
use crate::worker::Worker;

/// How often gets are asked whose connection was lost: they only read.
const TRIES: u32 = 4;

impl Worker {
    /// Gets travel together. What failed for all of them may have been one key's fault: each is asked alone then, once.
    pub(crate) async fn gets(&mut self, mut gets: Vec<Get>) {
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

    /// Asks for all of them at once, and again over another connection if that one is lost.
    async fn look_up(&mut self, gets: &[Get]) -> Vec<Result<Lookup, Error>> {
        let workers = self.workers.clone();
        gets.iter().for_each(Get::begin);
        for tried in 1.. {
            let urls = || gets.iter().map(|get| get.url.clone()).collect();
            let in_flight = workers.near().map(|near| near.gets(urls()));
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
        let call = async |guest: &CimdCache, store: &mut Store<State>| {
            answer::checked(guest.cimd_cache_cache().call_get(store, url).await?, answer::lookup)
        };
        self.call(call).await.0.flatten()
    }

    async fn get_many(&mut self, gets: &[Get]) -> Vec<Result<Lookup, Error>> {
        self.workers.batches.fetch_add(1, Ordering::Relaxed);
        self.workers.batched_keys.fetch_add(gets.len() as u64, Ordering::Relaxed);
        let urls: Vec<&str> = gets.iter().map(|get| &*get.url).collect();
        let call = async |guest: &CimdCache, store: &mut Store<State>| {
            let answers = guest.cimd_cache_cache().call_get_many(store, &urls).await?;
            answer::lookups(answers, urls.len())
        };
        self.call(call).await.0.unwrap_or_else(|error| vec![Err(error); gets.len()])
    }

    pub(crate) async fn put(
        &mut self,
        url: String,
        metadata: String,
        expiry: Expiry,
        ticket: Option<String>,
    ) -> Result<Stored, Error> {
        let call = async |guest: &CimdCache, store: &mut Store<State>| {
            let put = guest.cimd_cache_cache().call_put(store, &url, &metadata, expiry, ticket.as_ref());
            answer::checked(put.await?, |stored| Ok(stored.into()))
        };
        self.write(Some(&url), call).await
    }

    pub(crate) async fn delete(&mut self, url: String) -> Result<bool, Error> {
        let call = async |guest: &CimdCache, store: &mut Store<State>| {
            answer::checked(guest.cimd_cache_cache().call_delete(store, &url).await?, Ok)
        };
        self.write(Some(&url), call).await
    }

    pub(crate) async fn delete_all(&mut self) -> Result<(), Error> {
        let call = async |guest: &CimdCache, store: &mut Store<State>| {
            answer::checked(guest.cimd_cache_cache().call_delete_all(store).await?, Ok)
        };
        self.write(None, call).await
    }

    pub(crate) async fn sweep(&mut self, limit: u32) -> Result<Swept, Error> {
        let call = async |guest: &CimdCache, store: &mut Store<State>| {
            let answer = guest.cimd_cache_maintenance().call_sweep(store, limit).await?;
            answer::checked(answer, |swept| answer::swept(&swept, limit))
        };
        self.call(call).await.0.flatten()
    }

    /// A put or delete of a key, or of all, of which the near cache learns what became of it.
    async fn write<T>(
        &mut self,
        url: Option<&str>,
        call: impl AsyncFnOnce(&CimdCache, &mut Store<State>) -> wasmtime::Result<Result<T, Error>>,
    ) -> Result<T, Error> {
        let workers = self.workers.clone();
        let write = workers.near().map(|near| near.write(url));
        let (outcome, effect) = self.call(call).await;
        if let Some(write) = write {
            write.ended(effect);
        }
        outcome.flatten()
    }

    /// A statement of the list, for a component in somebody else's wasmtime.
    pub(crate) async fn statement(
        &mut self,
        index: usize,
        parameters: Vec<Value>,
    ) -> Result<Vec<Row>, sql::Error> {
        let mut loan = self.lend();
        let rows = loan.run(index, &parameters).await;
        self.take_back(loan);
        rows
    }

    /// Something that the host asks on its own behalf, within `patience`. It only reads.
    pub(crate) async fn ask<T>(
        &mut self,
        patience: Duration,
        question: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Some(connection) = &mut self.connection else { return Err(self.failure.clone()) };
        let answer = connection.ask(patience, question).await;
        self.look_after_connection();
        answer.unwrap_or(Err(Failure::TimedOut))
    }
}

/// Whether anybody still waits for one of them.
fn is_wanted(gets: &[Get]) -> bool {
    let now = Instant::now();
    gets.iter().any(|get| get.is_wanted(now))
}
