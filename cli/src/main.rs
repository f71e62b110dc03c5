//! The command `cimd-cache`: arguments in, one sentence and an exit status out. A thin user of the library.

mod args;
mod commands;
mod demo;
mod outcome;
mod pages;
mod serve;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use self::args::{Arguments, Command, Format};
use self::outcome::{Failed, Outcome, print, say};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // The help and the version are results too; all else is a usage error, which clap tells.
        Err(told) if !told.use_stderr() => {
            return match told.print().and_then(|()| io::Write::flush(&mut io::stdout())) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    let failed = Failed::unprintable(&error);
                    failed.tell(false);
                    failed.status.into()
                }
            };
        }
        Err(usage) => usage.exit(),
    };
    let level = match (arguments.verbose, &arguments.command) {
        (true, _) => LevelFilter::DEBUG,
        // A service has nobody to print to but its log.
        (false, Command::Serve(_)) => LevelFilter::INFO,
        (false, _) => LevelFilter::OFF,
    };
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_ansi(colours).init();

    let as_json = arguments.format == Format::Json;
    let status = match run(arguments).await {
        Ok(outcome) => outcome.status(),
        Err(failed) => {
            failed.tell(as_json);
            failed.status
        }
    };
    status.into()
}

async fn run(arguments: Arguments) -> Result<Outcome, Failed> {
    let (database, format) = (arguments.database, arguments.format);
    match arguments.command {
        Command::Get(get) => commands::get(&database, format, get).await,
        Command::Put(put) => commands::put(&database, format, put).await,
        Command::Delete(delete) => commands::delete(&database, format, &delete).await,
        Command::Purge => commands::purge(&database, format).await,
        Command::Check => commands::check(&database, format).await,
        Command::Sweep(sweep) => commands::sweep(&database, format, sweep).await,
        Command::Migrate(migrate) => commands::migrate(&database, format, migrate).await,
        Command::Component(component) => commands::component(component),
        Command::Serve(serve) => serve::serve(&database, serve).await,
        Command::Health(health) => serve::health(&health),
        Command::Completions { shell } => pages::completions(shell),
        Command::Man { subcommand } => pages::man(subcommand.as_deref()),
        // Dropped, it stops its Postgres. A signal ends the others as it ends any program, also while they
        // wait for their input.
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
