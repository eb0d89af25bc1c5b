//! After the release: a newcomer that goes wrong in its grace is taken back, and what is counted of it all outlives everybody.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::counts::value;
use crate::support::bootstrap::Config;
use crate::support::clients::{Connection, Request, block_on, get};
use crate::support::load::{Habit, Load};
use crate::support::operated::{DRAINING, SERVING, Tally};
use crate::support::process::signal;
use crate::support::scrape::stats;
use crate::support::supervised::{PATIENCE, Setup, Supervised, eventually, eventually_some, listening};
use crate::support::upstream::Upstream;

const GET: Request<'static> = Request::Get { path: "/small", close: false };
/// Longer than any test takes.
const GRACE: u64 = 60;

fn setup(config: Config) -> Setup {
    Setup::new(config).flag("--grace-time-s", GRACE).flag("--parent-shutdown-time-s", 60)
}

/// A tunnel to a host that echoes keeps its epoch draining: the next epoch does not have its listener.
pub(crate) struct Held {
    stream: TcpStream,
}

impl Held {
    /// Through a listener at `at`.
    pub(crate) fn at(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut held = Self { stream };
        held.ask();
        held
    }

    fn ask(&mut self) {
        let mut answer = [0];
        self.stream.write_all(b"x").and_then(|()| self.stream.read_exact(&mut answer)).expect("it is whole");
        assert_eq!(answer, *b"x");
    }

    /// Waits until somebody cuts it.
    pub(crate) fn ends_cut(mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// The tunnel is as it was, and ends.
    pub(crate) fn finish(mut self) {
        self.ask();
    }
}

/// A host that echoes.
pub(crate) fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut &stream));
        }
    });
    address
}

/// An address that nobody listens at.
pub(crate) fn free() -> SocketAddr {
    let (socket, address) = listening();
    drop(socket);
    address
}

/// A proxy, and a connection that stays with its first epoch when the next one is configured with [`next`].
fn holding(upstream: &Upstream, change: impl FnOnce(Setup) -> Setup) -> (Supervised, Held) {
    let at = free();
    let config = Config { tunnel: Some((at, echo())), ..Config::to(upstream.address) };
    let proxy = change(setup(config)).start();
    (proxy, Held::at(at))
}

/// Another configuration: another marker, and no tunnel.
fn next(config: &mut Config) {
    config.marker = "second".into();
    config.tunnel = None;
}

fn counted(proxy: &Supervised, name: &str) -> i64 {
    value(&stats(proxy.admin), &format!("supervisor.{name}"))
}

#[test]
fn the_epoch_before_resumes_when_the_newcomer_dies_after_its_release() {
    let upstream = Upstream::start();
    let (mut proxy, held) = holding(&upstream, |setup| setup);
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 4)]);
    load.progress(20);
    let old = proxy.serving();
    for round in 1..=3 {
        proxy.configure(next);
        proxy.reload();
        assert_eq!(proxy.marker(), "second");
        let status = proxy.status();
        assert!(status.in_state(DRAINING).iter().any(|row| row.epoch == old.epoch), "{status:?}");
        assert!(status.grace_ms.is_some_and(|ms| ms > 0), "{status:?}");
        // Nothing is in the newcomer's hands when it dies, so nobody has anything to lose.
        load.pause();
        proxy.signal_serving(Signal::SIGKILL);
        load.resume();
        load.progress(20);
        let serving = proxy.serving();
        assert_eq!((serving.epoch, serving.pid), (old.epoch, old.pid));
        assert_eq!((proxy.marker().as_str(), serving.draining_until_unix_ms), ("first", None));
        let status = proxy.status();
        assert!(status.last_outcome.starts_with("reload was taken back in grace"), "{status:?}");
        assert!(status.last_outcome.contains("SIGKILL"), "{status:?}");
        assert_eq!(counted(&proxy, "takeovers.rolled_back.died"), round);
    }
    println!("{}", proxy.status().last_outcome);
    // It serves as if nothing had been: the next takeover finds it, and its connections.
    proxy.reload();
    held.finish();
    assert_eq!(counted(&proxy, "takeovers.released"), 4);
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

#[test]
fn idle_connections_of_an_epoch_that_resumed_move_with_the_next_takeover() {
    let upstream = Upstream::start();
    let (mut proxy, held) = holding(&upstream, |setup| setup);
    proxy.configure(next);
    proxy.reload();
    proxy.signal_serving(Signal::SIGKILL);
    eventually(PATIENCE, "the old one serves", || proxy.serving().epoch == 0 && get(proxy.front, "/marker").is_ok());
    let moved = "server.connections_moved.http1";
    block_on(async {
        let mut idle = Vec::new();
        for _ in 0..5 {
            let mut client = Connection::open(proxy.front).await.unwrap();
            client.exchange(&GET).await.unwrap();
            idle.push(client);
        }
        proxy.reload();
        let all = |tally: &Tally| tally.name == moved && tally.count >= 5;
        eventually(PATIENCE, "they move", || proxy.status().counts.iter().any(all));
        for client in &mut idle {
            client.exchange(&GET).await.unwrap();
        }
    });
    assert!(value(&stats(proxy.admin), moved) >= 5);
    held.finish();
}

#[test]
fn a_binary_that_dies_twice_in_its_grace_gives_way_to_the_one_before() {
    let upstream = Upstream::start();
    let mut proxy = setup(Config::to(upstream.address)).start();
    proxy.configure(|config| config.marker = "second".into());
    proxy.reload();
    // Nothing keeps the old epoch: it has left, and cannot be called back.
    let newcomer = proxy.settled(PATIENCE);
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 2)]);
    load.progress(20);
    load.pause();
    signal(Pid::from_raw(newcomer.pid), Signal::SIGKILL);
    let again = eventually_some(PATIENCE, "it is started again", || {
        proxy.status().in_state(SERVING).first().filter(|row| row.epoch > newcomer.epoch).map(|row| (*row).clone())
    });
    assert_eq!(proxy.marker(), "second");
    signal(Pid::from_raw(again.pid), Signal::SIGKILL);
    eventually(PATIENCE, "what was before serves", || proxy.marker() == "first");
    assert!(proxy.log().contains("died twice within its grace"));
    assert_eq!((counted(&proxy, "takeovers.fell_back"), counted(&proxy, "epochs.crashed")), (1, 2));
    load.resume();
    load.progress(20);
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

/// The property switched off: without a grace a death after the release is a crash like any.
#[test]
fn without_a_grace_nobody_is_called_back() {
    let upstream = Upstream::start();
    let (mut proxy, held) = holding(&upstream, |setup| setup.flag("--grace-time-s", 0));
    proxy.configure(next);
    proxy.reload();
    assert_eq!(proxy.status().grace_ms, None);
    let dead = proxy.serving();
    signal(Pid::from_raw(dead.pid), Signal::SIGKILL);
    eventually(PATIENCE, "another one serves", || proxy.serving().epoch > dead.epoch);
    assert_eq!(proxy.marker(), "second");
    held.finish();
}

#[test]
fn the_next_supervisor_knows_ages_recipes_and_counts() {
    let upstream = Upstream::start();
    let (mut proxy, first) = holding(&upstream, |setup| setup);
    let at = free();
    proxy.configure(|config| (config.marker, config.tunnel) = ("second".into(), Some((at, echo()))));
    proxy.reload();
    let second = Held::at(at);
    proxy.configure(|config| (config.marker, config.tunnel) = ("third".into(), None));
    proxy.reload();
    let ages = |proxy: &Supervised| proxy.status().epochs.iter().map(|row| row.age_ms).collect::<Vec<_>>();
    eventually(PATIENCE, "the first has left", || proxy.status().epochs.len() == 2);
    let before = ages(&proxy);
    // The first tunnel has moved to the second epoch, which keeps both: the third does not have their listener.
    assert_eq!((before.len(), counted(&proxy, "takeovers.released")), (2, 2));
    let serving = proxy.serving();
    for supervisor in 1..=2 {
        proxy.kill_supervisor();
        proxy.next_supervisor();
        assert_eq!(proxy.serving().epoch, serving.epoch);
        eventually(PATIENCE, "all have come home", || proxy.status().epochs.len() == 2);
        let after = ages(&proxy);
        assert!(before.iter().zip(&after).all(|(before, after)| after + 100 >= *before), "{before:?} {after:?}");
        assert!(proxy.status().has_previous);
        assert_eq!(counted(&proxy, "takeovers.released"), 2);
        eventually(PATIENCE, "adoptions are counted", || counted(&proxy, "epochs.adopted") == 2 * supervisor);
        eventually(PATIENCE, "gauges are said anew", || {
            counted(&proxy, "draining.count") == 1 && counted(&proxy, "draining.1.epoch") == 1
        });
    }
    // A crash is answered with what was started, whatever the file says by now.
    proxy.configure_raw("static_resources: [\n");
    proxy.signal_serving(Signal::SIGKILL);
    eventually(PATIENCE, "it is started again", || proxy.serving().epoch > serving.epoch);
    assert_eq!(proxy.marker(), "third");
    let operated = proxy.operator(&["rollback"]);
    assert!(operated.status.success(), "{operated:?}\n{}", proxy.log());
    assert_eq!(proxy.marker(), "second");
    first.finish();
    second.finish();
    proxy.settled(PATIENCE);
    let scraped = String::from_utf8(get(proxy.admin, "/stats").unwrap().body).unwrap();
    let histograms: Vec<_> = scraped.lines().filter(|line| line.starts_with("supervisor.takeover_ms.")).collect();
    println!("{}", histograms.join("\n"));
    for phase in ["prepare", "ready", "commit", "probation", "drain", "total"] {
        assert!(histograms.iter().any(|line| line.contains(&format!("takeover_ms.{phase}:"))), "{phase}");
    }
    assert_eq!(counted(&proxy, "takeovers.released"), 3);
}

#[test]
fn a_failed_takeover_is_counted_by_its_reason() {
    let upstream = Upstream::start();
    let proxy = setup(Config::to(upstream.address)).start();
    proxy.configure_raw("static_resources: [\n");
    for count in 1..=2 {
        assert!(!proxy.operator(&["reload"]).status.success());
        assert_eq!(counted(&proxy, "takeovers.failed.not_ready"), count);
    }
    let table = proxy.operator(&["status"]).stdout;
    assert!(table.contains("takeovers: begun 2, failed.not_ready 2\n"), "{table}");
}
