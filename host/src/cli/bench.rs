//! A benchmark for those who have to size a deployment, and for those who change the cache.
//!
//! Everything runs in one process against one table: the cache, and what would be used in its place. Contenders take
//! turns, several times, each time in another order, so that a noisy machine is noisy for all of them; what is reported
//! are medians over the turns, and medians of the ratios of turns that were close to each other.

mod arena;
mod contenders;
mod footprint;
mod load;
mod native;
mod population;
mod report;
mod sweeping;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cimd_cache::{Builder, Cache, Schema};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use self::arena::Arena;
use self::contenders::Redis;
use self::load::Measured;
pub(super) use self::load::Workload;
use self::native::{Batched, Native};
use self::population::Population;
use self::report::{Section, Series};
use super::args::{Bench, Database, Rival};
use super::{Failed, Outcome, interrupted, print};

/// How many connections native code has: in a pool, for gets and puts that share them, and for batches of gets.
const POOL: usize = 16;
const PIPELINED: (usize, usize) = (4, 8);
const BATCHED: usize = 3;

pub(super) async fn run(database: &Database, arguments: Bench) -> Result<Outcome, Failed> {
    if database.schema != Schema::default() {
        return Err(Failed::usage("the benchmark makes a schema of its own: leave out --schema"));
    }
    let file = arguments.json.clone();
    let arena = Arena::open(database).await?;
    let outcome = tokio::select! {
        measured = measure(&arena, &arguments) => measured.map(Some),
        () = interrupted() => Ok(None),
    };
    // Also after a failure; which of the two is said first matters less than that it is cleaned up.
    let cleared = arena.clear().await;
    let results = outcome?;
    cleared?;
    let Some(results) = results else { return Ok(Outcome::Interrupted) };
    if let Some(file) = file {
        let written = std::fs::write(&file, format!("{results:#}\n"));
        written.map_err(|error| Failed::output(&file, &error))?;
    }
    Ok(Outcome::Done)
}

async fn measure(arena: &Arena, arguments: &Bench) -> Result<Value> {
    let say = |text: String| print(text).map_err(anyhow::Error::from);
    let machine = format!(
        "{} cores, {}, {} rows",
        std::thread::available_parallelism().map_or(0, usize::from),
        arena.server().await?,
        arguments.rows
    );
    say(format!("{machine}; {} turns of {:?} each\n", arguments.rounds, arguments.seconds))?;
    let population = Arc::new(Population { live: arguments.rows, expired: arguments.expired });
    let progress = bar("filling the table");
    population.fill(&arena.admin, &arena.schema, &progress).await?;
    progress.finish_and_clear();

    let contenders = enter(arena, arguments, &population).await?;
    let memory: Vec<_> = contenders.iter().map(|(contender, added)| (contender.name(), *added)).collect();
    let contenders: Vec<_> = contenders.into_iter().map(|(contender, _)| contender).collect();
    let progress = bar("measuring");
    let turns =
        arguments.workload.len() * arguments.callers.len() * usize::from(arguments.rounds) * contenders.len();
    progress.set_length(turns as u64);
    let mut sections = Vec::new();
    for &workload in &arguments.workload {
        for &callers in &arguments.callers {
            let section = compare(
                &contenders,
                (Some(arena), &population),
                workload,
                callers.into(),
                arguments,
                &progress,
            )
            .await?;
            progress.suspend(|| say(section.table()))?;
            sections.push(section.json());
        }
    }
    progress.finish_and_clear();
    for contender in &contenders {
        contender.clear(&population).await?;
    }
    drop(contenders);

    let footprint = footprint::run(arena, &population).await?;
    say(footprint.table())?;
    let mib = |bytes: Option<f64>| {
        bytes.map_or("unknown here".to_owned(), |bytes| format!("{:.1} MiB", bytes / 1_048_576.0))
    };
    for (name, added) in &memory {
        say(format!("memory with {name:<34}  {}\n", mib(*added)))?;
    }
    let mut swept = Value::Null;
    if population.expired > 0 {
        let progress = bar("sweeping");
        let result =
            sweeping::run(&cache(arena, arguments).build()?, &population, arguments.seconds, &progress)
                .await?;
        progress.finish_and_clear();
        say(result.table())?;
        swept = result.json();
    }
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine,
        "rounds": arguments.rounds,
        "seconds": arguments.seconds.as_secs_f64(),
        "comparisons": sections,
        "footprint": footprint.json(),
        "memory_bytes": memory.into_iter().map(|(name, added)| (name.to_owned(), json!(added))).collect::<serde_json::Map<_, _>>(),
        "sweep": swept,
    }))
}

fn bar(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
    ProgressBar::new(1).with_style(style).with_message(what)
}

/// The turns of all contenders with one workload.
async fn compare(
    contenders: &[Entrant],
    on: (Option<&Arena>, &Arc<Population>),
    workload: Workload,
    callers: usize,
    arguments: &Bench,
    progress: &ProgressBar,
) -> Result<Section> {
    let series = |entrant: &Entrant| Series { name: entrant.name(), rounds: Vec::new() };
    let mut entries: Vec<_> = contenders.iter().map(series).collect();
    for round in 0..usize::from(arguments.rounds) {
        for at in 0..contenders.len() {
            let turn = (at + round) % contenders.len();
            let measured = contenders[turn].run(on, workload, callers, arguments.seconds).await;
            let measured = measured.with_context(|| format!("{} failed", contenders[turn].name()))?;
            entries[turn].rounds.push(measured);
            progress.inc(1);
        }
    }
    Ok(Section { workload, callers, entries })
}

/// Somebody who takes part.
enum Entrant {
    Cache(&'static str, Cache),
    Native(&'static str, Native),
    Batched(Batched),
    Redis(Redis),
}

impl Entrant {
    fn name(&self) -> &'static str {
        match self {
            Self::Cache(name, _) | Self::Native(name, _) => name,
            Self::Batched(_) => "native, batched",
            Self::Redis(_) => "Redis",
        }
    }

    async fn run(
        &self,
        on: (Option<&Arena>, &Arc<Population>),
        workload: Workload,
        callers: usize,
        time: Duration,
    ) -> Result<Measured> {
        match self {
            Self::Cache(_, cache) => load::run(cache, on, workload, callers, time).await,
            Self::Native(_, native) => load::run(native, on, workload, callers, time).await,
            Self::Batched(batched) => load::run(batched, on, workload, callers, time).await,
            Self::Redis(redis) => load::run(redis, on, workload, callers, time).await,
        }
    }

    async fn clear(&self, population: &Population) -> Result<()> {
        match self {
            Self::Redis(redis) => redis.clear(population).await,
            Self::Cache(..) | Self::Native(..) | Self::Batched(_) => Ok(()),
        }
    }
}

/// Sets everybody up, the cache first, and says how much memory each took with the most callers.
async fn enter(
    arena: &Arena,
    arguments: &Bench,
    population: &Arc<Population>,
) -> Result<Vec<(Entrant, Option<f64>)>> {
    let most = arguments.callers.iter().copied().max().unwrap_or(1).into();
    let native = || Native::pipelined(&arena.parsed, &arena.schema, PIPELINED.0, PIPELINED.1);
    // The load itself takes memory the first time.
    let mut entrants = vec![];
    Entrant::Native("", native().await?)
        .run((Some(arena), population), Workload::Get, most, arguments.seconds)
        .await?;
    let mut before = footprint::resident();
    let mut add = async |entrant: Entrant| {
        entrant.run((Some(arena), population), Workload::Get, most, arguments.seconds).await?;
        let now = footprint::resident();
        entrants.push((entrant, now.zip(before).map(|(now, before)| now - before)));
        before = now;
        Ok::<_, anyhow::Error>(())
    };
    add(Entrant::Cache("cache", cache(arena, arguments).build()?)).await?;
    for rival in &arguments.against {
        add(match rival {
            Rival::Pipelined => Entrant::Native("native, pipelined", native().await?),
            Rival::Pool => {
                Entrant::Native("native, pool of 16", Native::pool(&arena.parsed, &arena.schema, POOL).await?)
            }
            Rival::Batched => {
                Entrant::Batched(Batched::new(&arena.parsed, &arena.schema, BATCHED, POOL).await?)
            }
            Rival::Fresh => Entrant::Cache(
                "cache, an instance for each call",
                cache(arena, arguments).calls_per_instance(1).build()?,
            ),
            Rival::Near => Entrant::Cache(
                "cache, near cache",
                cache(arena, arguments).near_ttl(arguments.near_ttl).build()?,
            ),
        })
        .await?;
    }
    if let Some(url) = &arguments.redis {
        let redis = Redis::connect(url, arena.schema.name()).await?;
        redis.fill(population).await?;
        add(Entrant::Redis(redis)).await?;
    }
    Ok(entrants)
}

fn cache(arena: &Arena, arguments: &Bench) -> Builder {
    let mut builder = arena.builder();
    if let Some(connections) = arguments.read_connections {
        builder = builder.read_connections(connections);
    }
    if let Some(connections) = arguments.write_connections {
        builder = builder.write_connections(connections);
    }
    if let Some(gets) = arguments.max_batch {
        builder = builder.max_batch(gets);
    }
    builder
}
