//! What a change can spoil unseen: one call through the guest with the database's answer at hand, the rules
//! for JSON, and the way of values to Postgres and back.
//!
//!     cargo bench -p cimd-cache-bench

#![allow(missing_docs, reason = "criterion's macros write functions without any")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]

use std::hint::black_box;

use cimd_cache::{Cache, Expiry, Schema, internals, migrations, statements};
use cimd_cache_guest::document;
use cimd_cache_private_postgres::PrivatePostgres;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use wasmtime::component::{Component, HasData, Linker};
use wasmtime::{Config, Engine, Store};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "cimd-cache",
        imports: { default: async },
        exports: { default: async },
    });
}

use bindings::CimdCache;
use bindings::cimd::cache::sql::{Error, Host, Row, Value};
use bindings::exports::cimd::cache::cache as wit;

const URL: &str = "https://client.example/oauth/client-metadata.json";
const NOW: i64 = 1_795_465_560_000_000;

/// A published document, and one of the largest that are accepted.
fn documents() -> [(&'static str, String); 2] {
    let uris: Vec<_> = (0..360).map(|at| format!(r#""https://c.example/callback/{at:04}/return""#)).collect();
    let large = format!(r#"{{"client_id":"{URL}","redirect_uris":[{}]}}"#, uris.join(","));
    assert!((14 << 10..16 << 10).contains(&large.len()), "{} bytes", large.len());
    [("small", include_str!("../../tests/documents/vscode.json").to_owned()), ("large", large)]
}

/// A database that has its answer at hand.
struct AtHand {
    row: Row,
}

impl Host for &mut AtHand {
    async fn query(&mut self, _: String, _: Vec<Value>) -> Result<Vec<Row>, Error> {
        Ok(vec![self.row.clone()])
    }
}

struct HasAtHand;

impl HasData for HasAtHand {
    type Data<'a> = &'a mut AtHand;
}

async fn instance(row: Row) -> (Store<AtHand>, CimdCache) {
    let mut config = Config::new();
    config.epoch_interruption(true);
    let engine = Engine::new(&config).unwrap();
    let mut linker = Linker::new(&engine);
    bindings::cimd::cache::sql::add_to_linker::<AtHand, HasAtHand>(&mut linker, |at_hand| at_hand).unwrap();
    let component = Component::new(&engine, cimd_cache::COMPONENT).unwrap();
    let mut store = Store::new(&engine, AtHand { row });
    store.set_epoch_deadline(u64::MAX / 2);
    let exports = CimdCache::instantiate_async(&mut store, &component, &linker).await.unwrap();
    (store, exports)
}

fn guest(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("through the guest");
    for (name, document) in documents() {
        group.throughput(Throughput::Bytes(document.len() as u64));
        let row = vec![
            Value::Int64(NOW),
            Value::Int64(0),
            Value::Text(document.clone()),
            Value::Int64(NOW + 1_000_000),
        ];
        let (mut store, exports) = runtime.block_on(instance(row));
        group.bench_function(format!("get, {name} document"), |bencher| {
            bencher.iter(|| {
                let get = exports.cimd_cache_cache().call_get(&mut store, URL);
                runtime.block_on(get).unwrap().unwrap()
            });
        });
        let (mut store, exports) = runtime.block_on(instance(vec![Value::Boolean(true)]));
        group.bench_function(format!("put, {name} document"), |bencher| {
            bencher.iter(|| {
                let cache = exports.cimd_cache_cache();
                let put = cache.call_put(&mut store, URL, &document, wit::Expiry::After(3_600), None);
                runtime.block_on(put).unwrap().unwrap()
            });
        });
    }
}

fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules for JSON, native");
    for (name, document) in documents() {
        group.throughput(Throughput::Bytes(document.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| document::check(black_box(&document)).unwrap()));
    }
}

/// Rows as a real server sends them.
fn values(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let postgres = PrivatePostgres::start().unwrap();
    let url = postgres.url("postgres", "postgres");
    let client = runtime.block_on(async {
        let (client, driver) = internals::connect(&url.parse().unwrap()).await.unwrap();
        tokio::spawn(driver);
        client.batch_execute(migrations::ROLES).await.unwrap();
        migrations::migrate(&url, &Schema::default()).await.unwrap();
        client
    });
    let cache = Cache::builder().database_url(&url).build().unwrap();
    let mut group = criterion.benchmark_group("values");
    for (name, document) in documents() {
        let expiry = Expiry::After(std::time::Duration::from_secs(3_600));
        runtime.block_on(cache.put(URL, &document, expiry, None)).unwrap();
        let row = runtime.block_on(client.query_one(statements::GET.sql, &[&URL])).unwrap();
        group.throughput(Throughput::Bytes(document.len() as u64));
        group.bench_function(format!("from a row, {name} document"), |bencher| {
            bencher.iter(|| internals::read_row(&statements::GET, black_box(&row)));
        });
        group.bench_function(format!("to parameters, {name} document"), |bencher| {
            let put = || internals::put_parameters(URL, &document);
            bencher.iter_batched(
                put,
                |parameters| internals::encode(&statements::PUT, &parameters),
                BatchSize::SmallInput,
            );
        });
    }
    drop(cache);
    postgres.stop();
}

criterion_group!(micro, guest, rules, values);
criterion_main!(micro);
