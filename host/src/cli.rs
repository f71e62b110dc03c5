//! The command line: arguments in, one sentence and an exit status out.

mod args;
mod bench;
mod calls;
mod demo;
mod documents;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use cimd_cache::migrations::MigrateError;
use cimd_cache::{BuildError, CheckError, Error};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use self::args::{Arguments, Command};

/// How a command ends when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// There was no fresh document.
    Miss,
    /// A signal ended it, and it has cleaned up.
    Interrupted,
}

/// Why a command failed: what it exits with, and a sentence that says what to do.
#[derive(Debug)]
struct Failed {
    status: u8,
    text: String,
}

/// Exit statuses: 0 and 1 are the outcomes.
const MISS: u8 = 1;
const WRONG_USE: u8 = 2;
const DATABASE: u8 = 3;
/// As a shell reports a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

pub(crate) async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let level = if arguments.verbose { LevelFilter::DEBUG } else { LevelFilter::OFF };
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_ansi(colours).init();

    match run(arguments).await {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Miss) => MISS.into(),
        Ok(Outcome::Interrupted) => INTERRUPTED.into(),
        Err(failed) => {
            // If stderr is gone too, there is nobody to tell.
            let _ = writeln!(io::stderr(), "error: {}", failed.text);
            failed.status.into()
        }
    }
}

async fn run(arguments: Arguments) -> Result<Outcome, Failed> {
    let database = arguments.database;
    match arguments.command {
        Command::Get(get) => calls::get(&database, get).await,
        Command::Put(put) => calls::put(&database, put).await,
        Command::Delete(delete) => calls::delete(&database, delete).await,
        Command::Check => calls::check(&database).await,
        Command::Sweep(sweep) => calls::sweep(&database, sweep).await,
        Command::Migrate(migrate) => calls::migrate(&database, migrate).await,
        Command::Component(component) => calls::component(component),
        // It has something to clean up, and sees to it itself.
        Command::Bench(bench) => bench::run(&database, bench).await,
        // Dropped, it stops its Postgres. A signal ends the others as it ends any program, also while they wait for their
        // input.
        Command::Demo => tokio::select! {
            result = demo::run() => result,
            () = interrupted() => Ok(Outcome::Interrupted),
        },
    }
}

/// Ctrl-C, or a request to terminate.
async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// Writes a result to stdout. A reader that has gone away ends the command, not a panic.
fn print(text: impl AsRef<[u8]>) -> Result<(), Failed> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref()).and_then(|()| out.flush()).map_err(|error| Failed {
        status: WRONG_USE,
        text: format!("cannot write to the standard output: {}", error.kind()),
    })
}

/// Says what was done, to people: stdout is for results.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

impl Failed {
    fn wrong_use(text: impl Into<String>) -> Self {
        Self { status: WRONG_USE, text: text.into() }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::InvalidUrl(_)
            | Error::InvalidMetadata(_)
            | Error::InvalidExpiry(_)
            | Error::InvalidTicket(_) => WRONG_USE,
            Error::NotConfigured | Error::Unavailable | Error::TimedOut | Error::Storage => DATABASE,
        };
        let text = match error {
            // The same words for a user of the command as `check` has.
            Error::NotConfigured => CheckError::NotConfigured.to_string(),
            error => error.to_string(),
        };
        Self { status, text }
    }
}

impl From<CheckError> for Failed {
    fn from(error: CheckError) -> Self {
        Self { status: DATABASE, text: error.to_string() }
    }
}

impl From<BuildError> for Failed {
    fn from(error: BuildError) -> Self {
        Self::wrong_use(error.to_string())
    }
}

impl From<MigrateError> for Failed {
    fn from(error: MigrateError) -> Self {
        let status = match error {
            MigrateError::DatabaseUrl(_) | MigrateError::Certificates(_) => WRONG_USE,
            _ => DATABASE,
        };
        Self { status, text: error.to_string() }
    }
}
