//! What a cache occupies, what a get costs on the wire, and how soon a new process answers.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cimd_cache::internals;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::dataset::Dataset;
use crate::environment::Environment;
use crate::report::median;
use crate::service::{Over, Service, path};

/// How many calls are held, and how many more wait behind them.
const HELD: usize = 256;
const WAITING: usize = 1_000;

/// How many clients of a service are connected.
const CONNECTIONS: usize = 1_000;

/// How many gets are counted on the wire.
const COUNTED: u64 = 1_000;

/// How often the command is started.
const STARTS: usize = 20;

pub(super) struct Footprint {
    trips_per_get: f64,
    prepared: u64,
    /// Bytes, where the system tells.
    per_held: Option<f64>,
    per_waiting: Option<f64>,
    /// Of a service.
    per_idle_connection: Option<f64>,
    per_busy_connection: Option<f64>,
    start_ms: Option<f64>,
}

pub(super) async fn run(environment: &Environment, dataset: &Dataset) -> Result<Footprint> {
    let (trips_per_get, prepared) = round_trips(environment, dataset).await?;
    let (per_held, per_waiting) = memory(environment, dataset).await?;
    let (per_idle_connection, per_busy_connection) = connections(environment, dataset).await?;
    Ok(Footprint {
        trips_per_get,
        prepared,
        per_held,
        per_waiting,
        per_idle_connection,
        per_busy_connection,
        start_ms: start(environment, dataset).await?,
    })
}

/// How many statements a get sends once its connections are warm, and how many were prepared until then.
async fn round_trips(environment: &Environment, dataset: &Dataset) -> Result<(f64, u64)> {
    let cache = environment.builder().read_connections(1).build()?;
    cache.get(&dataset.url(0)).await?;
    let before = cache.stats();
    for _ in 0..COUNTED {
        cache.get(&dataset.any().0).await?;
    }
    let after = cache.stats();
    let trips = after.statements + after.statements_prepared - before.statements - before.statements_prepared;
    Ok((trips as f64 / COUNTED as f64, after.statements_prepared))
}

/// What one of the first callers in flight occupies, and what one more that waits does. A lock on the table
/// holds all calls where they are while the memory is looked at.
async fn memory(environment: &Environment, dataset: &Dataset) -> Result<(Option<f64>, Option<f64>)> {
    let cache = environment.builder().build()?;
    cache.get(&dataset.url(0)).await?;
    let empty = resident();
    lock(environment).await?;
    let held = async {
        let mut calls = tokio::task::JoinSet::new();
        let mut add = |count: usize| {
            for _ in 0..count {
                let (cache, (url, _)) = (cache.clone(), dataset.any());
                calls.spawn(async move { cache.get(&url).await });
            }
        };
        // They have nothing to do but to be polled once and wait: a turn of the executor later they all do.
        add(HELD);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let busy = resident();
        add(WAITING);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let waiting = resident();
        ensure!(calls.try_join_next().is_none(), "the calls are not held");
        Ok((calls, busy, waiting))
    };
    let held = held.await;
    unlock(environment).await?;
    let (mut calls, busy, waiting) = held?;
    while let Some(call) = calls.join_next().await {
        call??;
    }
    let each = |from: Option<f64>, to: Option<f64>, count| Some((to? - from?) / count as f64);
    Ok((each(empty, busy, HELD), each(busy, waiting, WAITING)))
}

/// Holds all calls where they are, until [`unlock`].
async fn lock(environment: &Environment) -> Result<()> {
    let lock = "begin; lock table cimd_cache.client_id_metadata in access exclusive mode";
    Ok(environment.admin.batch_execute(&internals::qualify(&environment.schema, lock)).await?)
}

async fn unlock(environment: &Environment) -> Result<()> {
    Ok(environment.admin.batch_execute("rollback").await?)
}

/// What a connection to a service occupies that has been used and is idle, and what it does in all while a call
/// is in flight. The clients are in this process too, but have nothing beyond their sockets.
async fn connections(environment: &Environment, dataset: &Dataset) -> Result<(Option<f64>, Option<f64>)> {
    let service = Service::start(environment.builder().build()?, Over::Socket).await?;
    let socket = service.socket().context("it listens on a socket")?;
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path(&dataset.url(0)));
    let mut clients = Vec::new();
    let read = async |client: &mut UnixStream| {
        let (mut buffer, mut seen) = ([0; 512], 0);
        // The end of the document is the end of the answer.
        loop {
            let read = client.read(&mut buffer).await?;
            ensure!(read > 0, "the service has closed a connection");
            seen += read;
            if buffer[..read].ends_with(b"\"}") && seen > 512 {
                return Ok(());
            }
        }
    };
    let before = resident();
    for _ in 0..CONNECTIONS {
        let mut client = UnixStream::connect(socket).await?;
        client.write_all(request.as_bytes()).await?;
        read(&mut client).await?;
        clients.push(client);
    }
    let idle = resident();
    lock(environment).await?;
    for client in &mut clients {
        client.write_all(request.as_bytes()).await?;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let busy = resident();
    unlock(environment).await?;
    for client in &mut clients {
        read(client).await?;
    }
    let each = |to: Option<f64>| Some((to? - before?) / CONNECTIONS as f64);
    Ok((each(idle), each(busy)))
}

/// The memory of this process that is not swapped out, in bytes.
pub(super) fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()?;
    Some(kib * 1024.0)
}

/// From the start of `cimd-cache get` until it has answered and ended, in milliseconds. The first start,
/// which reads the program from the disk, is not counted. None where the command is not built beside this
/// program.
async fn start(environment: &Environment, dataset: &Dataset) -> Result<Option<f64>> {
    let program = std::env::current_exe()?.with_file_name("cimd-cache");
    if !program.is_file() {
        return Ok(None);
    }
    let mut times = Vec::new();
    for _ in 0..=STARTS {
        let mut command = Command::new(&program);
        command.args(["--schema", environment.schema.name(), "get", &dataset.url(0)]);
        command.env("DATABASE_URL", &environment.url).stdout(Stdio::null());
        let begin = Instant::now();
        let status = tokio::task::spawn_blocking(move || command.status()).await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        ensure!(status.context("the command cannot be started")?.success(), "the command did not answer");
    }
    Ok(Some(median(times[1..].iter().copied())))
}

impl Footprint {
    pub(super) fn table(&self) -> String {
        let kib = |bytes: Option<f64>| {
            bytes.map_or("unknown here".to_owned(), |bytes| format!("{:.1} KiB", bytes / 1024.0))
        };
        format!(
            "\nround trips per get                   {:.3} ({} statement prepared on its connection before)\n\
             memory of each of 256 callers held    {}\n\
             memory of one more caller that waits  {}\n\
             memory of a service's idle connection {}\n\
             memory of one with a call in flight   {}\n\
             `cimd-cache get`, start to end        {}\n",
            self.trips_per_get,
            self.prepared,
            kib(self.per_held),
            kib(self.per_waiting),
            kib(self.per_idle_connection),
            kib(self.per_busy_connection),
            self.start_ms.map_or("unknown here".to_owned(), |ms| format!("{ms:.1} ms")),
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "round_trips_per_get": self.trips_per_get,
            "bytes_per_held_caller": self.per_held,
            "bytes_per_waiting_caller": self.per_waiting,
            "bytes_per_idle_connection": self.per_idle_connection,
            "bytes_per_busy_connection": self.per_busy_connection,
            "command_start_to_end_ms": self.start_ms,
        })
    }
}
