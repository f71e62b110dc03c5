//! The kept inputs: those written by hand, under names that say what they are, and those with which the
//! fuzzer reached code that no other input reaches.
//!
//! Each target has one file, `corpus/TARGET.jsonl`: an input per line, as a JSON object with an `input` and,
//! if it was written by hand, a `name`. The named ones come first, in the order of their names, then the
//! others, in the order of their bytes. libFuzzer wants a directory with a file for each input: the program
//! `corpus` unpacks one, and packs it again.

use std::cmp::Ordering;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// An input that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is, in a word or two, if somebody wrote it by hand.
    pub name: Option<String>,
    /// The input itself.
    pub input: String,
}

/// The kept inputs of a target, each with a name by which it can be found, in an order that does not change.
/// A document that somebody published is an input for `metadata` too.
///
/// # Errors
///
/// When they cannot be read.
pub fn of(target: &str) -> io::Result<Vec<(String, String)>> {
    let kept = unpacked(&fs::read_to_string(packed_file(target))?)?;
    let name = |at: usize, kept: &Kept| kept.name.clone().unwrap_or_else(|| format!("line {}", at + 1));
    let mut inputs: Vec<_> =
        kept.into_iter().enumerate().map(|(at, kept)| (name(at, &kept), kept.input)).collect();
    if target == "metadata" {
        let documents = cimd_cache_documents::ALL.iter();
        inputs.extend(documents.map(|document| (document.name.to_owned(), document.text.to_owned())));
    }
    Ok(inputs)
}

/// The packed file of a target.
#[must_use]
pub fn packed_file(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{target}.jsonl"))
}

/// Reads the text of a packed file.
///
/// # Errors
///
/// When a line is not an input.
pub fn unpacked(text: &str) -> io::Result<Vec<Kept>> {
    let kept = |(at, line)| {
        let not_an_input = |what: &str| io::Error::other(format!("line {}: {what}", at + 1));
        let object: Value = serde_json::from_str(line).map_err(|error| not_an_input(&error.to_string()))?;
        let input = object["input"].as_str().ok_or_else(|| not_an_input("it has no input"))?.to_owned();
        let name = object.get("name").and_then(Value::as_str).map(str::to_owned);
        Ok(Kept { name, input })
    };
    text.lines().enumerate().map(kept).collect()
}

/// The text of a packed file. It depends on the inputs alone: not on their order, and an input that is there
/// twice is kept once.
#[must_use]
pub fn packed(mut kept: Vec<Kept>) -> String {
    kept.sort_by(|one, other| match (&one.name, &other.name) {
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (one_name, other_name) => (one_name, &one.input).cmp(&(other_name, &other.input)),
    });
    let mut seen = std::collections::HashSet::new();
    kept.retain(|kept| seen.insert(kept.input.clone()));
    let line = |Kept { name, input }: &Kept| {
        let input = Value::from(input.as_str());
        match name {
            Some(name) => format!("{{\"name\":{},\"input\":{input}}}\n", Value::from(name.as_str())),
            None => format!("{{\"input\":{input}}}\n"),
        }
    };
    kept.iter().map(line).collect()
}

/// Writes each input into a file of its own, under its name or a number, in a directory that is made for
/// them.
///
/// # Errors
///
/// When there is such a directory, or it cannot be written.
pub fn write_directory(path: &Path, kept: &[Kept]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::create_dir(path)?;
    for (number, Kept { name, input }) in kept.iter().enumerate() {
        let name = name.clone().unwrap_or_else(|| format!("{number:04}"));
        fs::write(path.join(name), input)?;
    }
    Ok(())
}

/// Reads the inputs of a directory. A file whose name has only hexadecimal digits has no name: libFuzzer gave
/// it its hash, or [`write_directory`] a number.
///
/// # Errors
///
/// When they cannot be read, or one of them is not UTF-8: what a host hands to the component always is.
pub fn read_directory(path: &Path) -> io::Result<Vec<Kept>> {
    let by_hand = |name: &String| !name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let kept = |(name, input)| Kept { name: Some(name).filter(by_hand), input };
    Ok(read(path)?.into_iter().map(kept).collect())
}

/// The files of a directory, by name.
fn read(path: &Path) -> io::Result<Vec<(String, String)>> {
    let read = |file: io::Result<fs::DirEntry>| {
        let file = file?;
        let text = fs::read_to_string(file.path())?;
        Ok((file.file_name().to_string_lossy().into_owned(), text))
    };
    let mut files = fs::read_dir(path)?.map(read).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}
