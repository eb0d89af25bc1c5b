use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;

use super::*;

fn any_port() -> BindAddress {
    BindAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn unix(path: &Path, mode: u32) -> BindAddress {
    BindAddress::Unix { path: path.into(), mode }
}

fn listener(address: &BindAddress) -> Listener {
    Listener::from_fd(bind(address, &BindOptions::default()).unwrap()).unwrap()
}

async fn connect(listener: &Listener) -> Stream {
    match listener.local_address().unwrap() {
        PeerAddress::Ip(address) => Stream::connect_tcp(address).await.unwrap(),
        PeerAddress::Unix(path) => Stream::connect_unix(&path.unwrap()).await.unwrap(),
    }
}

/// A connected pair over a listener.
async fn pair(listener: &Listener) -> (Stream, Stream, PeerAddress) {
    let (client, accepted) = tokio::join!(connect(listener), listener.accept());
    let (server, peer) = accepted.unwrap();
    (client, server, peer)
}

async fn write(stream: &Stream, data: &[u8]) {
    stream.writable().await.unwrap();
    assert_eq!(stream.try_write(data).unwrap(), data.len());
}

async fn read(stream: &Stream) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(64);
    loop {
        stream.readable().await.unwrap();
        match stream.try_read_buf(&mut buffer) {
            Ok(_) => return buffer,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn speaks(client: &mut Stream, server: &Stream) {
    write(client, b"hello").await;
    server.readable().await.unwrap();
    let mut peeked = [0; 2];
    assert_eq!(server.try_peek(&mut peeked).unwrap(), 2);
    assert_eq!(&peeked, b"he");
    assert_eq!(read(server).await, b"hello");
    server.writable().await.unwrap();
    assert_eq!(server.try_write_vectored(&[io::IoSlice::new(b"a"), io::IoSlice::new(b"b")]).unwrap(), 2);
    assert_eq!(read(client).await, b"ab");
    let mut nothing = [0; 1];
    assert_eq!(server.try_read(&mut nothing).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    client.shutdown().await.unwrap();
    assert_eq!(read(server).await, b"");
}

#[tokio::test(flavor = "current_thread")]
async fn tcp() {
    let listener = listener(&any_port());
    let (mut client, server, peer) = pair(&listener).await;
    assert_eq!(peer, client.local_address().unwrap());
    assert_eq!(server.peer_address().unwrap(), peer);
    assert_eq!(server.local_address().unwrap(), listener.local_address().unwrap());
    assert_eq!(peer.ip(), Some([127, 0, 0, 1].into()));
    client.set_nodelay().unwrap();
    client.set_keepalive(&Keepalive { probes: Some(3), time: Some(60), interval: Some(5) }).unwrap();
    assert!(client.take_error().unwrap().is_none());
    speaks(&mut client, &server).await;
}

#[tokio::test(flavor = "current_thread")]
async fn unix_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = listener(&unix(&path, 0o640));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let (mut client, server, peer) = pair(&listener).await;
    assert_eq!((peer.clone(), peer.ip(), peer.to_string()), (PeerAddress::Unix(None), None, String::new()));
    client.set_nodelay().unwrap();
    client.set_keepalive(&Keepalive::default()).unwrap();
    speaks(&mut client, &server).await;
}

#[tokio::test(flavor = "current_thread")]
async fn abstract_names() {
    let path = PathBuf::from(format!("@heirloom-net-{}", std::process::id()));
    let listener = listener(&unix(&path, 0));
    let (connected, accepted) = tokio::join!(Stream::connect_unix(&path), listener.accept());
    speaks(&mut connected.unwrap(), &accepted.unwrap().0).await;
    assert!(!path.exists());
}

#[tokio::test(flavor = "current_thread")]
async fn sockets_survive_being_taken_apart() {
    let directory = tempfile::tempdir().unwrap();
    for address in [any_port(), unix(&directory.path().join("s"), 0)] {
        let listener = listener(&address);
        let client = connect(&listener).await;
        // Queued, not accepted: it must still be there afterwards.
        let listener = Listener::from_fd(listener.into_fd().unwrap()).unwrap();
        let (server, _) = listener.accept().await.unwrap();
        write(&client, b"in flight").await;
        let mut client = Stream::from_fd(client.into_fd().unwrap()).unwrap();
        let server = Stream::from_fd(server.into_fd().unwrap()).unwrap();
        assert_eq!(read(&server).await, b"in flight");
        speaks(&mut client, &server).await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_wrong_kind_of_descriptor_is_refused() {
    let datagram = OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    assert!(Stream::from_fd(datagram.try_clone().unwrap()).is_err());
    assert!(Listener::from_fd(datagram).is_err());
    let file = OwnedFd::from(tempfile::tempfile().unwrap());
    assert!(Stream::from_fd(file.try_clone().unwrap()).is_err());
    assert!(Listener::from_fd(file).is_err());
    let listener = listener(&any_port());
    let connected = connect(&listener).await;
    assert!(Listener::from_fd(connected.as_fd().try_clone_to_owned().unwrap()).is_err());
}

#[tokio::test(flavor = "current_thread")]
async fn stale_paths_are_taken_and_living_ones_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    drop(bind(&unix(&path, 0), &BindOptions::default()).unwrap());
    assert!(path.exists());
    let living = bind(&unix(&path, 0), &BindOptions::default()).unwrap();
    let refused = bind(&unix(&path, 0), &BindOptions::default()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    drop(living);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "not a socket").unwrap();
    assert!(bind(&unix(&path, 0), &BindOptions::default()).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"not a socket");
}

#[test]
fn options_reach_the_socket() {
    let flag = |fd: &OwnedFd, level, name| {
        let mut value: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: pointer and length describe `value`; the descriptor is open.
        #[allow(unsafe_code, reason = "the test reads options that no crate names")]
        let result = unsafe {
            libc::getsockopt(std::os::fd::AsRawFd::as_raw_fd(fd), level, name, (&raw mut value).cast(), &raw mut length)
        };
        assert_eq!(result, 0);
        value
    };
    let options = BindOptions {
        backlog: Some(16),
        freebind: true,
        fast_open: Some(32),
        reuse_port: true,
        ..BindOptions::default()
    };
    // An address that this machine does not have.
    let foreign = BindAddress::Tcp("198.51.100.7:0".parse().unwrap());
    let fd = bind(&foreign, &options).unwrap();
    assert_eq!(flag(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR), 1);
    assert_eq!(flag(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT), 1);
    assert_eq!(flag(&fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN), 1);
    assert_eq!(flag(&fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN), 32);
    assert!(bind(&foreign, &BindOptions::default()).is_err());
    for ipv4_compat in [false, true] {
        let options = BindOptions { ipv4_compat, ..BindOptions::default() };
        // A machine without IPv6 has nothing to check here.
        if let Ok(fd) = bind(&BindAddress::Tcp("[::]:0".parse().unwrap()), &options) {
            assert_eq!(flag(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY), i32::from(!ipv4_compat));
        }
    }
}

#[test]
fn a_mapped_address_is_shown_as_what_it_is() {
    let mapped: SocketAddr = "[::ffff:192.0.2.1]:80".parse().unwrap();
    assert_eq!(PeerAddress::from(mapped).to_string(), "192.0.2.1:80");
}

#[test]
fn accept_errors() {
    let kind = |code| classify_accept(&io::Error::from_raw_os_error(code));
    for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
        assert_eq!(kind(code), AcceptError::Exhausted);
    }
    for code in [libc::ECONNABORTED, libc::EINTR, libc::EPROTO, libc::EPERM, libc::ENETDOWN, libc::EHOSTUNREACH] {
        assert_eq!(kind(code), AcceptError::Connection);
    }
    for code in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK] {
        assert_eq!(kind(code), AcceptError::Listener);
    }
    let mut backoff = Backoff::default();
    let delays: Vec<_> = (0..100).map(|_| backoff.next_delay()).collect();
    assert_eq!(delays[..3], [5, 10, 20].map(Duration::from_millis));
    assert!(delays.is_sorted() && delays[99] == Duration::from_millis(500));
    backoff.reset();
    assert_eq!(backoff.next_delay(), Duration::from_millis(5));
}
