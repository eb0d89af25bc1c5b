//! Words for the service manager, and its descriptor store.
//!
//! Everything is best effort: without `NOTIFY_SOCKET` nothing is said, and a manager that does not listen is logged, never waited for.

use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

use crate::lifecycle::Notice;
use crate::wire::{MAX_DESCRIPTORS, send_rights};

/// Says what the lineage wants said.
pub(crate) fn tell(notice: &Notice) {
    let states = match notice {
        Notice::Reloading => match NotifyState::monotonic_usec_now() {
            Ok(now) => vec![NotifyState::Reloading, now],
            Err(_) => vec![NotifyState::Reloading],
        },
        Notice::Ready(status) => vec![NotifyState::Ready, NotifyState::Status(status)],
        Notice::Status(status) => vec![NotifyState::Status(status)],
        Notice::Stopping => vec![NotifyState::Stopping],
    };
    say(&states);
}

/// Says which process is the service: this one, also after it has replaced itself.
pub(crate) fn main_pid() {
    say(&[NotifyState::MainPid(std::process::id())]);
}

/// Shows that the loop turns.
pub(crate) fn watchdog() {
    say(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] must be called at least, if anybody watches.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    // Half the limit, as sd_watchdog_enabled(3) advises.
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// Puts descriptors into the store: they come back to the next process of this service under this name.
pub(crate) fn store<D: AsFd>(name: &str, descriptors: &[D]) {
    for descriptors in descriptors.chunks(MAX_DESCRIPTORS) {
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        log(send(&format!("FDSTORE=1\nFDNAME={name}\n"), &descriptors));
    }
}

/// Takes the descriptors of this name out of the store.
pub(crate) fn unstore(name: &str) {
    log(send(&format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), &[]));
}

fn say(states: &[NotifyState<'_>]) {
    // One assignment per line: a line break within one would begin another.
    let lines = states.iter().map(|state| format!("{}\n", state.to_string().replace('\n', " ")));
    log(send(&lines.collect::<String>(), &[]));
}

fn send(text: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let socket = UnixDatagram::unbound()?;
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(&path)?,
    }
    send_rights(socket.as_fd(), text.as_bytes(), descriptors)
}

fn log(result: io::Result<()>) {
    if let Err(error) = result {
        warn!("the service manager cannot be told: {error}");
    }
}
