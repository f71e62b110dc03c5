//! What a shell and `man` need to know of the command, from its own definition.

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use crate::args::Arguments;
use crate::outcome::{Failed, Outcome, print};

const NAME: &str = "cimd-cache";

pub(super) fn completions(shell: Shell) -> Result<Outcome, Failed> {
    let mut script = Vec::new();
    generate(shell, &mut Arguments::command(), NAME, &mut script);
    print(script)?;
    Ok(Outcome::Done)
}

/// The page of the command, or of one of its subcommands.
pub(super) fn man(subcommand: Option<&str>) -> Result<Outcome, Failed> {
    let mut command = Arguments::command();
    // Gives the subcommands the names that they are called by, such as `cimd-cache get`.
    command.build();
    let command = match subcommand {
        None => command,
        Some(name) => {
            let found = command.find_subcommand(name).cloned();
            found
                .ok_or_else(|| Failed::usage(format!("there is no command {name}: see cimd-cache --help")))?
        }
    };
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(|error| Failed::unprintable(&error))?;
    print(page)?;
    Ok(Outcome::Done)
}
