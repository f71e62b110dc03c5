//! The library as a way in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cimd_cache::{Cache, Error, Expiry, Lookup, PutOutcome, Ticket};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use crate::lines::{Answers, CALLS, hello, text};

pub(crate) struct Library(Cache);

impl Library {
    pub(crate) fn open() -> Self {
        let url = std::env::var("DATABASE_URL").unwrap();
        Self(Cache::builder().database_url(&url).build().unwrap())
    }
}

impl Answers for Library {
    async fn answer(&self, call: &str, args: Map<String, Value>) -> Result<Value, String> {
        let code = |error: Error| error.code().to_owned();
        let Self(cache) = self;
        match call {
            "hello" => Ok(hello("library", &CALLS)),
            "get" => cache.get(text(&args, "client_id")).await.map(looked).map_err(code),
            "get-many" => {
                let ids = args["client_ids"].as_array().unwrap();
                let gets = ids.iter().map(async |id| match cache.get(id.as_str().unwrap()).await {
                    Ok(lookup) => json!({ "ok": looked(lookup) }),
                    Err(error) => json!({ "error": code(error) }),
                });
                Ok(json!({ "answers": join_all(gets).await }))
            }
            "put" => {
                let ticket = args.get("ticket").map(|ticket| Ticket::from(ticket.as_str().unwrap()));
                let put = cache.put(
                    text(&args, "client_id"),
                    text(&args, "metadata"),
                    expiry(&args),
                    ticket.as_ref(),
                );
                match put.await.map_err(code)? {
                    PutOutcome::Stored => Ok(json!({ "outcome": "stored" })),
                    PutOutcome::Superseded => Ok(json!({ "outcome": "superseded" })),
                }
            }
            "delete" => {
                let had_document = cache.delete(text(&args, "client_id")).await.map_err(code)?;
                Ok(json!({ "had_document": had_document }))
            }
            "purge" => cache.purge().await.map(|()| json!({})).map_err(code),
            "sweep" => {
                let limit = u32::try_from(args["limit"].as_u64().unwrap()).unwrap();
                let swept = cache.sweep(limit).await.map_err(code)?;
                Ok(json!({ "removed": swept.removed, "more": swept.more }))
            }
            "check" => cache.check().await.map(|_| json!({})).map_err(|_| "not-ready".to_owned()),
            other => panic!("no call {other}"),
        }
    }
}

fn looked(lookup: Lookup) -> Value {
    match lookup {
        Lookup::Hit(entry) => json!({
            "outcome": "hit",
            "metadata": entry.metadata,
            "expires_at": entry.expires_at.duration_since(UNIX_EPOCH).unwrap().as_secs(),
            "fresh_for_ms": u64::try_from(entry.fresh_for.as_millis()).unwrap(),
            "ticket": entry.ticket.to_string(),
        }),
        Lookup::Miss(ticket) => json!({ "outcome": "miss", "ticket": ticket.to_string() }),
    }
}

fn expiry(args: &Map<String, Value>) -> Expiry {
    match args.get("expires_in") {
        Some(seconds) => Expiry::After(Duration::from_secs(seconds.as_u64().unwrap())),
        None => Expiry::At(time(args["expires_at"].as_i64().unwrap())),
    }
}

pub(crate) fn time(seconds: i64) -> SystemTime {
    let length = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH - length } else { UNIX_EPOCH + length }
}
