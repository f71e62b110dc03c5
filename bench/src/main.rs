//! A benchmark for those who have to size a deployment, and for those who change the cache.
//!
//! Everything runs in one process against one table: the cache, and what would be used in its place.
//! Contenders take turns in several rounds, each round in another order, so that a noisy machine is noisy for
//! all of them. Medians over the rounds are reported, and medians of the ratios of turns that were close to
//! each other.

mod args;
mod contender;
mod dataset;
mod entrant;
mod environment;
mod footprint;
mod load;
mod measure;
mod native;
mod report;
mod service;
mod sweeping;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use cimd_cache_service::interrupted;
use clap::Parser;
use serde_json::Value;

use self::args::Arguments;
use self::environment::Environment;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(Some(_)) => ExitCode::SUCCESS,
        // As a shell reports a program that SIGINT ended.
        Ok(None) => ExitCode::from(130),
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The results. None if a signal ended it.
async fn run(arguments: &Arguments) -> Result<Option<Value>> {
    let environment = Environment::open(arguments.url()).await?;
    let outcome = tokio::select! {
        measured = measure::run(&environment, arguments) => measured.map(Some),
        () = interrupted() => Ok(None),
    };
    // After a failure too; which of the two is reported first matters less than that it is cleaned up.
    let cleared = environment.clear().await;
    let results = outcome?;
    cleared?;
    if let Some((file, results)) = arguments.json.as_ref().zip(results.as_ref()) {
        let written = std::fs::write(file, format!("{results:#}\n"));
        written.with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(results)
}
