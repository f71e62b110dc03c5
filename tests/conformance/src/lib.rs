//! The contract as data, and what holds a way into the cache against it: see `README.md` beside this crate.
//!
//! `case` is what may stand in a file, `value` how values are written there, `expect` how answers are
//! compared with them. `way` is a process that is asked, `stage` the database with its faults, and `run`
//! plays a case on both.

#![allow(clippy::missing_panics_doc, reason = "a test that cannot go on panics")]

mod case;
mod expect;
mod run;
mod stage;
mod value;
mod way;

use std::path::Path;

use anyhow::{Context, Result};

pub use crate::case::Case;
pub use crate::run::run;
pub use crate::way::{Request, Way};

/// All cases, in the order of their files and in these.
///
/// # Errors
///
/// When a file is not a list of cases.
pub fn cases() -> Result<Vec<Case>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut files: Vec<_> =
        std::fs::read_dir(directory)?.map(|file| file.map(|file| file.path())).collect::<Result<_, _>>()?;
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let cases: Vec<Case> = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        all.extend(cases);
    }
    Ok(all)
}

/// The JSON Schema of a file of cases, as it stands in `schema.json`.
pub fn schema() -> String {
    format!("{:#}", schemars::schema_for!(Vec<Case>).to_value())
}

/// The cases that a way in cannot pass, each with the reason. One without a file passes all.
///
/// # Errors
///
/// When the file is not an object of strings.
pub fn exceptions(way: &str) -> Result<std::collections::BTreeMap<String, String>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("ways").join(format!("{way}.json"));
    let text = match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "{}".to_owned(),
        read => read.with_context(|| file.display().to_string())?,
    };
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_schema_is_that_of_the_types() {
        let committed = include_str!("../schema.json");
        assert_eq!(committed.trim_end(), super::schema(), "make it anew, as README.md says");
    }
}
