//! A recipe that outlives its supervisor: by names and identities instead of descriptors.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Recipe;

/// A [`Recipe`] written down.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    path: PathBuf,
    command: Vec<OsString>,
    copy: Option<PathBuf>,
    binary: Option<Identity>,
}

/// Which file a binary was: a name can come to mean another, and so can the number of an inode that nobody holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    /// When its contents were last changed: seconds and nanoseconds of Unix time.
    modified: (i64, i64),
}

impl Identity {
    fn of(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

impl Recipe {
    /// For the next supervisor.
    pub(crate) fn kept(&self) -> Kept {
        let binary = self.binary.as_ref().and_then(|binary| binary.try_clone().ok());
        Kept {
            path: self.path.clone(),
            command: self.command.clone(),
            copy: self.copy().map(Path::to_path_buf),
            binary: binary.and_then(|binary| Identity::of(&File::from(binary))),
        }
    }
}

impl Kept {
    /// The recipe again, if all of it is still there. `living` may run its binary.
    ///
    /// # Errors
    /// What is gone, in words.
    pub(crate) fn revive(self, directory: &Path, living: &[u32]) -> Result<Recipe, String> {
        let Self { path, command, copy, binary } = self;
        if command.is_empty() {
            return Err("its command is empty".into());
        }
        if let Some(copy) = &copy {
            let is_file = fs::symlink_metadata(copy).is_ok_and(|metadata| metadata.is_file());
            if copy.parent() != Some(directory) || !is_file {
                return Err(format!("the configuration's copy {} is gone", copy.display()));
            }
        }
        let binary = match binary {
            None if fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) => None,
            None => return Err(format!("{} is gone", path.display())),
            Some(identity) => Some(find(&identity, &path, living)?),
        };
        Ok(Recipe { path, binary, command, copy })
    }
}

fn find(identity: &Identity, path: &Path, living: &[u32]) -> Result<OwnedFd, String> {
    let open = |path: &Path| OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).ok();
    for pid in living {
        let running = open(Path::new(&format!("/proc/{pid}/exe")));
        if let Some(file) = running
            && Identity::of(&file).as_ref() == Some(identity)
        {
            return Ok(file.into());
        }
    }
    match open(path) {
        Some(file) if Identity::of(&file).as_ref() == Some(identity) => Ok(file.into()),
        Some(_) => Err(format!("{} is another file by now", path.display())),
        None => Err(format!("{} is gone", path.display())),
    }
}
