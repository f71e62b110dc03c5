//! Ways in with a mistake, as they are made: each has to fail the case that is named for it.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::{Map, Value, json};

use crate::library::Library;
use crate::lines::{Answers, text};

/// Each mutant, and the case that notices it.
pub(crate) const ALL: [(&str, &str); 7] = [
    ("drops-tickets", "a deleted document is not resurrected by an in-flight fetch"),
    ("caches-misses", "a document that was stored is a hit on every node"),
    ("ignores-expiry", "an expired document is a miss, though its row is there"),
    ("swallows-errors", "a missing table is storage, and never a miss"),
    ("normalises-keys", "keys are exact bytes"),
    ("form-encodes-keys", "keys are exact bytes"),
    ("forgets-the-other-node", "a purge removes everything at once"),
];

/// The library, with a mistake.
pub(crate) struct Mutant {
    name: String,
    library: Library,
    /// The first answer to the get of each key.
    first: Mutex<HashMap<String, Value>>,
}

impl Mutant {
    pub(crate) fn open(name: &str) -> Self {
        assert!(ALL.iter().any(|(known, _)| *known == name), "no way in is called {name}");
        Self { name: name.to_owned(), library: Library::open(), first: Mutex::default() }
    }
}

impl Answers for Mutant {
    async fn answer(&self, call: &str, mut args: Map<String, Value>) -> Result<Value, String> {
        let client_id = args.contains_key("client_id").then(|| text(&args, "client_id").to_owned());
        match &*self.name {
            "drops-tickets" => drop(args.remove("ticket")),
            "normalises-keys" => {
                if let Some(id) = &client_id {
                    args.insert("client_id".to_owned(), id.trim_end_matches('/').into());
                }
            }
            "form-encodes-keys" => {
                if let Some(id) = &client_id {
                    args.insert("client_id".to_owned(), id.replace('+', " ").into());
                }
            }
            _ => {}
        }
        let known = client_id
            .as_ref()
            .filter(|_| call == "get")
            .and_then(|id| self.first.lock().unwrap().get(id).cloned());
        if let Some(known) = known {
            return Ok(known);
        }
        let answer = self.library.answer(call, args).await;
        let outcome = answer.as_ref().ok().and_then(|ok| ok["outcome"].as_str()).unwrap_or_default();
        let keeps = match &*self.name {
            "caches-misses" => outcome == "miss",
            "ignores-expiry" | "forgets-the-other-node" => outcome == "hit",
            _ => false,
        };
        if keeps
            && call == "get"
            && let (Some(id), Ok(answer)) = (client_id, &answer)
        {
            self.first.lock().unwrap().insert(id, answer.clone());
        }
        if self.name == "swallows-errors" {
            return Ok(answer.unwrap_or_else(|_| json!({ "outcome": "miss", "ticket": "" })));
        }
        answer
    }
}
