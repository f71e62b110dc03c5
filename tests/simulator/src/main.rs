//! Runs random histories, or shows one of them.

use std::process::ExitCode;

use cimd_cache_simulator::mutant::Mutant;
use cimd_cache_simulator::search::first_violation;
use cimd_cache_simulator::world::{simulate, simulate_and_tell};
use clap::Parser;

/// Run random histories of the cache on a model of its database, and check every answer against the contract
#[derive(Parser)]
struct Arguments {
    /// Show the history of this seed, step by step, instead
    #[arg(long, conflicts_with_all = ["histories", "first"])]
    seed: Option<u64>,

    /// How many histories to run, on all cores
    #[arg(long, default_value_t = 100_000)]
    histories: u64,

    /// The seed of the first history
    #[arg(long, default_value_t = 0)]
    first: u64,

    /// Break one rule of the SQL in the model
    #[arg(long, hide = true)]
    mutant: Option<Mutant>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let fine = match arguments.seed {
        Some(seed) => show(seed, arguments.mutant),
        None => run(arguments.first, arguments.histories, arguments.mutant),
    };
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shows a history: what happened, what callers saw, and what the contract says.
fn show(seed: u64, mutant: Option<Mutant>) -> bool {
    let simulated = simulate_and_tell(seed, mutant);
    for step in &simulated.steps {
        println!("{step}");
    }
    println!();
    for (index, call) in simulated.history.calls.iter().enumerate() {
        println!("call {index}: {call}");
    }
    println!();
    for violation in &simulated.violations {
        println!("{violation}");
    }
    if simulated.violations.is_empty() {
        println!("The contract allows every answer.");
    }
    simulated.violations.is_empty()
}

/// Runs histories until one violates the contract, and says how to show that one.
fn run(first: u64, histories: u64, mutant: Option<Mutant>) -> bool {
    let seeds = first..first.saturating_add(histories);
    let Some(seed) = first_violation(seeds, |seed| simulate(seed, mutant)) else {
        println!("The contract allows every answer of {histories} histories.");
        return true;
    };
    println!("The history of seed {seed} violates the contract:");
    for violation in simulate(seed, mutant).violations {
        println!("  {violation}");
    }
    let mutant = mutant.map_or(String::new(), |mutant| format!(" --mutant {}", mutant.name()));
    println!("To see it:\n  cargo run -p cimd-cache-simulator -- --seed {seed}{mutant}");
    false
}
