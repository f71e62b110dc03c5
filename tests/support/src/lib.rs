//! What the tests share: a database for each of them, and words for what they do.

#![allow(clippy::unwrap_used, reason = "in a test that is how a failure is reported")]
#![allow(clippy::missing_panics_doc, reason = "all of it panics when it fails")]

mod database;
pub mod http;
mod log;
pub mod service;
mod wire;

use std::time::Duration;

use cimd_cache::{Cache, Entry, Expiry, Lookup, Ticket};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

pub use crate::database::{Database, connect, roles_turn};
pub use crate::log::Log;
pub use crate::wire::{Seen, Wire};

/// Everything in a row that a refusal must not change, `xmin` included: it changes with every write.
pub async fn row(admin: &Client, id: &str) -> Option<String> {
    let sql = "select xmin::text || m::text from cimd_cache.client_id_metadata m where url = $1";
    admin.query_opt(sql, &[&id]).await.unwrap().map(|row| row.get(0))
}

/// The one column of the one row of a query.
pub async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> T {
    client.query_one(sql, parameters).await.unwrap().get(0)
}

/// Published client metadata documents, with the `client_id` inside each.
pub fn documents() -> Vec<(String, String)> {
    let id = |document: &cimd_cache_documents::Document| {
        json_of(document.text)["client_id"].as_str().unwrap().to_owned()
    };
    cimd_cache_documents::ALL.iter().map(|document| (id(document), document.text.to_owned())).collect()
}

/// The client that most tests are about.
pub const ID: &str = "https://client.example/metadata.json";
/// A lifetime.
pub const HOUR: Expiry = Expiry::After(Duration::from_secs(3_600));

/// A small document that can be told from others by its number.
pub fn document(number: u64) -> String {
    json!({ "client_id": ID, "version": number }).to_string()
}

/// The number of such a document, if there is one.
pub fn version(lookup: &Lookup) -> Option<u64> {
    match lookup {
        Lookup::Hit(entry) => json_of(&entry.metadata)["version"].as_u64(),
        Lookup::Miss(_) => None,
    }
}

/// A text as the JSON that it is.
pub fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The document, which has to be there.
pub async fn hit(node: &Cache, id: &str) -> Entry {
    match node.get(id).await.unwrap() {
        Lookup::Hit(entry) => entry,
        Lookup::Miss(_) => panic!("a miss: {id}"),
    }
}

/// The ticket of a get, which has to miss.
pub async fn miss(node: &Cache, id: &str) -> Ticket {
    match node.get(id).await.unwrap() {
        Lookup::Miss(ticket) => ticket,
        Lookup::Hit(entry) => panic!("a hit: {id}: {}", entry.metadata),
    }
}

/// The ticket of a get, whatever it found.
pub async fn ticket(node: &Cache, id: &str) -> Ticket {
    match node.get(id).await.unwrap() {
        Lookup::Hit(entry) => entry.ticket,
        Lookup::Miss(ticket) => ticket,
    }
}

/// A ticket as a get would have given it so many seconds later: its first sixteen digits are microseconds.
pub fn shifted(ticket: &Ticket, seconds: i64) -> Ticket {
    let text = ticket.to_string();
    let (read_at, rest) = text.split_at(16);
    let read_at = i64::from_str_radix(read_at, 16).unwrap() + seconds * 1_000_000;
    Ticket::from(format!("{read_at:016x}{rest}"))
}
