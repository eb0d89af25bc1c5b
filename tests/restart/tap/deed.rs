//! What a relay does to the victim, and to the message.
#![allow(unsafe_code, reason = "the limits of another process are set by a bare system call")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use heirloom_supervisor::wire::{Message, Opened, frame};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::plan::{self, Deed, Order, Victim};
use crate::support::process::{descriptors, signal, stop};

/// Carries it out; says which clients' connections only a victim that was killed had held.
pub(super) fn commit(dir: &Path, order: &Order) -> Vec<u16> {
    let victim = match order.victim {
        Victim::Process(pid) => Some(pid),
        Victim::Epoch(epoch) => plan::process(dir, epoch),
    };
    let Some(victim) = victim else { return Vec::new() };
    match order.deed {
        Deed::Kill => {
            // First it stands still, so that what it holds is what it dies with. A supervisor holds no connection, and the message is not kept waiting.
            if !plan::processes(dir).contains(&victim) {
                signal(victim, Signal::SIGKILL);
                return Vec::new();
            }
            stop(victim);
            let held = held(dir, victim, is_answered(order));
            signal(victim, Signal::SIGKILL);
            held
        }
        Deed::Stop => {
            signal(victim, Signal::SIGSTOP);
            Vec::new()
        }
        Deed::Limit => {
            limit_descriptors(victim, Some(descriptors(victim).len() as u64));
            Vec::new()
        }
        _ => Vec::new(),
    }
}

/// The message as it goes on: its bytes, whether with its descriptors, and how often.
pub(super) fn damage(deed: Deed, mut bytes: Vec<u8>) -> (Vec<u8>, bool, usize) {
    match deed {
        Deed::Drop => (bytes, true, 0),
        Deed::Plain => {
            if let Ok(Opened::Known(Message::Hello(mut hello))) = frame::open(&bytes, 0) {
                hello.features.clear();
                bytes = frame::seal(&Message::Hello(hello), 0).unwrap_or(bytes);
            }
            (bytes, true, 1)
        }
        Deed::Twice => (bytes, true, 2),
        Deed::Bare => (bytes, false, 1),
        Deed::Cut => {
            // A message may be as short as its header and two bytes more: at least one is missing.
            bytes.truncate(bytes.len().saturating_sub((bytes.len() / 2).clamp(1, 40)));
            (bytes, true, 1)
        }
        Deed::Flip => {
            // Behind the header: the body's first byte says which message it is.
            for at in [8, 9, bytes.len() / 2 + 4] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 0xff;
                }
            }
            (bytes, true, 1)
        }
        Deed::Hold | Deed::Kill | Deed::Stop | Deed::Limit => (bytes, true, 1),
    }
}

/// Sets the soft limit of a process's descriptors; without a number, back to the hard one.
pub(crate) fn limit_descriptors(pid: Pid, number: Option<u64>) {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to live locals of the right type, or null, which the call allows.
    unsafe {
        if libc::prlimit(pid.as_raw(), libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut now) == 0 {
            let new = libc::rlimit { rlim_cur: number.unwrap_or(now.rlim_max), rlim_max: now.rlim_max };
            libc::prlimit(pid.as_raw(), libc::RLIMIT_NOFILE, &raw const new, std::ptr::null_mut());
        }
    }
}

/// Whether the victim has taken what the giver still has a descriptor of, not having read the answer.
fn is_answered(order: &Order) -> bool {
    order.message == "Taken" && matches!(order.victim, Victim::Epoch(epoch) if epoch != order.epoch)
}

/// The clients' ports of the TCP connections that `victim` has; unless `all`, only of those that no other epoch has too.
fn held(dir: &Path, victim: Pid, all: bool) -> Vec<u16> {
    let sockets = |pid: Pid| -> BTreeSet<String> { descriptors(pid).into_iter().collect() };
    let mut held = sockets(victim);
    for other in plan::processes(dir).into_iter().filter(|pid| *pid != victim && !all) {
        let others = sockets(other);
        held.retain(|socket| !others.contains(socket));
    }
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let rows: Vec<Row> = table.lines().skip(1).filter_map(Row::read).collect();
    // A connection to a host has a port of its own at this end.
    let listening: BTreeSet<u16> = rows.iter().filter(|row| row.listens).map(|row| row.local).collect();
    let from_a_client = |row: &&Row| !row.listens && listening.contains(&row.local) && held.contains(&row.socket);
    rows.iter().filter(from_a_client).map(|row| row.peer).collect()
}

/// One line of the kernel's table of TCP sockets.
struct Row {
    local: u16,
    peer: u16,
    listens: bool,
    socket: String,
}

impl Row {
    fn read(line: &str) -> Option<Self> {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let port = |at: usize| u16::from_str_radix(columns.get(at)?.split(':').nth(1)?, 16).ok();
        let listens = *columns.get(3)? == "0A";
        Some(Self { local: port(1)?, peer: port(2)?, listens, socket: format!("socket:[{}]", columns.get(9)?) })
    }
}
