//! Starting a process, and holding on to it.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Recipe, User};
use crate::wire::{Channel, ENV_CHANNEL, ENV_EPOCH};

/// Variables of the supervisor that mean something else, or nothing, to an epoch.
const NOT_FOR_EPOCHS: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "RUNTIME_DIRECTORY",
];

/// A process, held by a descriptor so that its number cannot come to mean another one.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    handle: OwnedFd,
    /// Whether this process may be waited for.
    is_child: bool,
}

impl Process {
    /// Starts an epoch.
    ///
    /// # Errors
    /// What the system says; nothing is left behind.
    pub(crate) fn spawn(recipe: &mut Recipe, epoch: u64, channel: &Channel, user: Option<User>) -> io::Result<Self> {
        // The file that is about to be executed, before its name can change hands.
        let asked = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(recipe.executable()).ok();
        let mut command = Command::new(recipe.executable());
        command.arg0(recipe.command.first().map_or(OsStr::new("heirloom"), |program| program.as_os_str()));
        command.args(recipe.arguments()).stdin(Stdio::null());
        for name in NOT_FOR_EPOCHS {
            command.env_remove(name);
        }
        let number = channel.as_raw_fd();
        command.env(ENV_CHANNEL, number.to_string()).env(ENV_EPOCH, epoch.to_string());
        if let Some(user) = user {
            command.uid(user.uid).gid(user.gid);
        }
        // SAFETY: the closure runs between fork and exec; it makes only async-signal-safe calls, with a number that it owns a copy of
        // and a signal set on its own stack, and touches no memory of the parent.
        unsafe {
            command.pre_exec(move || {
                if libc::fcntl(number, libc::F_SETFD, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
                // The supervisor blocks the signals that it reads; an epoch must hear its own.
                let mut none = std::mem::MaybeUninit::uninit();
                libc::sigemptyset(none.as_mut_ptr());
                libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
                Ok(())
            });
        }
        let mut child = command.spawn()?;
        let pid = child.id();
        match Self::hold(pid, true) {
            Ok(process) => {
                recipe.remember_binary(pid, asked.map(OwnedFd::from));
                Ok(process)
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Holds on to a process that runs already.
    ///
    /// # Errors
    /// When there is none of that number.
    pub(crate) fn hold(pid: u32, is_child: bool) -> io::Result<Self> {
        let number = i32::try_from(pid).map_err(io::Error::other)?;
        // SAFETY: the call takes two integers and touches no memory.
        let handle = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
        let handle = i32::try_from(handle).map_err(io::Error::other)?;
        if handle < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, close-on-exec.
        let handle = unsafe { OwnedFd::from_raw_fd(handle) };
        Ok(Self { pid: Pid::from_raw(number), handle, is_child })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Whether it is a child of this process.
    pub(crate) fn is_child(&self) -> bool {
        self.is_child
    }

    /// Sends a signal; to a process that is gone, nothing.
    pub(crate) fn signal(&self, signal: Signal) {
        // SAFETY: the descriptor is open, no information is passed along, and the call touches no memory.
        unsafe {
            let none = std::ptr::null::<libc::siginfo_t>();
            libc::syscall(libc::SYS_pidfd_send_signal, self.handle.as_raw_fd(), signal as i32, none, 0);
        }
    }

    /// If it has ended: how, in words that follow the name of an epoch.
    pub(crate) fn reap(&self) -> Option<String> {
        if !self.is_child {
            // Its own parent learns the status; a readable handle says all that we can know.
            return self.has_ended().then(|| "it has exited (how, only its own supervisor knew)".into());
        }
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, 0)) => Some("it exited".into()),
            Ok(WaitStatus::Exited(_, status)) => Some(format!("it exited with status {status}")),
            Ok(WaitStatus::Signaled(_, signal, core)) => {
                Some(format!("it was killed by {signal}{}", if core { " (core dumped)" } else { "" }))
            }
            Err(Errno::ECHILD) => Some("it is gone".into()),
            _ => None,
        }
    }

    fn has_ended(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut interest = [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut interest, PollTimeout::ZERO), Ok(1..))
    }
}

impl AsFd for Process {
    /// Readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Raises the soft limit of open descriptors to the hard one; epochs inherit it.
pub(crate) fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
