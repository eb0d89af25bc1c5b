//! One line in the access logs for each request and each tunnel, however many epochs it lives through, and none lost with an epoch.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::bootstrap::Config;
use crate::support::clients::{Connection, Request, block_on};
use crate::support::scrape;
use crate::support::supervised::{PATIENCE, Setup, Supervised, eventually, listening};
use crate::support::upstream::{PIECE, Upstream};

/// Sends back what it gets, on every connection.
fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut socket = socket;
                let mut block = [0; 4096];
                while let Ok(read @ 1..) = socket.read(&mut block) {
                    if socket.write_all(&block[..read]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn say(tunnel: &mut TcpStream, words: &[u8]) {
    tunnel.write_all(words).unwrap();
    let mut back = vec![0; words.len()];
    tunnel.read_exact(&mut back).unwrap();
    assert_eq!(back, words);
}

/// All lines of the files, each as its words.
fn lines(files: &[&Path]) -> Vec<Vec<String>> {
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default()).collect();
    assert!(text.is_empty() || text.ends_with('\n'), "torn: {text}");
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn start(upstream: &Upstream, log: PathBuf) -> (Supervised, std::net::SocketAddr) {
    let (socket, listen) = listening();
    drop(socket);
    let config = Config { tunnel: Some((listen, echo())), access_log: Some(log), ..Config::to(upstream.address) };
    let proxy = Setup::new(config).flag("--drain-time-s", 60).flag("--parent-shutdown-time-s", 60).start();
    (proxy, listen)
}

#[test]
fn there_is_one_line_each_with_the_totals_of_all_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let upstream = Upstream::start();
    let (proxy, listen) = start(&upstream, log.clone());
    let takeovers = 3;
    let pieces = 60_u32;
    let begun = Instant::now();
    let mut tunnel = TcpStream::connect(listen).unwrap();
    tunnel.set_read_timeout(Some(PATIENCE)).unwrap();
    say(&mut tunnel, b"hello");
    let mut lasted = Duration::ZERO;
    block_on(async {
        let mut slow = Connection::open(proxy.front).await.unwrap();
        slow.patience = PATIENCE;
        let path = format!("/slow?pieces={pieces}&every=50");
        slow.send(&Request::Get { path: &path, close: false }).await.unwrap();
        let mut kept = Connection::open(proxy.front).await.unwrap();
        for _ in 0..takeovers {
            kept.exchange(&Request::Get { path: "/kept", close: false }).await.unwrap();
            proxy.reload();
            proxy.settled(PATIENCE);
            say(&mut tunnel, b"again");
        }
        kept.exchange(&Request::Get { path: "/kept", close: false }).await.unwrap();
        slow.receive().await.unwrap();
        lasted = begun.elapsed();
    });
    let stats = scrape::stats(proxy.admin);
    assert_eq!(stats.get("server.connections_moved.tcp"), Some(&takeovers), "{}", proxy.log());
    drop(tunnel);
    let stopped = proxy.operator(&["stop"]);
    eventually(PATIENCE, "three kinds of line", || lines(&[&log]).len() >= 6);
    let all = lines(&[&log]);
    let of = |kind: &str| all.iter().filter(|line| line[0] == kind).collect::<Vec<_>>();
    let tcp = of("tcp");
    assert_eq!(tcp.len(), 1, "{all:?}\n{stopped:?}");
    let bytes = (5 + 5 * takeovers).to_string();
    assert_eq!(tcp[0][1..4], [bytes.clone(), bytes, "-".to_owned()], "{all:?}");
    let duration: u128 = tcp[0][4].parse().unwrap();
    assert!(duration + 5 >= lasted.as_millis(), "{duration} ms of {lasted:?}");
    let slow: Vec<_> = of("http").into_iter().filter(|line| line[1].starts_with("/slow")).collect();
    assert_eq!(slow.len(), 1, "{all:?}");
    assert_eq!(slow[0][2..4], ["200".to_owned(), (pieces as usize * PIECE).to_string()], "{all:?}");
    assert!(slow[0][5].parse::<u32>().unwrap() >= (pieces - 1) * 50, "{all:?}");
    let kept: Vec<_> = of("http").into_iter().filter(|line| line[1] == "/kept").collect();
    assert_eq!(kept.len(), 1 + takeovers as usize, "{all:?}");
    assert!(kept.iter().all(|line| line[6] == kept[0][6]), "the connection keeps its number: {all:?}");
}

#[test]
fn the_supervisors_signal_has_log_files_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let (log, rotated) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let upstream = Upstream::start();
    let (proxy, _) = start(&upstream, log.clone());
    block_on(async {
        let mut client = Connection::open(proxy.front).await.unwrap();
        client.exchange(&Request::Get { path: "/before", close: false }).await.unwrap();
        std::fs::rename(&log, &rotated).unwrap();
        nix::sys::signal::kill(proxy.pid(), Signal::SIGUSR1).unwrap();
        // The file is there again when everything that was written before stands in the old one.
        eventually(PATIENCE, "the new file", || log.exists());
        client.exchange(&Request::Get { path: "/after", close: false }).await.unwrap();
        drop(client);
    });
    proxy.operator(&["stop"]);
    // Probes of the suite itself have lines too.
    let of = |files: &[&Path], path: &str| lines(files).iter().filter(|line| line[1] == path).count();
    let both = [log.as_path(), rotated.as_path()];
    eventually(PATIENCE, "both lines", || of(&both, "/before") + of(&both, "/after") == 2);
    assert_eq!((of(&[&rotated], "/before"), of(&[&log], "/after")), (1, 1));
}
