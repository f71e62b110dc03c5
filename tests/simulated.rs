//! The simulator's model of the tables beside a real Postgres.
//!
//! The rules are simulated on a model because that is fast; what it shows is worth as much as the model is
//! true. So the same histories are run on a Postgres whose clock the test sets (a function `simulated.now()`
//! that takes the place of the real one in the statements' text), and have to go the same way. And the bugs
//! that the simulator plants in the model are planted in the SQL, and have to come to light there by the same
//! history.

use std::collections::HashMap;

use cimd_cache_guest::sql::{Row, Sql, SqlError, Value};
use cimd_cache_guest::statements::{Statement, Type};
use cimd_cache_simulator::mutant::{Edit, Mutant, Seen};
use cimd_cache_simulator::search::first_violation;
use cimd_cache_simulator::sequence::{Backend, Model, START, simulate_in_sequence};
use support::Database;
use tokio::runtime::Handle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement as Prepared};

/// A Postgres as the simulator's database.
struct Real {
    client: Client,
    prepared: HashMap<&'static str, Prepared>,
    /// A mutant, in one of the statements.
    edit: Option<Edit>,
    /// What the clocks of writes and of reads show, and which is set.
    clocks: [i64; 2],
    set: Option<i64>,
}

impl Real {
    async fn new(database: &Database, edit: Option<Edit>) -> Self {
        let client = database.admin().await;
        let clock = "create schema if not exists simulated;
            create or replace function simulated.now() returns timestamptz stable language sql as
              $$ select timestamptz 'epoch' + current_setting('simulated.now')::bigint * interval '1 microsecond' $$;
            set synchronous_commit = off;
            truncate cimd_cache.client_id_metadata";
        client.batch_execute(clock).await.unwrap();
        Self { client, prepared: HashMap::new(), edit, clocks: [0; 2], set: None }
    }

    async fn rows_of(&mut self, statement: &'static Statement, parameters: &[Value]) -> Vec<Row> {
        let parameters: Vec<Box<dyn ToSql + Sync>> = parameters.iter().map(parameter).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(AsRef::as_ref).collect();
        if !self.prepared.contains_key(statement.name) {
            let edit = self.edit.filter(|edit| edit.statement == statement.name);
            let sql = edit.map_or_else(|| statement.sql.to_owned(), |edit| edit.apply(statement.sql));
            let sql = sql.replace("pg_catalog.now()", "simulated.now()");
            self.prepared.insert(statement.name, self.client.prepare(&sql).await.unwrap());
        }
        self.turn_clock_to(self.clocks[usize::from(matches!(statement.name, "get" | "get-many"))]).await;
        let rows = self.client.query(&self.prepared[statement.name], &parameters).await.unwrap();
        let value = |row: &tokio_postgres::Row, at: usize, of: &Type| match of {
            Type::Boolean => row.get::<_, Option<bool>>(at).map(Value::Boolean),
            Type::Int64 => row.get::<_, Option<i64>>(at).map(Value::Int64),
            Type::Text => row.get::<_, Option<String>>(at).map(Value::Text),
        };
        let values = |row: &tokio_postgres::Row| {
            let columns = statement.columns.iter().enumerate();
            columns.map(|(at, of)| value(row, at, of).unwrap_or(Value::Null)).collect()
        };
        rows.iter().map(values).collect()
    }

    async fn turn_clock_to(&mut self, now: i64) {
        if self.set.replace(now) != Some(now) {
            self.client.batch_execute(&format!("set simulated.now = '{now}'")).await.unwrap();
        }
    }
}

fn parameter(value: &Value) -> Box<dyn ToSql + Sync> {
    match value {
        Value::Null => Box::new(Null),
        Value::Boolean(value) => Box::new(*value),
        Value::Int64(value) => Box::new(*value),
        Value::Text(value) => Box::new(value.clone()),
        Value::Bytes(value) => Box::new(value.clone()),
    }
}

/// NULL, of any type.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(
        &self,
        _: &tokio_postgres::types::Type,
        _: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(tokio_postgres::types::IsNull::Yes)
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// The rules are not asynchronous, and a test's client is.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| Handle::current().block_on(future))
}

impl Sql for Real {
    fn query(&mut self, statement: &'static Statement, parameters: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        Ok(wait(self.rows_of(statement, &parameters)))
    }
}

impl Backend for Real {
    fn begin(&mut self, clock_tolerance: i64) {
        // A history begins with a purge, as a database does with its migration.
        let sql = format!(
            "set simulated.now = '{START}';
             update cimd_cache.purge set purged_at = simulated.now(),
               clock_tolerance = {clock_tolerance} * interval '1 microsecond'"
        );
        wait(self.client.batch_execute(&sql)).unwrap();
        self.set = Some(START);
    }

    fn set_clock(&mut self, now: i64, read: i64) {
        self.clocks = [now, read];
    }

    fn rows(&mut self) -> u64 {
        let count = "select count(*) from cimd_cache.client_id_metadata";
        let row = wait(self.client.query_one(count, &[])).unwrap();
        row.get::<_, i64>(0).unsigned_abs()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_answers_as_the_model_does() {
    let database = Database::new().await;
    for seed in 0..300 {
        let model = simulate_in_sequence(seed, &mut Model::new(None));
        let real = simulate_in_sequence(seed, &mut Real::new(&database, None).await);
        for (model, real) in model.history.calls.iter().zip(&real.history.calls) {
            assert_eq!(model, real, "seed {seed}");
        }
        assert_eq!((model.violations, real.violations), (vec![], vec![]), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bug_planted_in_the_sql_comes_to_light_as_in_the_model() {
    let database = Database::new().await;
    for mutant in Mutant::ALL.iter().copied().filter(|mutant| mutant.seen() == Seen::InSequence) {
        let in_model = |seed| simulate_in_sequence(seed, &mut Model::new(Some(mutant)));
        let seed = first_violation(0..100_000, in_model).unwrap_or_else(|| panic!("{}", mutant.name()));
        let real = simulate_in_sequence(seed, &mut Real::new(&database, Some(mutant.edit())).await);
        assert!(!real.violations.is_empty(), "{}: seed {seed}", mutant.name());
    }
}
