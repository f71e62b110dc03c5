//! The command `cimd-cache`: arguments in, one sentence and an exit status out. A thin user of the library.

mod args;
mod commands;
mod demo;
mod health;
mod log;
mod outcome;
mod pages;
mod serve;

use std::io;
use std::process::ExitCode;

use cimd_cache_service::interrupted;
use clap::Parser;

use self::args::{Arguments, Command, Format};
use self::log::Log;
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
    let as_json = arguments.format == Format::Json;
    let ended = match Log::begin(&arguments) {
        Ok(log) => {
            let ended = run(arguments).await;
            log.end();
            ended
        }
        Err(failed) => Err(failed),
    };
    let status = match ended {
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
        Command::Health(health) => health::health(&health),
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
