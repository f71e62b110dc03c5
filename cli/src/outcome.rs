//! How a command ends: its exit status, and what it says on the way.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use cimd_cache::migrations::MigrateError;
use cimd_cache::{BuildError, CheckError};
use serde_json::json;

/// How a command ends when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// There was no fresh document.
    Miss,
    /// A put was not stored, because something newer is known.
    Superseded,
    /// A signal ended it, and it has cleaned up.
    Interrupted,
}

impl Outcome {
    pub(super) fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Miss => MISS,
            Self::Superseded => SUPERSEDED,
            Self::Interrupted => INTERRUPTED,
        }
    }
}

/// Why a command failed: what it exits with, and a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failed {
    pub(super) status: u8,
    /// For programs: a case of the library's error, or a word for what else went wrong.
    code: &'static str,
    text: String,
}

const MISS: u8 = 1;
/// As clap has it.
const USAGE: u8 = 2;
const DATABASE: u8 = 3;
const REFUSED: u8 = 4;
const SUPERSEDED: u8 = 5;
const OUTPUT: u8 = 6;
/// As a shell reports a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// What scripts may rely on, in the help of the command and in the README.
pub(super) const STATUSES: &str = "\
Exit status:
    0  done; a get hit, a put stored
    1  miss: there is no fresh document (get)
    2  usage: an argument, the database URL, or a file that cannot be read
    3  database: not configured, not reachable, too slow, or it refused; or this machine cannot run the component
    4  refused input: the URL, document, expiry or ticket cannot be used; fix it, or reject the client
    5  superseded: something newer is known, and nothing was changed (put)
    6  output: the result could not be written; the command was done all the same
  130  interrupted

With --format json a command that answers prints one object on stdout, even if it failed:
{\"outcome\":\"error\",\"status\":3,\"code\":\"unavailable\",\"error\":\"...\"}. Without, a failure is one sentence on stderr.";

impl Failed {
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self { status: USAGE, code: "usage", text: text.into() }
    }

    /// A document that the library does not even get to see.
    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self { status: REFUSED, code: "invalid-metadata", text: text.into() }
    }

    pub(super) fn database(text: impl Into<String>) -> Self {
        Self { status: DATABASE, code: "not-ready", text: text.into() }
    }

    pub(super) fn output(file: &Path, error: &io::Error) -> Self {
        Self {
            status: OUTPUT,
            code: "output",
            text: format!("cannot write {}: {}", file.display(), error.kind()),
        }
    }

    /// Of the standard output.
    pub(super) fn unprintable(error: &io::Error) -> Self {
        let text = match error.kind() {
            io::ErrorKind::BrokenPipe => String::new(),
            kind => format!("cannot write to the standard output: {kind}"),
        };
        Self { status: OUTPUT, code: "output", text }
    }

    /// The same, of a call that failed with `error`: a check has found why, and programs go by the call.
    pub(super) fn of(self, error: &cimd_cache::Error) -> Self {
        Self { code: error.code(), ..self }
    }

    /// Tells the user: as an object on stdout if results are asked for as JSON, else on stderr. If that is
    /// gone too, there is nobody to tell.
    pub(super) fn tell(&self, as_json: bool) {
        if self.text.is_empty() {
            return;
        }
        if as_json && self.status != OUTPUT {
            let error =
                json!({ "outcome": "error", "status": self.status, "code": self.code, "error": self.text });
            let _ = print(format!("{error}\n"));
        } else {
            let _ = writeln!(io::stderr(), "error: {}", self.text);
        }
    }
}

/// Writes a result to stdout. Where its reader has gone there is nothing to say.
pub(super) fn print(text: impl AsRef<[u8]>) -> Result<(), Failed> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref()).and_then(|()| out.flush()).map_err(|error| Failed::unprintable(&error))
}

/// Says what was done, to people: stdout is for results.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// From the demo and the benchmark, whose failures are of many kinds: a result that could not be printed,
/// else whatever kept the database from working.
impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        error.downcast().unwrap_or_else(|error| Self::database(format!("{error:#}")))
    }
}

impl From<cimd_cache::Error> for Failed {
    fn from(error: cimd_cache::Error) -> Self {
        use cimd_cache::Error;

        let text = error.to_string();
        let failed = match error {
            Error::InvalidUrl(_)
            | Error::InvalidMetadata(_)
            | Error::InvalidExpiry(_)
            | Error::InvalidTicket(_) => Self::refused(text),
            // The same words for a user of the command as `check` has.
            Error::NotConfigured => Self::from(CheckError::NotConfigured),
            Error::Unavailable | Error::TimedOut | Error::Storage => Self::database(text),
        };
        failed.of(&error)
    }
}

impl From<CheckError> for Failed {
    fn from(error: CheckError) -> Self {
        Self::database(error.to_string())
    }
}

impl From<BuildError> for Failed {
    fn from(error: BuildError) -> Self {
        let text = with_causes(&error);
        match error {
            // Not the user's mistake: this machine will not have it, whatever is written on the command line.
            BuildError::Component(_) | BuildError::OutOfMemory | BuildError::NotExecutable => {
                Self::database(text)
            }
            _ => Self::usage(text),
        }
    }
}

impl From<MigrateError> for Failed {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::DatabaseUrl(_) | MigrateError::Certificates(_) | MigrateError::ClockTolerance => {
                Self::usage(with_causes(&error))
            }
            // Its cause is what the server said, which is for the log.
            _ => Self::database(error.to_string()),
        }
    }
}

/// The text of an error, and behind it those of its causes.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error| (**error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
