//! Statistics and log lines that find no room: they are missing, and nothing else.

use std::fmt::Write;
use std::time::Duration;

use crate::support::bootstrap::Config;
use crate::support::load::{Habit, Load};
use crate::support::scrape::Watch;
use crate::support::supervised::{PATIENCE, Setup, Supervised};
use crate::support::upstream::Upstream;

/// Each has about a hundred statistics; there is room for sixty-five thousand.
const CLUSTERS: usize = 700;
const OFTEN: Duration = Duration::from_millis(50);
const HABITS: [(Habit, u64); 3] = [(Habit::PerRequest, 2), (Habit::KeepAlive, 3), (Habit::TwoWritePost, 1)];

/// Takeovers under load; with somebody who watches the statistics so often.
fn takeovers_go_well(proxy: &Supervised, every: Duration) {
    let watch = Watch::start(proxy.admin, every);
    let load = Load::start(proxy.front, &HABITS);
    for _ in 0..2 {
        load.progress(50);
        proxy.reload();
    }
    load.progress(50);
    let report = load.stop();
    let watched = watch.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
    assert!(watched.fell.is_empty(), "series fell: {:.1000}", format!("{:?}", watched.fell));
    proxy.settled(PATIENCE);
}

#[test]
fn epochs_with_more_threads_than_the_segment_has_room_for_serve_and_are_taken_over() {
    let upstream = Upstream::start();
    // Two such epochs have more threads than there are lanes.
    let proxy = Setup::new(Config::to(upstream.address)).workers(40).start();
    takeovers_go_well(&proxy, OFTEN);
}

#[test]
fn epochs_with_more_statistics_than_the_segment_has_room_for_serve_and_are_taken_over() {
    let upstream = Upstream::start();
    let setup = Setup::new(Config::to(upstream.address)).flag("--prepare-time-s", 120).flag("--commit-time-s", 30);
    let mut proxy = setup.workers(1).flag("--ready-time-s", 30).start();
    proxy.configure(|config| {
        for number in 0..CLUSTERS {
            let _ = writeln!(config.clusters, "  - name: c{number:0>64}\n    type: STATIC\n    connect_timeout: 1s");
        }
    });
    // A page of sixty-five thousand lines is not asked for all the time.
    takeovers_go_well(&proxy, 100 * OFTEN);
    assert!(proxy.log().contains("has no room for another name"), "the table is full");
}

#[test]
fn a_log_that_cannot_be_written_is_missing_and_nothing_else() {
    let upstream = Upstream::start();
    let mut setup = Setup::new(Config::to(upstream.address));
    setup.log = Some("/dev/full".into());
    let mut proxy = setup.start();
    takeovers_go_well(&proxy, OFTEN);
    assert!(proxy.alive());
}
