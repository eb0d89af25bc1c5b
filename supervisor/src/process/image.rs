//! Programs that get descriptors of this one: run beside it, or in its place.

use std::io;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Process;

/// Replaces this process. Returns only if that fails, and then nothing has changed.
pub(crate) fn exec(mut command: Command, numbers: Vec<RawFd>) -> io::Error {
    let copy = numbers.clone();
    pass(&mut command, numbers);
    let error = command.exec();
    for number in copy {
        // SAFETY: setting a flag touches no memory.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    error
}

/// Runs a program to its end, which must come within the limit.
pub(crate) fn run(mut command: Command, numbers: &[RawFd], limit: Duration) -> io::Result<ExitStatus> {
    pass(&mut command, numbers.to_vec());
    let mut child = command.spawn()?;
    let ended = Process::hold(child.id(), false).and_then(|process| {
        let mut interest = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(limit.as_millis()).unwrap_or(PollTimeout::MAX);
        Ok(poll(&mut interest, timeout)? > 0)
    });
    match ended {
        Ok(true) => child.wait(),
        other => {
            let _ = child.kill();
            let _ = child.wait();
            Err(other.err().unwrap_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "it does not end")))
        }
    }
}

/// Lets the program that is executed find these descriptors open.
fn pass(command: &mut Command, numbers: Vec<RawFd>) {
    // SAFETY: the closure runs just before exec; it makes only async-signal-safe calls and reads a vector that was made before.
    unsafe {
        command.pre_exec(move || {
            for number in &numbers {
                if libc::fcntl(*number, libc::F_SETFD, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}
