//! A small file system that can be filled.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Mounted for as long as this lives.
pub(super) struct Disk {
    dir: TempDir,
}

impl Disk {
    /// Mounts one; why not, where that cannot be.
    pub(super) fn mount() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root can mount a small file system".into());
        }
        let dir = tempfile::Builder::new().prefix("heirloom-disk-").tempdir().map_err(|error| error.to_string())?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=16m", "heirloom-test"]).arg(dir.path());
        match command.output() {
            Ok(output) if output.status.success() => Ok(Self { dir }),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves no byte free.
    pub(super) fn fill(&self) {
        let mut ballast = File::create(self.dir.path().join("ballast")).expect("a file can be made");
        for size in [1 << 20, 4096, 1] {
            let block = vec![0; size];
            while ballast.write_all(&block).is_ok() {}
        }
    }

    /// Gives back what [`Self::fill`] took.
    pub(super) fn clear(&self) {
        let _ = fs::remove_file(self.dir.path().join("ballast"));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has something open there keeps it until the end.
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}
