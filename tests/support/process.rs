//! Facts about processes from `/proc`, and signals to those that a test started.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::supervised::eventually;

/// Environment variable by which a test knows the processes it started; its value is the test's directory.
pub(crate) const MARK: &str = "HEIRLOOM_TEST_DIR";

/// Sends a signal to a process that may be gone already.
pub(crate) fn signal(pid: Pid, signal: Signal) {
    let _ = kill(pid, signal);
}

/// Whether the process runs or sleeps: neither gone nor a zombie.
pub(crate) fn lives(pid: Pid) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// Whether the process has ended with all of its threads, has closed all it held, and has been reaped.
pub(crate) fn gone(pid: Pid) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether the process is stopped.
pub(crate) fn stopped(pid: Pid) -> bool {
    state(pid) == Some('T')
}

/// Stops a process and waits until it is.
pub(crate) fn stop(pid: Pid) {
    signal(pid, Signal::SIGSTOP);
    eventually(Duration::from_secs(5), "the process stops", || stopped(pid) || !lives(pid));
}

fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the state follows the last one.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// What the process's descriptors are: `socket:[123]`, paths, and so on.
pub(crate) fn descriptors(pid: Pid) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let target = |entry: fs::DirEntry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned());
    entries.filter_map(|entry| target(entry.ok()?)).collect()
}

/// The inode of the program that the process runs.
pub(crate) fn program(pid: Pid) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/exe")).ok().map(|file| std::os::unix::fs::MetadataExt::ino(&file))
}

/// The inodes of the statistics segments that the process has mapped.
pub(crate) fn segments(pid: Pid) -> BTreeSet<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let segment = |line: &&str| line.contains("memfd:heirloom-stats");
    maps.lines().filter(segment).filter_map(|line| Some(line.split_whitespace().nth(4)?.to_owned())).collect()
}

/// The inodes of the sockets that listen at a TCP address.
pub(crate) fn listening_inodes(address: SocketAddr) -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel tells");
    let SocketAddr::V4(address) = address else { panic!("the tests use IPv4") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let listens = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next() == Some(local.as_str()) && columns.nth(1) == Some("0A")
    };
    let inode = |line: &str| Some(line.split_whitespace().nth(9)?.to_owned());
    table.lines().filter(listens).filter_map(inode).collect()
}

/// Whether no connection to a TCP address is half closed: whatever this side has closed, the other side knows. The kernel carries the news later, where
/// the machine is busy, than the process that closed is gone.
pub(crate) fn all_closes_have_arrived(address: SocketAddr) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel tells");
    let port = format!(":{:04X}", address.port());
    // FIN_WAIT1, CLOSING, LAST_ACK.
    let on_its_way = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let local = columns.next().is_some_and(|local| local.ends_with(&port));
        local && columns.nth(1).is_some_and(|state| ["04", "0B", "09"].contains(&state))
    };
    !table.lines().any(on_its_way)
}

/// Of these socket inodes, those that the process holds a descriptor of.
pub(crate) fn holds(pid: Pid, inodes: &BTreeSet<String>) -> BTreeSet<String> {
    let held: BTreeSet<String> = descriptors(pid).into_iter().collect();
    inodes.iter().filter(|inode| held.contains(&format!("socket:[{inode}]"))).cloned().collect()
}

/// The processes that carry a test's mark in their environment or name its directory on their command line.
pub(crate) struct Descendants {
    dir: PathBuf,
}

impl Descendants {
    /// Of the test with this directory.
    pub(crate) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Those that live.
    pub(crate) fn living(&self) -> Vec<Pid> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let own = Pid::this();
        numbers.map(Pid::from_raw).filter(|pid| *pid != own && self.is_mine(*pid) && lives(*pid)).collect()
    }

    fn is_mine(&self, pid: Pid) -> bool {
        let dir = self.dir.to_string_lossy();
        let mark = format!("{MARK}={dir}");
        let read = |name| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let says = |bytes: Vec<u8>, what: &str| bytes.split(|byte| *byte == 0).any(|part| part == what.as_bytes());
        let names = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains(dir.as_ref());
        says(read("environ"), &mark) || names(read("cmdline"))
    }

    /// Kills all of them, until there is none.
    pub(crate) fn end(&self) {
        // A supervisor that is just starting an epoch may add one between two looks, so look until there is none.
        for _ in 0..200 {
            let living = self.living();
            if living.is_empty() {
                return;
            }
            living.iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
            std::thread::park_timeout(Duration::from_millis(10));
        }
        eprintln!("processes of {} do not end: {:?}", self.dir.display(), self.living());
    }
}
