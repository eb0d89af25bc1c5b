//! Makes the configuration schema table that `src/config/schema.rs` includes.
//!
//! The protos of the v3 API are not in this repository: the published `envoy-types` package carries them, and Cargo has
//! unpacked it before this script runs. Nothing is fetched and no `protoc` is needed.

#![allow(clippy::print_stdout, reason = "this is how a build script speaks to Cargo")]

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

mod compile;
mod locate;
mod missing;
mod names;
mod table;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=src/config/schema_build");
    println!("cargo::rerun-if-env-changed={}", locate::OVERRIDE);
    let package = locate::envoy_types()?;
    println!("cargo::rerun-if-changed={}", package.join("Cargo.toml").display());
    let pool = compile::all_protos(&package)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("schema.bin"), table::flatten(&pool)?)?;
    Ok(())
}
