//! The command, run as a script runs it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The command, without a database in its environment, and with pipes for all that it reads and writes.
pub(crate) fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_cimd-cache"));
    for variable in ["DATABASE_URL", "PGPASSWORD", "PGPASSFILE"] {
        program.env_remove(variable);
    }
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    program
}

/// Runs the command.
pub(crate) async fn command(arguments: &[&str], stdin: &str) -> Output {
    let (arguments, stdin) =
        (arguments.iter().map(ToString::to_string).collect::<Vec<_>>(), stdin.to_owned());
    let run = move || {
        let mut child = program().args(arguments).spawn().unwrap();
        // A command that does not read its input may be gone before it is written.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// The shell that keeps a demo's Postgres, as its entry in /proc, and the directory it keeps it in.
pub(crate) fn keeper_of(demo: u32) -> Option<(PathBuf, PathBuf)> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes.into_iter().find_map(|process| {
        let status = std::fs::read_to_string(process.join("status")).ok()?;
        let is_child = status.lines().any(|line| line == format!("PPid:\t{demo}"));
        let arguments = std::fs::read_to_string(process.join("cmdline")).ok()?;
        let directory =
            arguments.split('\0').find(|argument| argument.contains("/cimd-cache-") && is_child)?;
        Some((process, PathBuf::from(directory)))
    })
}

/// Exit status, stdout and stderr.
pub(crate) fn parts(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A process that is ended when it is dropped.
pub(crate) struct Ended(pub(crate) std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
