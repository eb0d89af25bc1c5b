//! Where the two binaries are.
//!
//! `CARGO_BIN_EXE_*` knows only the root package, so the supervisor's binary is built here, once per test run, into the same target
//! directory and profile. `HEIRLOOM_SUPERVISOR_BIN` names a ready one instead, `HEIRLOOM_BIN` a ready proxy.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The proxy.
pub(crate) fn heirloom() -> &'static Path {
    static GIVEN: OnceLock<PathBuf> = OnceLock::new();
    GIVEN.get_or_init(|| match std::env::var_os("HEIRLOOM_BIN") {
        Some(given) => PathBuf::from(given),
        None => PathBuf::from(env!("CARGO_BIN_EXE_heirloom")),
    })
}

/// The supervisor.
pub(crate) fn supervisor() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| match std::env::var_os("HEIRLOOM_SUPERVISOR_BIN") {
        Some(given) => PathBuf::from(given),
        None => build_supervisor(),
    })
}

fn build_supervisor() -> PathBuf {
    let profile_dir = Path::new(env!("CARGO_BIN_EXE_heirloom")).parent().expect("a binary lies in a directory");
    let target_dir = profile_dir.parent().expect("a profile's directory lies in the target directory");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => panic!("no profile in {}", profile_dir.display()),
    };
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--package", "heirloom-supervisor", "--bin", "heirloom-supervisor"])
        .args(["--profile", profile, "--target-dir"])
        .arg(target_dir)
        .output()
        .expect("cargo can be run");
    assert!(built.status.success(), "the supervisor does not build: {}", String::from_utf8_lossy(&built.stderr));
    profile_dir.join("heirloom-supervisor")
}
