//! The load by which this stage is accepted.

use std::time::{Duration, Instant};

use crate::support::bootstrap::Config;
use crate::support::clients::Failure;
use crate::support::load::{Habit, Load};
use crate::support::supervised::{PATIENCE, Setup, eventually};
use crate::support::upstream::Upstream;
use crate::{alone_on_the_machine, long_or};

#[test]
fn busy_and_sparse_connections_and_slow_uploads_come_through_three_takeovers() {
    let _quiet = alone_on_the_machine();
    let upstream = Upstream::start();
    let drain = long_or(4, 2);
    let setup = Setup::new(Config::to(upstream.address)).flag("--drain-time-s", drain);
    let proxy = setup.flag("--parent-shutdown-time-s", drain).start();
    let load = Load::start(
        proxy.front,
        &[(Habit::KeepAlive, 16), (Habit::Sparse, 200), (Habit::PerRequest, 4), (Habit::SlowUpload, 8)],
    );
    let begun = Instant::now();
    let apart = Duration::from_secs(long_or(8, 3));
    for takeover in 0..3_u32 {
        eventually(PATIENCE, "time for the next takeover", || begun.elapsed() >= apart * takeover + apart / 2);
        proxy.reload();
    }
    eventually(PATIENCE, "the last drain is over", || begun.elapsed() >= apart * 4);
    let report = load.stop();
    let total = report.total();
    println!("three takeovers {apart:?} apart:\n{report}");
    assert_eq!((total.errors(), total.count(&Failure::Refused)), (0, 0), "{report}");
    assert!(report.of(Habit::SlowUpload).ok >= 8 && report.of(Habit::Sparse).ok >= 200, "{report}");
}
