//! Unpacks the kept inputs of a target for libFuzzer, and packs what it kept.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use cimd_cache_fuzz::TARGETS;
use cimd_cache_fuzz::corpus::{packed, packed_file, read_directory, unpacked, write_directory};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["unpack", target, directory] if is_target(target) => unpack(target, Path::new(directory)),
        ["pack", target, directory] if is_target(target) => pack(target, Path::new(directory)),
        _ => {
            eprintln!("usage: corpus unpack|pack {} DIRECTORY", TARGETS.map(|(name, _)| name).join("|"));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn is_target(name: &str) -> bool {
    TARGETS.iter().any(|(target, _)| *target == name)
}

fn unpack(target: &str, directory: &Path) -> io::Result<()> {
    write_directory(directory, &unpacked(&fs::read_to_string(packed_file(target))?)?)
}

fn pack(target: &str, directory: &Path) -> io::Result<()> {
    fs::write(packed_file(target), packed(read_directory(directory)?))
}
