//! The ways into the cache, held against the contract as data: `tests/conformance` has the cases and the
//! controller.
//!
//! Without arguments this program plays all cases on each way in, and shows that mutants fail. With words it
//! plays those ways and cases whose names contain all of them. `run` plays them on a way in from elsewhere:
//!
//! ```text
//! run NAME [--service] [--only WORD]... [--] PROGRAM [ARGUMENT]...
//! ```
//!
//! With `way NAME` it is that way in itself.

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

/// The ways in that have to pass. Those with a script are clients of the service.
const WAYS: [(&str, &[&str]); 7] = [
    ("library", &[]),
    ("command", &[]),
    ("service", &[]),
    ("python", &["python3", "tests/ways/python.py"]),
    ("java", &["sh", "tests/ways/java.sh"]),
    ("elixir", &["sh", "tests/ways/elixir.sh"]),
    ("attesto", &["sh", "tests/ways/elixir.sh", "AttestoWay"]),
];

/// Languages without which their ways are skipped.
const LANGUAGES: [(&str, &str); 3] = [("java", "javac"), ("elixir", "elixirc"), ("attesto", "elixirc")];

/// Cases at once: each has two processes, which compile the component.
const AT_ONCE: usize = 4;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    // Scripts are named from the root of the project.
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let mut arguments = arguments.iter().map(String::as_str);
    match arguments.next() {
        Some("way") => {
            be(arguments.next().unwrap()).await;
            return ExitCode::SUCCESS;
        }
        Some("with-service") => {
            let program: Vec<_> = arguments.collect();
            service::Service::open().await.with(&program).await;
            return ExitCode::SUCCESS;
        }
        Some("schema") => {
            println!("{}", cimd_cache_conformance::schema());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let cases = Arc::new(cases().unwrap());
    check_cases(&cases);
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let failures = match &arguments[..] {
        [run, name, rest @ ..] if run == "run" => {
            let (program, words) = foreign(rest);
            play(name, &program, &cases, &words).await
        }
        words => {
            let words: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).cloned().collect();
            ours(&cases, &words).await
        }
    };
    println!("{failures} failures");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Is a way in, until stdin ends.
async fn be(name: &str) {
    match name {
        "library" => lines::serve(library::Library::open()).await,
        "command" => lines::serve(command::CommandLine::open()).await,
        "service" => lines::serve(service::Service::open().await).await,
        mutant => lines::serve(mutant::Mutant::open(mutant)).await,
    }
}

/// Plays the cases on our own ways in, and on the mutants; how many failed.
async fn ours(cases: &Arc<Vec<Case>>, words: &[String]) -> u32 {
    let mut failures = 0;
    for (name, script) in WAYS {
        let language = LANGUAGES.iter().find(|(way, _)| *way == name);
        if let Some((_, compiler)) = language
            && Command::new(compiler).arg("--version").output().is_err()
        {
            println!("SKIPPED {name}: there is no {compiler} on this machine");
            continue;
        }
        let program = if script.is_empty() { this(&["way", name]) } else { with_service(script) };
        failures += play(name, &program, cases, words).await;
    }
    if words.is_empty() {
        for (mutant, id) in mutant::ALL {
            let case = cases.iter().find(|case| case.id == id).unwrap_or_else(|| panic!("no case {id}"));
            let noticed = run(case, &command(&this(&["way", mutant]))).await.is_err();
            println!("{} {mutant}: {id}", if noticed { "noticed" } else { "FAILED: not noticed" });
            failures += u32::from(!noticed);
        }
    }
    failures
}

/// A program and its arguments.
type Program = Vec<String>;

fn command(program: &Program) -> Command {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]);
    command
}

/// This program, with arguments.
fn this(arguments: &[&str]) -> Program {
    let this = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    std::iter::once(this).chain(arguments.iter().map(ToString::to_string)).collect()
}

/// A program, with a service beside it.
fn with_service(program: &[&str]) -> Program {
    let arguments: Vec<_> = std::iter::once("with-service").chain(program.iter().copied()).collect();
    this(&arguments)
}

/// The program of a way in from elsewhere, and the words by which its cases are chosen.
fn foreign(mut arguments: &[String]) -> (Program, Vec<String>) {
    let (mut service, mut words) = (false, Vec::new());
    loop {
        match arguments {
            [flag, rest @ ..] if flag == "--service" => (service, arguments) = (true, rest),
            [flag, word, rest @ ..] if flag == "--only" => {
                words.push(word.clone());
                arguments = rest;
            }
            [flag, rest @ ..] if flag == "--" => break arguments = rest,
            _ => break,
        }
    }
    assert!(!arguments.is_empty(), "run NAME [--service] [--only WORD]... [--] PROGRAM [ARGUMENT]...");
    let program: Vec<_> = arguments.iter().map(String::as_str).collect();
    (if service { with_service(&program) } else { arguments.to_vec() }, words)
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
async fn play(way: &str, program: &Program, cases: &Arc<Vec<Case>>, words: &[String]) -> u32 {
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
        let (cases, room, program) = (cases.clone(), room.clone(), program.clone());
        plays.spawn(async move {
            let _permit = room.acquire().await.unwrap();
            (at, run(&cases[at], &command(&program)).await)
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
