//! Makes the component, as `host/build.rs` does the real one. This one has no dependencies, so the compiler
//! alone is enough; it has no bindings, so its world must be written into it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

fn main() -> Result<()> {
    for input in ["src", "../../wit"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let module = out.join("hostile.wasm");
    let rustc = Command::new(env::var("RUSTC")?)
        .args(["src/lib.rs", "--edition=2024", "--crate-type=cdylib", "--target=wasm32-unknown-unknown"])
        .args(["-Copt-level=2", "-Cpanic=abort", "-Cstrip=symbols", "-Clink-arg=-zstack-size=65536", "-o"])
        .arg(&module)
        .status()
        .context("cannot run rustc")?;
    ensure!(rustc.success(), "rustc failed: does it have the target wasm32-unknown-unknown?");

    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path("../../wit")?;
    let world = resolve.select_world(&[package], Some("cimd-cache"))?;
    let mut module = std::fs::read(module)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)?;
    let component = ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    std::fs::write(out.join("hostile.component.wasm"), component)?;
    Ok(())
}
