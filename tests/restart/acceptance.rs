//! The load by which this stage is accepted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::bootstrap::Config;
use crate::support::clients::Failure;
use crate::support::load::{Habit, Load};
use crate::support::streams::{Host, Kind, Streams};
use crate::support::supervised::{PATIENCE, Setup, eventually, listening};
use crate::support::upstream::Upstream;
use crate::tap::{ANY, Deed, Order, Tap, Victim, Way};
use crate::{alone_on_the_machine, long_or};

const REQUESTS: [(Habit, u64); 4] =
    [(Habit::KeepAlive, 16), (Habit::Sparse, 200), (Habit::PerRequest, 4), (Habit::SlowUpload, 8)];
const STREAMS: [(Kind, usize); 3] = [(Kind::Tunnel, 20), (Kind::WebSocket, 20), (Kind::Download, 10)];

fn streams() -> usize {
    STREAMS.iter().map(|(_, count)| count).sum()
}

/// A proxy between clients and these hosts whose drains end after so many seconds, and where its tunnels begin.
fn setup(upstream: &Upstream, host: &Host, drain: u64) -> (Setup, SocketAddr) {
    let (socket, tunnel) = listening();
    let config = Config { tunnel: Some((tunnel, host.raw)), streams: Some(host.http), ..Config::to(upstream.address) };
    (Setup::new(config).socket(socket).flag("--drain-time-s", drain).flag("--parent-shutdown-time-s", drain), tunnel)
}

#[test]
fn requests_uploads_tunnels_and_streams_come_through_three_takeovers() {
    let _quiet = alone_on_the_machine();
    let (upstream, host) = (Upstream::start(), Host::start());
    let drain = long_or(4, 2);
    let (setup, tunnel) = setup(&upstream, &host, drain);
    let proxy = setup.start();
    let streams_opened = Streams::open(&host, proxy.front, tunnel, &STREAMS);
    let load = Load::start(proxy.front, &REQUESTS);
    assert!(streams_opened.progress(PATIENCE), "the streams begin");
    let begun = Instant::now();
    let apart = Duration::from_secs(long_or(8, 3));
    for takeover in 0..3_u32 {
        eventually(PATIENCE, "time for the next takeover", || begun.elapsed() >= apart * takeover + apart / 2);
        proxy.reload();
    }
    eventually(PATIENCE, "the last drain is over", || begun.elapsed() >= apart * 4);
    assert!(streams_opened.progress(PATIENCE), "the streams go on");
    let fate = streams_opened.close(PATIENCE);
    let [median, p99] = load.quantiles([0.5, 0.99]);
    println!("half of the requests took at most {median:.0} us, 99 of 100 at most {p99:.0} us");
    let report = load.stop();
    let total = report.total();
    println!("three takeovers {apart:?} apart:\n{report}  streams: {fate}");
    assert_eq!((total.errors(), total.races, total.count(&Failure::Refused)), (0, 0, 0), "{report}");
    assert_eq!((fate.living, &fate.broken[..], &fate.wrong[..]), (streams(), &[][..], &[][..]), "{}", proxy.log());
    assert!(report.of(Habit::SlowUpload).ok >= 8 && report.of(Habit::Sparse).ok >= 200, "{report}");
}

/// The property switched off: between epochs that do not admit to moving, every stream breaks when the drain ends.
#[test]
fn without_the_move_every_stream_breaks_at_the_end_of_the_drain() {
    let (upstream, host) = (Upstream::start(), Host::start());
    let (setup, tunnel) = setup(&upstream, &host, 1);
    let proxy = setup.scripted().start();
    let mut tap = Tap::on(&proxy);
    let victim = Victim::Epoch(0);
    tap.arm(&Order { epoch: ANY, way: Way::Up, message: "Hello".into(), nth: 0, deed: Deed::Plain, victim });
    let opened = Streams::open(&host, proxy.front, tunnel, &STREAMS);
    assert!(opened.progress(PATIENCE), "the streams begin");
    proxy.reload();
    assert!(tap.fired().is_some());
    eventually(PATIENCE, "they break", || opened.living() == 0);
    let fate = opened.close(PATIENCE);
    println!("{fate}");
    assert_eq!(fate.broken.len(), streams());
}
