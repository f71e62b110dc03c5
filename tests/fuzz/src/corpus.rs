//! What is kept: inputs written by hand, under names that say what they are, and those with which the fuzzer reached
//! code that no other one reaches, under their hashes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The kept inputs of a target, by path, in an order that does not change. A document that somebody published is an
/// input for `metadata` too.
///
/// # Errors
///
/// When they cannot be read, or one of them is not UTF-8: what a host hands to the component always is.
pub fn of(target: &str) -> io::Result<Vec<(PathBuf, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut inputs = folder(&root.join("corpus").join(target))?;
    if target == "metadata" {
        inputs.extend(folder(&root.join("../documents"))?);
    }
    inputs.sort();
    Ok(inputs)
}

fn folder(path: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let read = |file: io::Result<fs::DirEntry>| {
        let path = file?.path();
        let text = fs::read_to_string(&path)?;
        Ok((path, text))
    };
    fs::read_dir(path)?.map(read).collect()
}
