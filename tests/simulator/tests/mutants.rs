//! Mutants of the guest's Rust: a copy of the workspace with one line changed must fail.

#![expect(clippy::unwrap_used, reason = "in a test that is how a failure is reported")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A change of one of the guest's files, and the name of the model's mutant that the unchanged line would
/// hide.
struct GuestMutant {
    promise: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    model: Option<&'static str>,
}

const fn mutant(
    promise: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
) -> GuestMutant {
    GuestMutant { promise, file, from, to, model: None }
}

/// A get and a get-many share this check of the expiry. Before it, each has its own, in its statement.
const EXPIRY_TAKEN_ON_TRUST: GuestMutant = mutant(
    "the expiry is checked again",
    "cache/rows.rs",
    "Value::Int64(expires_at)) if *expires_at > ticket.read_at() =>",
    "Value::Int64(expires_at)) =>",
);

const MUTANTS: [GuestMutant; 23] = [
    GuestMutant { model: Some("GetIgnoresExpiry"), ..EXPIRY_TAKEN_ON_TRUST },
    GuestMutant { model: Some("ManyIgnoreExpiry"), ..EXPIRY_TAKEN_ON_TRUST },
    mutant("each document is that of its URL", "cache.rs", "keys[next % keys.len()].0 != url {", "false {"),
    mutant(
        "each answer is at the place of its URL",
        "cache.rs",
        "keys.push((url.as_str(), answers.len()));",
        "keys.push((url.as_str(), urls.len() - 1 - answers.len()));",
    ),
    mutant(
        "each URL has an answer, however often it is asked for",
        "cache.rs",
        "keys[..at].iter().find(",
        "keys[..0].iter().find(",
    ),
    mutant(
        "hits and misses are of one moment",
        "cache.rs",
        "answers[*place] = Ok(Lookup::Miss(ticket));",
        "answers[*place] = Ok(Lookup::Miss(Ticket::new(ticket.read_at(), 0).unwrap_or(ticket)));",
    ),
    mutant(
        "as many URLs are sent as is said",
        "cache.rs",
        "Value::Int64(keys.len() as i64)",
        "Value::Int64(keys.len() as i64 + 1)",
    ),
    mutant(
        "a URL in an array is quoted",
        "cache/rows.rs",
        "array.push('\"');\n        let mut rest",
        "if true {\n            array.push_str(text);\n            continue;\n        }\n        let mut rest",
    ),
    mutant(
        "a quote in an array is escaped",
        "cache/rows.rs",
        "rest.find(['\"', '\\\\'])",
        "rest.find(['\\\\'])",
    ),
    mutant(
        "a backslash in an array is escaped",
        "cache/rows.rs",
        "rest.find(['\"', '\\\\'])",
        "rest.find(['\"'])",
    ),
    mutant(
        "a ticket far ahead of the clock is told from a lost race",
        "cache.rs",
        "if ticket.read_at() > now.saturating_add(",
        "if ticket.read_at() < now.saturating_sub(",
    ),
    mutant(
        "a ticket a little ahead of the clock is no mistake",
        "cache.rs",
        "now.saturating_add(FUTURE_TOLERANCE_SECONDS * MICROS)",
        "now",
    ),
    mutant(
        "a lifetime of any length is kept",
        "cache/arguments.rs",
        "Expiry::At(_) | Expiry::After(_) => Ok(()),",
        "Expiry::After(seconds) if seconds > LONGEST_LIFETIME => check_expiry(Expiry::At(-1)),\n        Expiry::At(_) | Expiry::After(_) => Ok(()),",
    ),
    mutant("a sweep says when there is no more", "cache.rs", "removed, more }),", "removed, more: !more }),"),
    mutant("no row means not stored", "cache.rs", "if rows.is_empty()", "if !rows.is_empty()"),
    mutant(
        "a put sends its ticket",
        "cache.rs",
        "(Value::Int64(ticket.read_at()), Value",
        "(Value::Null, Value",
    ),
    mutant(
        "a put sends the purge its ticket saw",
        "cache.rs",
        ", Value::Int64(ticket.purged_at()))",
        ", Value::Null)",
    ),
    mutant(
        "freshness is in milliseconds",
        "cache/rows.rs",
        ".unsigned_abs() / 1_000,",
        ".unsigned_abs() / 1_000_000,",
    ),
    mutant(
        "an expiry is rounded down",
        "cache/rows.rs",
        "expires_at.div_euclid(MICROS)",
        "(expires_at + MICROS - 1).div_euclid(MICROS)",
    ),
    mutant(
        "the two halves of a sweep share its limit",
        "cache.rs",
        "i64::from(limit - removed)",
        "i64::from(limit)",
    ),
    mutant("a delete says what it found", "cache.rs", "=> Ok(had_document)", "=> Ok(!had_document)"),
    mutant(
        "a timeout is not an outage",
        "error.rs",
        "\"57014\" | \"55P03\" => Error::TimedOut",
        "\"57014\" | \"55P03\" => Error::Unavailable",
    ),
    mutant(
        "nothing but a ticket is one",
        "ticket.rs",
        "digits.then(|| i64::from_str_radix(text, 16).ok())?",
        "i64::from_str_radix(text, 16).ok().filter(|_| digits || text.len() < 18)",
    ),
];

#[test]
fn every_mutant_in_the_guest_is_found() {
    let workspace = Workspace::copy();
    assert!(workspace.passes(None), "the unchanged copy must pass");
    for GuestMutant { promise, file, from, to, model } in MUTANTS {
        let path = workspace.directory.join("guest/src").join(file);
        let original = fs::read_to_string(&path).unwrap();
        assert_eq!(original.matches(from).count(), 1, "{promise}: {file} has changed, so must the mutant");
        fs::write(&path, original.replace(from, to)).unwrap();
        assert!(!workspace.passes(model), "nobody noticed the opposite of: {promise}");
        fs::write(&path, original).unwrap();
    }
}

/// The members of the copy.
const MEMBERS: [&str; 2] = ["guest", "tests/simulator"];

/// A workspace of the guest and the simulator only. Its directory stays from run to run, with what was
/// compiled there.
struct Workspace {
    directory: PathBuf,
}

impl Workspace {
    fn copy() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
        fs::create_dir_all(&directory).unwrap();
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let begin = manifest.find("members = [").unwrap();
        let end = begin + manifest[begin..].find(']').unwrap() + 1;
        let manifest = manifest.replace(&manifest[begin..end], &format!("members = {MEMBERS:?}"));
        // The profiles are for speed at run time; here compiling takes the time.
        let profiles = manifest.find("[profile.").unwrap_or(manifest.len());
        fs::write(directory.join("Cargo.toml"), &manifest[..profiles]).unwrap();
        for file in ["Cargo.lock", "rust-toolchain.toml"] {
            fs::copy(root.join(file), directory.join(file)).unwrap();
        }
        for member in MEMBERS {
            let (from, to) = (root.join(member), directory.join(member));
            if to.exists() {
                fs::remove_dir_all(&to).unwrap();
            }
            fs::create_dir_all(&to).unwrap();
            fs::copy(from.join("Cargo.toml"), to.join("Cargo.toml")).unwrap();
            copy(&from.join("src"), &to.join("src"));
        }
        Self { directory }
    }

    /// Whether the simulator, built with the guest as it is now, finds no violation.
    fn passes(&self, model: Option<&str>) -> bool {
        let mut run = Command::new(env!("CARGO"));
        run.current_dir(&self.directory)
            .args(["run", "--offline", "--quiet", "-p", "cimd-cache-simulator", "--", "--histories", "20000"])
            .args(model.iter().flat_map(|name| ["--mutant", name]))
            .env("CARGO_TARGET_DIR", self.directory.join("target"))
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_DEV_DEBUG", "false");
        let output = run.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let verdict = said.contains("violates the contract");
        assert!(output.status.success() != verdict, "{said}{}", String::from_utf8_lossy(&output.stderr));
        !verdict
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
