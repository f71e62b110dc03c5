//! Makes the component out of `../guest`, for the host to carry.
//!
//! The guest is compiled by a cargo of its own, always with the profile `guest`: what the tests of a debug
//! build run is what ships. Its target directory is its own too, because this cargo holds the lock of the
//! usual one for as long as this script runs.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use wit_component::ComponentEncoder;

const TARGET: &str = "wasm32-unknown-unknown";

fn main() -> Result<()> {
    for input in ["guest/src", "guest/Cargo.toml", "wit", "migrations", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed=../{input}");
    }
    let out = PathBuf::from(var("OUT_DIR")?);
    ensure_target()?;
    let module = build_module(&out.join("guest"))?;
    let module = std::fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
    // The module carries the world it was generated for, so the encoder needs nothing else.
    let component = ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    std::fs::write(out.join("cimd-cache.component.wasm"), component)?;
    Ok(())
}

fn ensure_target() -> Result<()> {
    let output = Command::new(var("RUSTC")?)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .context("cannot run rustc")?;
    let libraries = String::from_utf8_lossy(&output.stdout);
    ensure!(
        Path::new(libraries.trim()).is_dir(),
        "the guest needs the target {TARGET}: run `make setup` or `rustup target add {TARGET}`"
    );
    Ok(())
}

fn build_module(target_dir: &Path) -> Result<PathBuf> {
    let manifest = PathBuf::from(var("CARGO_MANIFEST_DIR")?).join("../guest/Cargo.toml");
    let mut cargo = Command::new(var("CARGO")?);
    cargo
        .args(["rustc", "--locked", "--lib", "--crate-type", "cdylib", "--profile", "guest"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_dir)
        .arg("--manifest-path")
        .arg(&manifest)
        // A quarter of the default stack: deep enough for 64 levels of JSON, and it is memory of every
        // instance.
        .args(["--", "-Clink-arg=-zstack-size=65536"])
        // Flags and wrappers are meant for the host: clippy's would lint the guest instead of building it.
        // Empty flags win over those of a cargo configuration, which no variable would leave in force.
        .env("CARGO_ENCODED_RUSTFLAGS", "")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    let status = cargo.status().context("cannot run cargo for the guest")?;
    if !status.success() {
        bail!("cargo failed to build the guest: {status}");
    }
    Ok(target_dir.join(TARGET).join("guest/cimd_cache_guest.wasm"))
}

fn var(name: &str) -> Result<OsString> {
    env::var_os(name).with_context(|| format!("cargo did not set {name}"))
}
