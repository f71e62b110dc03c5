//! All measurements, one after another: what is compared, the footprint, the sweep.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::args::Arguments;
use crate::dataset::Dataset;
use crate::entrant::{self, Entrant};
use crate::environment::Environment;
use crate::load::Workload;
use crate::report::{Section, Series};
use crate::{footprint, sweeping};

fn say(text: impl AsRef<str>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_ref().as_bytes()).and_then(|()| out.flush());
    written.context("cannot write to the standard output")
}

/// Measures what the arguments ask for, prints it, and returns it for programs.
pub(super) async fn run(environment: &Environment, arguments: &Arguments) -> Result<Value> {
    let machine = format!(
        "{} cores, {}, {} rows",
        std::thread::available_parallelism().map_or(0, usize::from),
        environment.server().await?,
        arguments.rows
    );
    say(format!("{machine}; {} turns of {:?} each\n", arguments.rounds, arguments.seconds))?;
    let dataset = Arc::new(Dataset { live: arguments.rows, expired: arguments.expired });
    let progress = bar("filling the table");
    dataset.fill(&environment.admin, &environment.schema, &progress).await?;
    progress.finish_and_clear();

    let contenders = entrant::enter(environment, arguments, &dataset).await?;
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
                (Some(environment), &dataset),
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
        contender.clear(&dataset).await?;
    }
    drop(contenders);

    let footprint = footprint::run(environment, &dataset).await?;
    say(footprint.table())?;
    let mib = |bytes: Option<f64>| {
        bytes.map_or("unknown here".to_owned(), |bytes| format!("{:.1} MiB", bytes / 1_048_576.0))
    };
    for (name, added) in &memory {
        say(format!("memory with {name:<34}  {}\n", mib(*added)))?;
    }
    let mut swept = Value::Null;
    if dataset.expired > 0 {
        let progress = bar("sweeping");
        let result = sweeping::run(
            &entrant::cache(environment, arguments).build()?,
            &dataset,
            arguments.seconds,
            &progress,
        )
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
    on: (Option<&Environment>, &Arc<Dataset>),
    workload: Workload,
    callers: usize,
    arguments: &Arguments,
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
