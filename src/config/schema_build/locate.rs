//! Finds the unpacked `envoy-types` package, whose `proto/` folder holds the v3 API.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Names the package's folder outright, for builds whose layout none of the ways below knows.
pub(crate) const OVERRIDE: &str = "ENVOY_TYPES_DIR";

const PACKAGE: &str = "envoy-types";

/// The folder of the package. Three ways, all without the network: the Cargo that runs this build, a folder beside ours
/// (we are vendored or unpacked ourselves), and the registry's folder with the version that the lock file names.
///
/// # Errors
/// A text with the outcome of every way that was tried.
pub(crate) fn envoy_types() -> Result<PathBuf, String> {
    if let Some(folder) = env::var_os(OVERRIDE).map(PathBuf::from) {
        let found = has_protos(&folder);
        return found
            .then(|| folder.clone())
            .ok_or_else(|| format!("{OVERRIDE}={}: no protos there", folder.display()));
    }
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let mut tried = Vec::new();
    match from_metadata(&manifest) {
        Ok(folder) if has_protos(&folder) => return Ok(folder),
        Ok(folder) => tried.push(format!("cargo metadata names {}, which has no protos", folder.display())),
        Err(error) => tried.push(format!("cargo metadata: {error}")),
    }
    let names = folder_names(&manifest);
    if let Some(folder) = beside(&manifest, &names) {
        return Ok(folder);
    }
    tried.push("no folder of that name beside this package".to_owned());
    if let Some(folder) = in_registry(&names) {
        return Ok(folder);
    }
    tried.push("none in the registry's sources".to_owned());
    Err(format!("cannot find the package {PACKAGE} (set {OVERRIDE}): {}", tried.join("; ")))
}

fn has_protos(folder: &Path) -> bool {
    folder.join("proto/data-plane-api/envoy").is_dir()
}

fn from_metadata(manifest: &Path) -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--offline", "--locked", "--manifest-path"]);
    command.arg(manifest.join("Cargo.toml"));
    if let Ok(target) = env::var("TARGET") {
        command.args(["--filter-platform", &target]);
    }
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let packages = metadata["packages"].as_array().ok_or("no packages in its answer")?;
    let path = packages.iter().find(|package| package["name"] == PACKAGE).and_then(|p| p["manifest_path"].as_str());
    let path = path.ok_or("the package is not in its answer")?;
    Path::new(path).parent().map(Path::to_path_buf).ok_or_else(|| format!("odd manifest path {path}"))
}

/// What the package's folder may be called, the locked version first.
fn folder_names(manifest: &Path) -> Vec<String> {
    let versioned = locked_version(manifest).map(|version| format!("{PACKAGE}-{version}"));
    versioned.into_iter().chain([PACKAGE.to_owned()]).collect()
}

/// The version in the lock file of the workspace being built: above us, or above the target folder.
fn locked_version(manifest: &Path) -> Option<String> {
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    let locks = manifest.ancestors().chain(out.ancestors()).map(|folder| folder.join("Cargo.lock"));
    let lock = locks.into_iter().find_map(|path| fs::read_to_string(path).ok())?;
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{PACKAGE}\""));
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"').map(str::to_owned)
}

fn beside(manifest: &Path, names: &[String]) -> Option<PathBuf> {
    let folder = manifest.parent()?;
    names.iter().map(|name| folder.join(name)).find(|candidate| has_protos(candidate))
}

fn in_registry(names: &[String]) -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))?;
    let indexes = fs::read_dir(home.join("registry/src")).ok()?.flatten();
    let candidates = indexes.flat_map(|index| names.iter().map(move |name| index.path().join(name)));
    candidates.into_iter().find(|candidate| has_protos(candidate))
}
