//! The hand-over cannot be joined by strangers, confused by noise, crowded by neighbours, or leak.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use heirloom_supervisor::wire::frame;
use heirloom_supervisor::wire::message::{Command as Ask, CommandKind, Message};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};
use nix::unistd::{Pid, Uid};

use crate::long_or;
use crate::stand_in::Dice;
use crate::support::alone::own_address;
use crate::support::bins;
use crate::support::bootstrap::Config;
use crate::support::clients::get;
use crate::support::load::{Habit, Load};
use crate::support::process::{descriptors, holds, listening_inodes};
use crate::support::supervised::{PATIENCE, Setup, Supervised, eventually};
use crate::support::upstream::Upstream;

fn control_socket(proxy: &Supervised) -> PathBuf {
    let entries = fs::read_dir(proxy.run_dir()).expect("there is a run directory").filter_map(Result::ok);
    let sockets: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
        .map(|entry| entry.path())
        .collect();
    assert_eq!(sockets.len(), 1, "one socket in the run directory: {sockets:?}");
    sockets.into_iter().next().expect("one")
}

fn dial(path: &std::path::Path) -> nix::Result<OwnedFd> {
    let dialled = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(dialled.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(dialled)
}

#[test]
fn the_control_socket_is_its_owners_alone() {
    let upstream = Upstream::start();
    let proxy = Setup::new(Config::to(upstream.address)).start();
    let control = control_socket(&proxy);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&control), mode(&proxy.run_dir())), (0o600, 0o700));

    if !Uid::effective().is_root() {
        println!("skipped: only root can become another user to try");
        return;
    }
    // With the file modes out of the way the peer's credentials must still decide.
    fs::set_permissions(proxy.dir(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(proxy.run_dir(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&control, Permissions::from_mode(0o666)).unwrap();
    let reachable = tempfile::Builder::new().prefix("heirloom-bin-").tempdir().unwrap();
    fs::set_permissions(reachable.path(), Permissions::from_mode(0o755)).unwrap();
    let binary = reachable.path().join("heirloom-supervisor");
    fs::copy(bins::supervisor(), &binary).unwrap();
    fs::set_permissions(&binary, Permissions::from_mode(0o755)).unwrap();

    let serving = proxy.serving();
    for command in ["stop", "reload", "status", "rollback", "drain"] {
        let mut operator = Command::new(&binary);
        operator.arg(command).arg("--run-dir").arg(proxy.run_dir()).uid(65534).gid(65534).current_dir("/");
        let output = operator.output().unwrap();
        assert!(!output.status.success(), "another user may not {command}: {output:?}");
    }
    eventually(PATIENCE, "it is logged", || proxy.log().contains("65534"));
    assert_eq!(proxy.serving().epoch, serving.epoch);
    // And to its owner it still listens.
    fs::set_permissions(proxy.run_dir(), Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(&control, Permissions::from_mode(0o600)).unwrap();
    proxy.reload();
}

#[test]
fn two_instances_live_side_by_side() {
    let upstream = Upstream::start();
    let one = Setup::new(Config { marker: "one".into(), ..Config::to(upstream.address) }).start();
    let two = Setup::new(Config { marker: "two".into(), ..Config::to(upstream.address) }).start();
    one.reload();
    assert_eq!((one.status().generation, two.status().generation), (1, 0));
    two.reload();
    assert_eq!((one.marker().as_str(), two.marker().as_str()), ("one", "two"));
    assert!(two.operator(&["stop"]).status.success());
    assert_eq!(one.marker(), "one");
    one.reload();
}

#[test]
fn six_hundred_listeners_are_lent_and_taken_over() {
    let upstream = Upstream::start();
    let base = own_address(20_000);
    let more = (0..600).map(|number| std::net::SocketAddr::new(base.ip(), 20_000 + number)).collect();
    let config = Config { more, ..Config::to(upstream.address) };
    let proxy = Setup::new(config.clone()).workers(1).start();
    let some = [0, 252, 253, 254, 505, 506, 599].map(|number: usize| config.more[number]);
    let inodes: Vec<_> = some.iter().map(|address| listening_inodes(*address)).collect();
    for address in some {
        assert_eq!(get(address, "/marker").unwrap().body, b"first");
    }
    let operated = proxy.reload();
    println!("600 listeners taken over in {:.1?}", operated.took);
    let epoch = Pid::from_raw(proxy.settled(PATIENCE).pid);
    for (address, before) in some.into_iter().zip(inodes) {
        assert_eq!(listening_inodes(address), before, "{address} is the same socket");
        assert_eq!(holds(epoch, &before), before);
        assert_eq!(get(address, "/marker").unwrap().body, b"first");
    }
}

#[test]
fn noise_on_the_control_socket_disturbs_nobody() {
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).start();
    let control = control_socket(&proxy);
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 1), (Habit::KeepAlive, 2)]);
    let before = (proxy.serving().epoch, descriptors(proxy.pid()).len());
    let mut dice = Dice(0x1234_5678_9ABC_DEF1);
    let mut sent = 0;
    let mut connection = None;
    for _ in 0..long_or(100_000, 5_000) {
        let Some(socket) = connection.take().or_else(|| dial(&control).ok()) else { continue };
        let message = if dice.below(3) == 0 {
            // Not 0..=5: those it may obey.
            Message::Command(Ask { kind: 6 + dice.below(1 << 20) as i32 })
        } else {
            dice.message()
        };
        let bytes = frame::seal(&message, 0).unwrap_or_default();
        let bytes = if dice.below(2) == 0 { dice.damage(bytes) } else { bytes };
        // A damaged frame must not turn into an order by accident.
        if frame::open(&bytes, 0).is_ok_and(|opened| orders(&opened)) {
            continue;
        }
        sent += 1;
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        if send(socket.as_raw_fd(), &bytes, flags).is_ok() && dice.below(4) > 0 {
            connection = Some(socket);
        }
    }
    drop(connection);
    println!("{sent} messages of noise");
    assert!(proxy.alive());
    assert_eq!(proxy.serving().epoch, before.0);
    eventually(PATIENCE, "no descriptor is left behind", || descriptors(proxy.pid()).len() <= before.1 + 1);
    proxy.reload();
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

fn orders(opened: &frame::Opened) -> bool {
    let frame::Opened::Known(Message::Command(command)) = opened else { return false };
    CommandKind::try_from(command.kind).is_ok_and(|kind| kind != CommandKind::Unknown)
}

#[test]
fn fifty_takeovers_leak_no_descriptor() {
    let upstream = Upstream::start();
    let proxy = Setup::new(Config::to(upstream.address)).workers(2).start();
    let census = || {
        let epoch = Pid::from_raw(proxy.settled(PATIENCE).pid);
        (kinds(proxy.pid()), kinds(epoch))
    };
    for _ in 0..3 {
        proxy.reload();
        assert_eq!(get(proxy.front, "/small").unwrap().second_word(), "200");
    }
    let before = census();
    for _ in 0..50 {
        proxy.reload();
        assert_eq!(get(proxy.front, "/small").unwrap().second_word(), "200");
    }
    let mut after = census();
    // What one takeover opened may take a moment to close; what fifty left behind does not.
    eventually(Duration::from_secs(10), &format!("before {before:?}, after {after:?}"), || {
        after = census();
        after == before
    });
}

/// The property switched off: descriptors that stay are seen.
#[test]
fn the_census_sees_a_descriptor_that_stays() {
    let upstream = Upstream::start();
    let proxy = Setup::new(Config::to(upstream.address)).start();
    let epoch = Pid::from_raw(proxy.serving().pid);
    let before = kinds(epoch);
    let held = std::net::TcpStream::connect(proxy.front).unwrap();
    eventually(PATIENCE, "one more socket", || kinds(epoch)["socket"] == before["socket"] + 1);
    drop(held);
    eventually(PATIENCE, "it goes", || kinds(epoch) == before);
}

/// How many descriptors of each kind a process holds.
fn kinds(pid: Pid) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for target in descriptors(pid) {
        let kind = target.split_once(":[").map_or(target.as_str(), |(kind, _)| kind).to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}
