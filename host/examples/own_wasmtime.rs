//! A program with a wasmtime of its own, as gateways are: it runs the component, and this crate lends it the
//! database.
//!
//!     DATABASE_URL=postgres://cimd_cache_app@localhost/auth cargo run -p cimd-cache --example own_wasmtime
//!
//! The program decides how many instances there are and what each may have. This crate sends the statements:
//! only those of the list, over its own connections, with its deadlines.

use anyhow::{Context, Result};
use cimd_cache::sql::{self, Sql};
use cimd_cache::{COMPONENT, Cache};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store, StoreLimits, StoreLimitsBuilder};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "cimd-cache",
        imports: { default: async },
        exports: { default: async },
    });
}

use bindings::CimdCache;
use bindings::exports::cimd::cache::cache::{Expiry, Lookup};

/// What this program keeps for an instance, beside whatever its other components need.
struct State {
    sql: Sql,
    limits: StoreLimits,
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL").context("set DATABASE_URL to the database of the cache")?;
    let sql = Cache::builder().database_url(&url).build_sql()?;

    let mut config = Config::new();
    config.epoch_interruption(true);
    let engine = Engine::new(&config)?;
    let mut linker: Linker<State> = Linker::new(&engine);
    sql::add_to_linker(&mut linker, |state| state.sql.view())?;
    // Compiling takes tens of milliseconds: once in the program's life.
    let component = Component::new(&engine, COMPONENT)?;

    let limits = StoreLimitsBuilder::new().memory_size(4 << 20).build();
    let mut store = Store::new(&engine, State { sql: sql.clone(), limits });
    store.limiter(|state| &mut state.limits);
    // A real gateway advances the engine's epoch and sets a deadline for each call.
    store.set_epoch_deadline(u64::MAX / 2);
    let instance = CimdCache::instantiate_async(&mut store, &component, &linker).await?;
    let cache = instance.cimd_cache_cache();

    let client_id = "https://client.example/metadata.json";
    let document = r#"{"client_id":"https://client.example/metadata.json"}"#;
    // The outer result is wasmtime's, the inner one the cache's.
    match cache.call_get(&mut store, client_id).await?.map_err(|error| anyhow::anyhow!("{error:?}"))? {
        Lookup::Hit(entry) => println!("hit, fresh for {} ms: {}", entry.fresh_for, entry.metadata),
        Lookup::Miss(ticket) => {
            let put = cache.call_put(&mut store, client_id, document, Expiry::After(60), Some(&ticket));
            println!("miss; the put is {:?}", put.await?);
        }
    }
    drop(store);
    sql.close().await;
    Ok(())
}
