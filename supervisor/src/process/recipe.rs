//! What to run.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};

use crate::wire::inherit;

/// The unprivileged user that epochs run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// By name or by number.
    pub(crate) fn find(name: &str) -> Result<Self, String> {
        let found = match name.parse() {
            Ok(uid) => nix::unistd::User::from_uid(Uid::from_raw(uid)),
            Err(_) => nix::unistd::User::from_name(name),
        };
        match found {
            Ok(Some(user)) => Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
            Ok(None) => match name.parse() {
                // A number needs no entry.
                Ok(number) => Ok(Self { uid: number, gid: Gid::from_raw(number).as_raw() }),
                Err(_) => Err(format!("there is no user {name}")),
            },
            Err(error) => Err(format!("user {name}: {error}")),
        }
    }
}

/// What an epoch was or will be started with.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// The file to execute, as found.
    pub(super) path: PathBuf,
    /// The file that was executed, whatever has become of its name. Absent before the first start, and for scripts, which only run by name.
    pub(super) binary: Option<OwnedFd>,
    /// The command, its first word included.
    pub(super) command: Vec<OsString>,
    /// The copy of the configuration that the epoch read.
    pub(super) copy: Option<PathBuf>,
}

/// A [`Recipe`] by numbers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Written {
    path: PathBuf,
    pub(crate) binary: Option<RawFd>,
    command: Vec<OsString>,
    copy: Option<PathBuf>,
}

impl Recipe {
    /// The command with everything read anew.
    ///
    /// # Errors
    /// When the program cannot be found.
    pub(crate) fn fresh(command: &[OsString]) -> io::Result<Self> {
        let Some(program) = command.first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"));
        };
        Ok(Self { path: find(program)?, binary: None, command: command.to_vec(), copy: None })
    }

    /// By numbers, for a supervisor that replaces itself.
    pub(crate) fn numbers(&self) -> Written {
        Written {
            path: self.path.clone(),
            binary: self.binary.as_ref().map(AsRawFd::as_raw_fd),
            command: self.command.clone(),
            copy: self.copy.clone(),
        }
    }

    /// The opposite.
    pub(crate) fn from_numbers(written: Written) -> Self {
        let Written { path, binary, command, copy } = written;
        Self { path, binary: binary.and_then(|number| inherit(number).ok()), command, copy }
    }

    /// The same once more.
    pub(crate) fn again(&self) -> io::Result<Self> {
        let binary = self.binary.as_ref().map(OwnedFd::try_clone).transpose()?;
        Ok(Self { path: self.path.clone(), binary, command: self.command.clone(), copy: self.copy.clone() })
    }

    /// The arguments: of a recipe with a copy, the copy stands where the configuration file stood.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = self.command.iter().skip(1).cloned().collect();
        if let (Some(copy), Some((index, prefix))) = (&self.copy, configuration(&arguments))
            && let Some(argument) = arguments.get_mut(index)
        {
            *argument = prefix;
            argument.push(copy);
        }
        arguments
    }

    /// The file that the command names as its configuration.
    pub(crate) fn configuration(&self) -> Option<PathBuf> {
        let arguments: Vec<OsString> = self.command.iter().skip(1).cloned().collect();
        let (index, prefix) = configuration(&arguments)?;
        let argument = arguments.get(index)?.as_encoded_bytes();
        let path = argument.get(prefix.len()..)?;
        // The prefix is ASCII, so what follows it is a whole OsString of its own.
        Some(PathBuf::from(String::from_utf8_lossy(path).into_owned()))
    }

    /// Keeps `text` as the configuration of epoch `epoch`, readable only by the epochs' user.
    pub(crate) fn keep_configuration(
        &mut self,
        directory: &Path,
        epoch: u64,
        text: &[u8],
        user: Option<User>,
    ) -> io::Result<()> {
        let Some(original) = self.configuration() else { return Ok(()) };
        // The extension says how it is to be read.
        let extension = original.extension().unwrap_or(OsStr::new("yaml"));
        let path = directory.join(format!("config-{epoch}")).with_extension(extension);
        let _ = fs::remove_file(&path);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        io::Write::write_all(&mut file, text)?;
        if let Some(user) = user {
            std::os::unix::fs::fchown(&file, Some(user.uid), Some(user.gid))?;
        }
        self.copy = Some(path);
        Ok(())
    }

    /// The copy's file, for cleaning up.
    pub(crate) fn copy(&self) -> Option<&Path> {
        self.copy.as_deref()
    }

    /// Remembers the binary that process `pid` runs, if it is the one that was asked for (and not the interpreter of a script).
    pub(super) fn remember_binary(&mut self, pid: u32, asked: Option<OwnedFd>) {
        let running = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(format!("/proc/{pid}/exe"));
        let (Ok(running), Some(asked)) = (running, asked) else { return };
        let asked = File::from(asked);
        if let (Ok(a), Ok(b)) = (running.metadata(), asked.metadata())
            && (a.dev(), a.ino()) == (b.dev(), b.ino())
        {
            self.binary = Some(running.into());
        }
    }

    /// What to hand to exec.
    pub(super) fn executable(&self) -> PathBuf {
        match &self.binary {
            Some(binary) => PathBuf::from(format!("/proc/self/fd/{}", binary.as_raw_fd())),
            None => self.path.clone(),
        }
    }
}

/// Where the configuration's path stands: the argument's index, and what stands before the path in the same argument.
fn configuration(arguments: &[OsString]) -> Option<(usize, OsString)> {
    for (index, argument) in arguments.iter().enumerate() {
        let bytes = argument.as_encoded_bytes();
        if bytes == b"--" {
            return None;
        }
        if bytes == b"-c" || bytes == b"--config-path" {
            return (index + 1 < arguments.len()).then(|| (index + 1, OsString::new()));
        }
        for prefix in ["--config-path=", "-c"] {
            if bytes.starts_with(prefix.as_bytes()) {
                return Some((index, prefix.into()));
            }
        }
    }
    None
}

/// The file behind a program's name: as it is when it holds a slash, else by `PATH`, else beside this executable.
fn find(program: &OsStr) -> io::Result<PathBuf> {
    let path = Path::new(program);
    if program.as_encoded_bytes().contains(&b'/') {
        return if runnable(path) { Ok(path.into()) } else { Err(missing(program)) };
    }
    let beside = env::current_exe().ok().and_then(|executable| executable.parent().map(Path::to_path_buf));
    let places = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let mut candidates = places.into_iter().chain(beside).map(|place| place.join(program));
    candidates.find(|candidate| runnable(candidate)).ok_or_else(|| missing(program))
}

fn runnable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn missing(program: &OsStr) -> io::Error {
    let text = format!("{} is not an executable file, nor found by PATH or beside the supervisor", program.display());
    io::Error::new(io::ErrorKind::NotFound, text)
}
