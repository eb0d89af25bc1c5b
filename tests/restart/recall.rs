//! After the release: a newcomer that goes wrong in its grace is taken back, and what is counted of it all outlives everybody.

use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::counts::value;
use crate::support::bootstrap::{Config, HTTP};
use crate::support::clients::{Connection, Request, block_on, get};
use crate::support::load::{Habit, Load};
use crate::support::operated::{DRAINING, SERVING, Tally};
use crate::support::process::signal;
use crate::support::scrape::stats;
use crate::support::supervised::{PATIENCE, Setup, Supervised, eventually, eventually_some};
use crate::support::upstream::Upstream;

const GET: Request<'static> = Request::Get { path: "/small", close: false };
/// Longer than any test takes.
const GRACE: u64 = 60;

fn setup(upstream: &Upstream) -> Setup {
    Setup::new(Config::to(upstream.address)).flag("--grace-time-s", GRACE).flag("--parent-shutdown-time-s", 60)
}

/// An upload that is not finished keeps its epoch draining.
struct Upload {
    stream: TcpStream,
}

impl Upload {
    fn begin(proxy: &Supervised) -> Self {
        let mut stream = TcpStream::connect(proxy.front).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\nconnection: close\r\n\r\nab")
            .unwrap();
        let active = format!("{HTTP}.downstream_rq_active");
        eventually(PATIENCE, "the upload has begun", || value(&stats(proxy.admin), &active) >= 1);
        Self { stream }
    }

    fn finish(mut self) {
        let mut answer = String::new();
        self.stream.write_all(b"cd").and_then(|()| self.stream.read_to_string(&mut answer)).expect("it is whole");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("received 4\n"), "{answer}");
    }
}

fn counted(proxy: &Supervised, name: &str) -> i64 {
    value(&stats(proxy.admin), &format!("supervisor.{name}"))
}

#[test]
fn the_epoch_before_resumes_when_the_newcomer_dies_after_its_release() {
    let upstream = Upstream::start();
    let mut proxy = setup(&upstream).start();
    let upload = Upload::begin(&proxy);
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 4)]);
    load.progress(20);
    let old = proxy.serving();
    for round in 1..=3 {
        proxy.configure(|config| config.marker = "second".into());
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
    upload.finish();
    assert_eq!(counted(&proxy, "takeovers.released"), 4);
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

#[test]
fn idle_connections_of_an_epoch_that_resumed_move_with_the_next_takeover() {
    let upstream = Upstream::start();
    let proxy = setup(&upstream).start();
    let upload = Upload::begin(&proxy);
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
    upload.finish();
}

#[test]
fn a_binary_that_dies_twice_in_its_grace_gives_way_to_the_one_before() {
    let upstream = Upstream::start();
    let mut proxy = setup(&upstream).start();
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
    let mut proxy = setup(&upstream).flag("--grace-time-s", 0).start();
    let upload = Upload::begin(&proxy);
    proxy.configure(|config| config.marker = "second".into());
    proxy.reload();
    assert_eq!(proxy.status().grace_ms, None);
    let dead = proxy.serving();
    signal(Pid::from_raw(dead.pid), Signal::SIGKILL);
    eventually(PATIENCE, "another one serves", || proxy.serving().epoch > dead.epoch);
    assert_eq!(proxy.marker(), "second");
    upload.finish();
}

#[test]
fn the_next_supervisor_knows_ages_recipes_and_counts() {
    let upstream = Upstream::start();
    let mut proxy = setup(&upstream).start();
    let first = Upload::begin(&proxy);
    proxy.configure(|config| config.marker = "second".into());
    proxy.reload();
    let second = Upload::begin(&proxy);
    proxy.configure(|config| config.marker = "third".into());
    proxy.reload();
    let ages = |proxy: &Supervised| proxy.status().epochs.iter().map(|row| row.age_ms).collect::<Vec<_>>();
    let before = ages(&proxy);
    assert_eq!((before.len(), counted(&proxy, "takeovers.released")), (3, 2));
    let serving = proxy.serving();
    for supervisor in 1..=2 {
        proxy.kill_supervisor();
        proxy.next_supervisor();
        assert_eq!(proxy.serving().epoch, serving.epoch);
        eventually(PATIENCE, "all have come home", || proxy.status().epochs.len() == 3);
        let after = ages(&proxy);
        assert!(before.iter().zip(&after).all(|(before, after)| after + 100 >= *before), "{before:?} {after:?}");
        assert!(proxy.status().has_previous);
        assert_eq!(counted(&proxy, "takeovers.released"), 2);
        eventually(PATIENCE, "adoptions are counted", || counted(&proxy, "epochs.adopted") == 3 * supervisor);
        eventually(PATIENCE, "gauges are said anew", || {
            counted(&proxy, "draining.count") == 2 && counted(&proxy, "draining.1.epoch") == 1
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
    let proxy = setup(&upstream).start();
    proxy.configure_raw("static_resources: [\n");
    for count in 1..=2 {
        assert!(!proxy.operator(&["reload"]).status.success());
        assert_eq!(counted(&proxy, "takeovers.failed.not_ready"), count);
    }
    let table = proxy.operator(&["status"]).stdout;
    assert!(table.contains("takeovers: begun 2, failed.not_ready 2\n"), "{table}");
}
