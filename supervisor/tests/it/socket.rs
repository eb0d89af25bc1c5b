//! The control socket, systemd's words, and sockets that were passed.

use std::collections::BTreeMap;
use std::fs;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

use crate::support::{Bench, Load, eventually, supervisor};

#[test]
fn one_supervisor_per_run_directory() {
    let bench = Bench::start();
    let other = Command::new(supervisor())
        .args(["--run-dir", bench.path("run").to_str().unwrap(), "--", "/bin/true"])
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(1));
    let complaint = String::from_utf8(other.stderr).unwrap();
    assert!(complaint.contains("runs here already") && complaint.contains(&bench.pid().to_string()), "{complaint}");
    bench.ask().unwrap();
}

#[test]
fn other_users_are_refused() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let bench = Bench::start();
    // Even where the file system would let them in.
    for (path, mode) in [("", 0o755), ("run", 0o755), ("run/control.sock", 0o666)] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(bench.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    // The binary may lie where others cannot read it.
    let binary = bench.path("operator");
    fs::copy(supervisor(), &binary).unwrap();
    for command in ["status", "reload", "stop"] {
        let mut operator = Command::new(&binary);
        operator
            .args([command, "--run-dir", bench.path("run").to_str().unwrap()])
            .uid(65534)
            .gid(65534)
            .current_dir("/");
        let output = operator.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.contains("user 65534 may not control"), "{complaint}");
    }
    assert!(bench.log().contains("refused process"));
    assert_eq!(bench.ask().unwrap().0, 0);
}

#[test]
fn nonsense_at_the_control_socket_disturbs_nobody() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, send, socket};
    let bench = Bench::start();
    let address = UnixAddr::new(&bench.path("run/control.sock")).unwrap();
    let mut seed = 0x1234_5678_u64;
    for round in 0..2000 {
        let client = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(client.as_raw_fd(), &address).unwrap();
        let mut bytes = b"Heir\x01\x00\x00\x00".to_vec();
        for _ in 0..round % 40 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            bytes.push(seed as u8);
        }
        let _ = send(client.as_raw_fd(), &bytes[usize::from(round % 3 == 0) * 5..], MsgFlags::MSG_NOSIGNAL);
    }
    assert_eq!(bench.ask().unwrap().0, 0);
    bench.reload();
}

#[test]
fn flags_and_file_are_checked() {
    let run = |arguments: &[&str]| {
        let output = Command::new(supervisor()).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("s.yaml");
    let path = file.to_str().unwrap();
    fs::write(&file, "command: [heirloom, -c, x.yaml]\ndrain_time_s: 5\n").unwrap();
    assert_eq!(run(&["--config", path, "--validate"]), (Some(0), "the supervisor's configuration is OK\n".into()));
    fs::write(&file, "drain_time: 5\n").unwrap();
    let (code, text) = run(&["--config", path, "--validate"]);
    assert!(code == Some(1) && text.contains("drain_time") && text.contains(path), "{text}");
    let (code, text) = run(&["--max-draining", "0"]);
    assert!(code == Some(1) && text.contains("max_draining") && text.contains("command"), "{text}");
    assert_eq!(run(&["--drain-strategy", "slow", "--", "x"]).0, Some(2));
}

/// What a service manager would have heard.
struct Manager {
    socket: UnixDatagram,
    kept: BTreeMap<String, Vec<OwnedFd>>,
    heard: Vec<String>,
}

impl Manager {
    fn at(path: &std::path::Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Self { socket, kept: BTreeMap::new(), heard: Vec::new() }
    }

    fn listen(&mut self) {
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 253]);
        loop {
            let mut buffer = [0; 4096];
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let Ok(message) = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags) else {
                return;
            };
            let mut descriptors = Vec::new();
            for control in message.cmsgs().unwrap() {
                if let ControlMessageOwned::ScmRights(numbers) = control {
                    // SAFETY: the kernel has just given us these.
                    #[allow(unsafe_code, reason = "descriptors arrive")]
                    descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
                }
            }
            let length = message.bytes;
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).map(String::from);
            match name {
                Some(name) if text.contains("FDSTORE=1") => self.kept.entry(name).or_default().extend(descriptors),
                Some(name) if text.contains("FDSTOREREMOVE=1") => drop(self.kept.remove(&name)),
                _ => self.heard.push(text),
            }
        }
    }

    /// The assignments heard so far, without values that change.
    fn words(&mut self) -> Vec<String> {
        self.listen();
        let lines = self.heard.iter().flat_map(|text| text.lines());
        let lines = lines.filter(|line| !line.starts_with("STATUS") && !line.starts_with("MONOTONIC"));
        lines.map(String::from).collect()
    }
}

/// Passes descriptors from number 3 on, as a service manager does.
fn pass(command: &mut Command, descriptors: Vec<(String, OwnedFd)>) {
    let names: Vec<&str> = descriptors.iter().map(|(name, _)| name.as_str()).collect();
    command.env("LISTEN_FDNAMES", names.join(":")).env("LISTEN_FDS", descriptors.len().to_string());
    #[allow(unsafe_code, reason = "descriptors pass into a child")]
    // SAFETY: between fork and exec only async-signal-safe calls are made. The copies go far above first, so that none
    // overwrites another.
    unsafe {
        command.pre_exec(move || {
            for (index, (_, descriptor)) in descriptors.iter().enumerate() {
                libc::dup2(descriptor.as_raw_fd(), 500 + index as i32);
            }
            for index in 0..descriptors.len() as i32 {
                libc::dup2(500 + index, 3 + index);
                libc::close(500 + index);
            }
            Ok(())
        });
    }
}

#[test]
fn the_service_manager_hears_the_truth_in_order() {
    let prepared = Bench::prepared(&[], &[]);
    let path = prepared.dir.path().join("notify");
    let mut manager = Manager::at(&path);
    let mut bench = prepared.launched_with(|command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    });
    eventually("READY", || manager.words().contains(&"READY=1".into()));
    assert_eq!(manager.words()[0], format!("MAINPID={}", bench.pid()));
    eventually("the watchdog is fed", || manager.words().contains(&"WATCHDOG=1".into()));
    let important = |manager: &mut Manager| {
        manager.words().into_iter().filter(|word| word != "WATCHDOG=1").skip(2).collect::<Vec<_>>()
    };
    bench.reload();
    assert_eq!(important(&mut manager), ["RELOADING=1", "READY=1"]);
    let reloading = manager.heard.iter().find(|text| text.contains("RELOADING")).unwrap();
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    bench.configure(&["fail c.conf:1: no"]);
    assert!(!bench.operator(&["reload"]).status.success());
    assert_eq!(important(&mut manager), ["RELOADING=1", "READY=1", "RELOADING=1", "READY=1"]);
    assert!(manager.heard.iter().any(|text| text.contains("STATUS=takeover failed")));
    bench.signal(Signal::SIGTERM);
    assert!(bench.wait().success());
    assert_eq!(important(&mut manager).last().map(String::as_str), Some("STOPPING=1"));
    assert!(manager.kept.contains_key("statistics"));
}

#[test]
fn the_descriptor_store_outlives_the_supervisor() {
    let prepared = Bench::prepared(&["listen tcp 127.0.0.1:0 label"], &[]);
    let path = prepared.dir.path().join("notify");
    let mut manager = Manager::at(&path);
    let mut bench = prepared.launched_with(|command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    eventually("it serves", || bench.ask().is_ok());
    manager.listen();
    assert_eq!(manager.kept.len(), 3, "two sockets and the statistics: {:?}", manager.kept.keys());
    let inodes = |pid| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        entries.filter_map(|entry| fs::metadata(entry.path()).ok()).map(|metadata| metadata.ino()).collect::<Vec<_>>()
    };
    let kept: Vec<u64> = (manager.kept.values().flatten())
        .map(|descriptor| fs::metadata(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).unwrap().ino())
        .collect();
    bench.signal(Signal::SIGKILL);
    bench.wait();
    // A client in the gap waits in the queue.
    let client = std::os::unix::net::UnixStream::connect(bench.path("s")).unwrap();
    let returned: Vec<(String, OwnedFd)> = std::mem::take(&mut manager.kept)
        .into_iter()
        .flat_map(|(name, descriptors)| descriptors.into_iter().map(move |descriptor| (name.clone(), descriptor)))
        .collect();
    let again = Bench::prepared(&[], &[]);
    fs::remove_dir_all(again.dir.path().join("run")).ok();
    let lines: Vec<String> = bench.lines().to_vec();
    let mut again = again;
    again.set_lines(lines);
    let again = again.launched_with(|command| {
        pass(command, returned);
    });
    let (_, marker) = crate::support::answer(client).unwrap();
    assert_eq!(marker, "first");
    let now = inodes(again.pid());
    assert!(kept.iter().all(|inode| now.contains(inode)), "the very same sockets and segment: {kept:?} in {now:?}");
}

#[test]
fn a_passed_socket_is_used_and_its_file_left_alone() {
    let prepared = Bench::prepared(&[], &[]);
    let path = prepared.dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let mut bench = prepared.launched_with(|command| pass(command, vec![("web".into(), listener.into())]));
    eventually("it serves", || bench.ask().is_ok());
    let load = Load::start(&bench);
    bench.reload();
    load.stop();
    bench.signal(Signal::SIGTERM);
    assert!(bench.wait().success());
    assert!(path.exists());
}
