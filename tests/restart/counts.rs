//! What the clients counted is what the statistics say, over takeovers and deaths.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::long_or;
use crate::support::alone::Alone;
use crate::support::bootstrap::{CLUSTER, Config, HTTP};
use crate::support::load::{Habit, Load};
use crate::support::process::{all_closes_have_arrived, gone, signal};
use crate::support::scrape::{Exposition, Watch, stats};
use crate::support::statsd::Statsd;
use crate::support::supervised::{PATIENCE, Setup, eventually, within};
use crate::support::upstream::Upstream;

pub(super) const HABITS: [(Habit, u64); 3] = [(Habit::PerRequest, 2), (Habit::KeepAlive, 3), (Habit::TwoWritePost, 2)];

/// Counters that each answered request raises by one.
fn per_request() -> [String; 6] {
    [
        format!("{HTTP}.downstream_rq_total"),
        format!("{HTTP}.downstream_rq_completed"),
        format!("{HTTP}.downstream_rq_2xx"),
        format!("{CLUSTER}.upstream_rq_total"),
        format!("{CLUSTER}.upstream_rq_completed"),
        format!("{CLUSTER}.upstream_rq_200"),
    ]
}

/// The same in the histograms' counts.
pub(super) fn histogram_counts(admin: SocketAddr) -> [f64; 2] {
    let scrape = Exposition::scrape(admin).expect("the statistics can be scraped");
    [
        scrape.growing("envoy_http_downstream_rq_time_count", "front"),
        scrape.growing("envoy_cluster_upstream_rq_time_count", "origin"),
    ]
}

pub(super) fn value(stats: &BTreeMap<String, i64>, name: &str) -> i64 {
    stats.get(name).copied().unwrap_or(0)
}

/// Waits until the counters have grown by exactly `answered` since `before`, and fails with what they are if they do not.
pub(super) fn agree(admin: SocketAddr, before: &BTreeMap<String, i64>, histograms: [f64; 2], answered: u64) {
    let goal = answered as i64;
    let mut seen = String::new();
    let agreed = within(Duration::from_secs(5), || {
        let now = stats(admin);
        let grown = per_request().map(|name| value(&now, &name) - value(before, &name));
        let [one, two] = histogram_counts(admin);
        let recorded = [(one - histograms[0]) as i64, (two - histograms[1]) as i64];
        seen = format!("{:?} by {grown:?}, histograms by {recorded:?}", per_request());
        grown == [goal; 6] && recorded == [goal; 2]
    });
    assert!(agreed, "the clients had {answered} answers, the counters grew: {seen}");
}

#[test]
fn counters_histograms_statsd_and_gauges_are_exact_over_takeovers_and_kills() {
    let (upstream, statsd) = (Upstream::start(), Statsd::start());
    let config = Config { statsd: Some(statsd.address), ..Config::to(upstream.address) };
    let proxy = Setup::new(config).start();
    eventually(PATIENCE, "the first answer is booked", || {
        let now = stats(proxy.admin);
        value(&now, &format!("{HTTP}.downstream_rq_completed")) == 1
    });
    let (before, histograms) = (stats(proxy.admin), histogram_counts(proxy.admin));

    let watch = Watch::start(proxy.admin, Duration::from_millis(15));
    let load = Load::start(proxy.front, &HABITS);
    for round in 0..long_or(20, 6) {
        load.progress(150);
        if round % 3 == 2 {
            // Nothing on the wire, everything booked: then a death loses nothing.
            load.pause();
            agree(proxy.admin, &before, histograms, load.answered());
            // Nor has the epoch before a descriptor left of what it gave away: as long as it has, what the dead one held is not closed but silent, and
            // a request that is written there is reset later.
            let dead = Pid::from_raw(proxy.settled(PATIENCE).pid);
            watch.meanwhile(|| {
                // A kill in the middle of a flush loses what is being sent.
                statsd.after_a_flush();
                signal(dead, Signal::SIGKILL);
                eventually(PATIENCE, "it dies", || gone(dead));
            });
            eventually(PATIENCE, "its clients know", || all_closes_have_arrived(proxy.front));
            load.resume();
        } else {
            proxy.reload();
        }
    }
    load.progress(150);
    load.pause();
    agree(proxy.admin, &before, histograms, load.answered());
    let report = load.stop();
    let watched = watch.stop();
    println!("{} scrapes, worst {:.1?}\n{report}", watched.scrapes, watched.worst);
    assert_eq!(report.total().errors(), 0, "{report}");
    assert!(watched.failures.is_empty(), "scrapes failed: {:?}", watched.failures);
    assert!(watched.fell.is_empty(), "series fell: {:.1000}", format!("{:?}", watched.fell));
    assert!(watched.scrapes > 20);

    proxy.settled(PATIENCE);
    gauges_return_to_zero(proxy.admin);
    let last = stats(proxy.admin);
    let listener = format!("listener.{}.downstream_cx_total", proxy.front.to_string().replace(':', "_"));
    for name in [listener, format!("{HTTP}.downstream_cx_total")] {
        assert_eq!(value(&last, &name) - value(&before, &name), report.total().connections as i64, "{name}");
    }
    let told = || per_request().map(|name| statsd.counter(&format!("envoy.{name}")));
    let counted = per_request().map(|name| value(&last, &name));
    let _ = within(Duration::from_secs(3), || told() == counted);
    assert_eq!(told(), counted, "the deltas add up");
    let received = statsd.received();
    assert!(received.malformed.is_empty(), "{:?}", received.malformed);
    // Every sample of a histogram is sent once, whichever epoch recorded it.
    let sampled = ["http.front.downstream_rq_time", "cluster.origin.upstream_rq_time"];
    let samples = sampled.map(|name| received.timers.get(&format!("envoy.{name}")).copied().unwrap_or(0) as f64);
    assert_eq!(samples, histogram_counts(proxy.admin));
}

fn gauges_return_to_zero(admin: SocketAddr) {
    let busy = || -> Vec<(String, i64)> {
        let active = |name: &str| {
            (name.starts_with("http.front.") || name.starts_with("listener.127") || name.starts_with("cluster.origin."))
                && name.ends_with("_active")
        };
        // The upstream pool may keep idle connections: they are really there.
        let pooled = |name: &str| name.contains("upstream_cx");
        stats(admin).into_iter().filter(|(name, value)| active(name) && !pooled(name) && *value != 0).collect()
    };
    eventually(Duration::from_secs(5), "the active gauges return to zero", || busy().is_empty());
}

#[test]
fn a_death_with_requests_on_the_wire_keeps_the_counters_within_what_was_sent_and_answered() {
    let upstream = Upstream::start();
    let proxy = Setup::new(Config::to(upstream.address)).start();
    eventually(PATIENCE, "the first answer is booked", || {
        value(&stats(proxy.admin), &format!("{HTTP}.downstream_rq_completed")) == 1
    });
    let before = stats(proxy.admin);
    let watch = Watch::start(proxy.admin, Duration::from_millis(10));
    let load = Load::start(proxy.front, &HABITS);
    for _ in 0..3 {
        load.progress(100);
        let dead = proxy.signal_serving(Signal::SIGKILL);
        eventually(PATIENCE, "it dies", || gone(dead));
    }
    load.progress(100);
    let total = load.stop().total();
    let watched = watch.stop();
    gauges_return_to_zero(proxy.admin);
    let now = stats(proxy.admin);
    let grown = |name: &str| (value(&now, name) - value(&before, name)) as u64;
    let [begun, completed, ..] = per_request().map(|name| grown(&name));
    println!("3 deaths under load: {begun} begun, {completed} completed; {total}");
    // An answer may be on its way before it is booked, by one for each client and death at most.
    let clients: u64 = HABITS.iter().map(|(_, count)| count).sum();
    assert!(begun >= total.ok && begun <= total.ok + total.errors(), "{begun} begun; {total}");
    assert!(completed <= total.ok + total.errors() && completed + 3 * clients >= total.ok, "{completed}; {total}");
    assert!(watched.fell.is_empty(), "series fell: {:.1000}", format!("{:?}", watched.fell));
}

#[test]
fn without_shared_statistics_a_restart_forgets() {
    let upstream = Upstream::start();
    let mut alone = Alone::start(&Config::to(upstream.address));
    let load = Load::start(alone.front, &HABITS);
    let watch = Watch::start(alone.admin, Duration::from_millis(15));
    load.progress(200);
    load.pause();
    watch.progress(2);
    alone.restart(Signal::SIGKILL);
    load.resume();
    load.progress(50);
    watch.progress(2);
    let answered = load.stop().total().ok;
    let counted = value(&stats(alone.admin), &format!("{HTTP}.downstream_rq_completed"));
    assert!((counted as u64) < answered, "{counted} counted, {answered} answered");
    let watched = watch.stop();
    assert!(!watched.fell.is_empty(), "the watch sees it: {} scrapes", watched.scrapes);
}
