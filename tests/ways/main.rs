//! The ways into the cache, held against the contract as data: `tests/conformance` has the cases and the
//! controller.
//!
//! Without arguments this program plays all cases on each way in, and shows that mutants fail. With words it
//! plays those ways and cases whose names contain all of them. With `way NAME` it is that way in itself.

#![expect(clippy::unwrap_used, reason = "in a test that is how a failure is reported")]

mod command;
mod library;
mod lines;
mod mutant;
mod service;

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use cimd_cache_conformance::{Case, cases, exceptions, run};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The ways in that have to pass.
const WAYS: [&str; 4] = ["library", "command", "service", "python"];

/// Cases at once: each has two processes, which compile the component.
const AT_ONCE: usize = 4;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if let [way, name] = &words[..]
        && way == "way"
    {
        match name.as_str() {
            "library" => lines::serve(library::Library::open()).await,
            "command" => lines::serve(command::CommandLine::open()).await,
            "service" => lines::serve(service::Service::open().await).await,
            "python" => service::Service::open().await.with("python3", "python.py").await,
            mutant => lines::serve(mutant::Mutant::open(mutant)).await,
        }
        return ExitCode::SUCCESS;
    }
    let cases = Arc::new(cases().unwrap());
    check_cases(&cases);
    let mut failures = 0;
    for way in WAYS {
        failures += play(way, &cases, &words).await;
    }
    if words.is_empty() {
        for (mutant, id) in mutant::ALL {
            let case = cases.iter().find(|case| case.id == id).unwrap_or_else(|| panic!("no case {id}"));
            let noticed = run(case, &program(mutant)).await.is_err();
            println!("{} {mutant}: {id}", if noticed { "noticed" } else { "FAILED: not noticed" });
            failures += u32::from(!noticed);
        }
    }
    println!("{failures} failures");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// This program, as a way in.
fn program(way: &str) -> Command {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["way", way]);
    program
}

/// Names are unique, and every number of the contract is there that can be seen from outside.
fn check_cases(cases: &[Case]) {
    let ids: BTreeSet<_> = cases.iter().map(|case| &case.id).collect();
    assert_eq!(ids.len(), cases.len(), "two cases have one name");
    let numbers: BTreeSet<_> = cases.iter().flat_map(|case| case.contract.iter().copied()).collect();
    // 9 (lengths on the way), and 15 (a trap is a bug) are about the inside: tests/sandbox.rs,
    // tests/refusals.rs.
    let missing: Vec<_> = (1..=14).filter(|number| !numbers.contains(number) && *number != 9).collect();
    assert!(missing.is_empty(), "no case is about {missing:?}");
}

/// Plays the cases on a way in; how many ended otherwise than they should.
async fn play(way: &'static str, cases: &Arc<Vec<Case>>, words: &[String]) -> u32 {
    let exceptions = exceptions(way).unwrap();
    for id in exceptions.keys() {
        assert!(cases.iter().any(|case| case.id == *id), "{way} lists {id}, which is no case");
    }
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut plays = JoinSet::new();
    for at in 0..cases.len() {
        let name = format!("{way}: {}", cases[at].id);
        if !words.iter().all(|word| name.contains(word.as_str())) {
            continue;
        }
        let (cases, room) = (cases.clone(), room.clone());
        plays.spawn(async move {
            let _permit = room.acquire().await.unwrap();
            (at, run(&cases[at], &program(way)).await)
        });
    }
    let mut failures = 0;
    while let Some(played) = plays.join_next().await {
        let (at, result) = played.unwrap();
        let id = &cases[at].id;
        match (result, exceptions.get(id)) {
            (Ok(()), None) => println!("ok {way}: {id}"),
            (Err(_), Some(reason)) => println!("ok {way}: {id} (cannot: {reason})"),
            (Ok(()), Some(_)) => {
                println!("FAILED {way}: {id}: it passes, and is listed as one that cannot");
                failures += 1;
            }
            (Err(error), None) => {
                println!("FAILED {way}: {id}: {error:#}");
                failures += 1;
            }
        }
    }
    failures
}
