//! Real sockets, one host, ports of the kernel's choice.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;
use crate::wire::message::Protocol;

fn inode(socket: &OwnedFd) -> u64 {
    fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino()
}

fn one(granted: Granted) -> OwnedFd {
    let mut sockets = granted.unwrap();
    assert_eq!(sockets.len(), 1);
    sockets.remove(0)
}

fn port_zero(label: &str) -> SocketKey {
    SocketKey { label: label.into(), ..SocketKey::tcp("127.0.0.1:0") }
}

fn passed(listener: impl Into<OwnedFd>, name: &str) -> Passed {
    Passed::new(name.into(), listener.into()).unwrap()
}

#[test]
fn every_epoch_gets_the_same_socket() {
    let mut broker = Broker::default();
    let first = one(broker.lend(0, &port_zero("a")));
    let second = one(broker.lend(1, &port_zero("a")));
    assert_eq!(inode(&first), inode(&second));
    let other = one(broker.lend(1, &port_zero("b")));
    assert_ne!(inode(&first), inode(&other), "labels tell sockets with port 0 apart");
    let address = bind::local(first.as_fd()).unwrap().unwrap();
    drop((first, second));
    broker.settled(1);
    // Queued while no epoch holds it, served by the next.
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"hello").unwrap();
    let listener = TcpListener::from(one(broker.lend(2, &port_zero("a"))));
    listener.set_nonblocking(false).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut text = [0; 5];
    stream.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello");
    assert_eq!(broker.count(), 2);
}

#[test]
fn a_socket_is_closed_when_a_serving_epoch_does_not_ask_for_it() {
    let mut broker = Broker::default();
    broker.lend(0, &port_zero("a")).unwrap();
    broker.lend(0, &port_zero("b")).unwrap();
    broker.settled(0);
    broker.forget(0);
    assert_eq!(broker.count(), 2, "a crash closes nothing");
    broker.lend(1, &port_zero("a")).unwrap();
    assert_eq!(broker.count(), 2, "nor does asking for less");
    broker.settled(1);
    assert_eq!(broker.count(), 1);
    let dropped = broker.changes.iter().filter(|change| matches!(change, Change::Drop { .. })).count();
    assert_eq!(dropped, 1);
}

#[test]
fn a_takeover_that_is_called_off_leaves_no_new_socket() {
    let mut broker = Broker::default();
    broker.lend(0, &port_zero("a")).unwrap();
    broker.settled(0);
    broker.forget(0);
    broker.lend(1, &port_zero("a")).unwrap();
    broker.lend(1, &port_zero("new")).unwrap();
    broker.called_off(1);
    assert_eq!(broker.count(), 1, "the crashed epoch's socket stays for the next");
    // One that another epoch under way has asked for as well stays.
    broker.lend(2, &port_zero("new")).unwrap();
    broker.lend(3, &port_zero("new")).unwrap();
    broker.called_off(2);
    assert_eq!(broker.count(), 2);
}

#[test]
fn six_hundred_sockets() {
    let mut broker = Broker::default();
    let keys: Vec<SocketKey> = (0..600).map(|number| port_zero(&number.to_string())).collect();
    let first: Vec<u64> = keys.iter().map(|key| inode(&one(broker.lend(0, key)))).collect();
    let second: Vec<u64> = keys.iter().map(|key| inode(&one(broker.lend(1, key)))).collect();
    assert_eq!(first, second);
    assert_eq!(broker.count(), 600);
}

#[test]
fn udp_and_groups() {
    let mut broker = Broker::default();
    let key = SocketKey::udp("127.0.0.1:0");
    let socket = UdpSocket::from(one(broker.lend(0, &key)));
    let address = socket.local_addr().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"x", address).unwrap();
    socket.set_nonblocking(false).unwrap();
    assert_eq!(socket.recv(&mut [0; 2]).unwrap(), 1);
    let again = UdpSocket::from(one(broker.lend(1, &key)));
    assert_eq!(again.local_addr().unwrap(), address);

    let key = SocketKey { reuse_port_group: 4, label: "group".into(), ..SocketKey::tcp("127.0.0.1:0") };
    let sockets = broker.lend(0, &key).unwrap();
    let ports: BTreeSet<_> = sockets.iter().map(|socket| bind::local(socket.as_fd()).unwrap().unwrap()).collect();
    assert_eq!((sockets.len(), ports.len()), (4, 1));
    let fewer = SocketKey { reuse_port_group: 2, ..key };
    assert_eq!(broker.lend(1, &fewer).unwrap().len(), 4, "what is bound stays, whatever the number of workers");
}

#[test]
fn options_reach_the_socket() {
    let mut broker = Broker::default();
    let key = SocketKey { fast_open: 16, freebind: true, backlog: 7, ..SocketKey::tcp("[::1]:0") };
    let socket = one(broker.lend(0, &key));
    assert!(nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::Ipv6V6Only).unwrap());
    let both = SocketKey { ipv4_compat: true, ..SocketKey::tcp("[::]:0") };
    let socket = one(broker.lend(0, &both));
    assert!(!nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::Ipv6V6Only).unwrap());
    let flags = nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert!(nix::fcntl::OFlag::from_bits_retain(flags).contains(nix::fcntl::OFlag::O_NONBLOCK));
    // A foreign address can only be bound freely.
    let foreign = SocketKey { label: "f".into(), freebind: true, ..SocketKey::tcp("192.0.2.1:0") };
    one(broker.lend(0, &foreign));
    let error = broker.lend(0, &SocketKey { freebind: false, label: "g".into(), ..foreign }).unwrap_err();
    assert!(error.contains("192.0.2.1"), "{error}");
}

#[test]
fn unix_sockets_replace_what_the_dead_left_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let key = SocketKey { unix_mode: 0o660, ..SocketKey::unix(path.to_str().unwrap()) };
    // A dead process left its file.
    drop(UnixListener::bind(&path).unwrap());
    let mut broker = Broker::default();
    let listener = UnixListener::from(one(broker.lend(0, &key)));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    UnixStream::connect(&path).unwrap();
    drop(listener);
    // A living one keeps it.
    let mut second = Broker::default();
    let error = second.lend(0, &key).unwrap_err();
    assert!(error.contains("in use"), "{error}");
    // No more use: the file goes too.
    broker.settled(1);
    assert!(!path.exists());
    fs::write(&path, "precious").unwrap();
    let error = broker.lend(1, &key).unwrap_err();
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    // Another's file in the same place is not removed.
    fs::remove_file(&path).unwrap();
    broker.lend(2, &key).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    broker.settled(3);
    assert!(path.exists());
    let name = format!("@heirloom-test-{}", std::process::id());
    broker.lend(4, &SocketKey::unix(&name)).unwrap();
}

#[test]
fn a_bad_key_is_refused_with_its_reason() {
    let mut broker = Broker::default();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases = [
        (SocketKey::tcp("localhost:80"), "not an IP address"),
        (SocketKey::tcp(""), "not an IP address"),
        (SocketKey::unix("relative.sock"), "absolute path"),
        (SocketKey::unix("@"), "empty"),
        (SocketKey::unix(format!("/{}", "x".repeat(120))), "longer than"),
        (SocketKey { protocol: 77, ..SocketKey::tcp("127.0.0.1:1") }, "not known"),
        (SocketKey { protocol: Protocol::Unknown.into(), ..SocketKey::tcp("127.0.0.1:1") }, "not known"),
        (SocketKey::tcp(taken), "another process holds it"),
    ];
    for (key, reason) in cases {
        let error = broker.lend(0, &key).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    let held = one(broker.lend(0, &SocketKey::tcp("127.0.0.1:0")));
    broker.settled(0);
    let port = bind::local(held.as_fd()).unwrap().unwrap().port();
    let error = broker.lend(0, &SocketKey::tcp(format!("0.0.0.0:{port}"))).unwrap_err();
    assert!(error.contains("cannot bind"), "{error}");
    assert_eq!(broker.count(), 1);
}

#[test]
fn passed_sockets_are_taken_by_address() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let tcp_inode = inode(&tcp.as_fd().try_clone_to_owned().unwrap());
    let mut broker = Broker::new(vec![passed(tcp, "http"), passed(unix, "unknown")]);
    assert_eq!(inode(&one(broker.lend(0, &SocketKey::tcp(address.to_string())))), tcp_inode);
    one(broker.lend(0, &SocketKey::unix(path.to_str().unwrap())));
    assert!(broker.spare.is_empty());
    // Somebody else's, so it is not ours to close in a call-off.
    broker.called_off(0);
    assert_eq!(broker.count(), 2);
}

#[test]
fn a_wildcard_for_both_families_serves_the_old_one() {
    let both = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
    both.set_only_v6(false).unwrap();
    both.bind(&"[::]:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    both.listen(1).unwrap();
    let passed = passed(both, "web");
    let port = bind::local(passed.socket.as_fd()).unwrap().unwrap().port();
    let wanted = |text: &str| Address::Tcp(text.replace("PORT", &port.to_string()).parse().unwrap());
    assert!(passed.serves(&wanted("0.0.0.0:PORT")) && passed.serves(&wanted("[::]:PORT")));
    assert!(!passed.serves(&wanted("127.0.0.1:PORT")));
}

#[test]
fn the_store_gives_back_sockets_with_port_0() {
    let mut broker = Broker::default();
    let socket = one(broker.lend(0, &port_zero("a")));
    let Some(Change::Keep { name, mut sockets }) = broker.changes.pop() else { panic!("nothing to keep") };
    assert!(name.chars().all(|c| c.is_ascii_graphic() && c != ':'));
    let mut unwanted = Broker::default();
    one(unwanted.lend(0, &port_zero("b")));
    let Some(Change::Keep { name: other, sockets: others }) = unwanted.changes.pop() else { panic!("nothing to keep") };
    drop(broker);

    let mut spare = vec![passed(sockets.remove(0), &name)];
    spare.extend(others.into_iter().map(|socket| passed(socket, &other)));
    let mut next = Broker::new(spare);
    assert_eq!(inode(&one(next.lend(5, &port_zero("a")))), inode(&socket));
    next.settled(5);
    assert!(next.spare.is_empty(), "what nobody asked for is closed once somebody serves");
    assert!(next.changes.iter().any(|change| matches!(change, Change::Drop { name } if *name == other)));
}

#[test]
fn what_is_passed_must_be_of_use() {
    let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
    passed(connected, "u");
    let (stream, _peer) = UnixStream::pair().unwrap();
    assert!(Passed::new("x".into(), stream.into()).unwrap_err().contains("listen"));
    let file = tempfile::tempfile().unwrap();
    assert!(Passed::new("x".into(), file.into()).is_err());
}

#[test]
fn an_orphan_hands_its_sockets_back() {
    let mut old = Broker::default();
    let socket = one(old.lend(3, &port_zero("a")));
    let before = inode(&socket);
    let mut next = Broker::default();
    next.take_back(3, port_zero("a"), vec![socket]).unwrap();
    assert_eq!(inode(&one(next.lend(4, &port_zero("a")))), before);
    let wrong = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = next.take_back(3, SocketKey::tcp("127.0.0.1:9"), vec![wrong.into()]).unwrap_err();
    assert!(error.contains("not what its key says"), "{error}");
    assert_eq!(next.count(), 1);
}
