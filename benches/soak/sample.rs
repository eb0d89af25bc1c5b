//! What is looked at in each round.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::time::Duration;

use nix::unistd::Pid;

use crate::support::load::Load;
use crate::support::operated::{SERVING, Status};
use crate::support::process::descriptors;
use crate::support::supervised::Supervised;

/// One round's numbers, by name; all of them should stay as they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    /// Since the beginning.
    pub(crate) at: Duration,
    pub(crate) numbers: BTreeMap<&'static str, f64>,
}

/// The lineage, without panicking.
fn status(proxy: &Supervised) -> Option<Status> {
    let operated = proxy.operator_begin(&["status", "--json"]).wait_within(Duration::from_secs(20))?;
    serde_json::from_str(&operated.stdout).ok()
}

/// Whether only one epoch is there, and serves.
pub(crate) fn is_settled(proxy: &Supervised) -> bool {
    std::thread::park_timeout(Duration::from_millis(200));
    status(proxy).is_some_and(|status| status.epochs.len() == 1)
}

impl Round {
    /// Looks at everything.
    pub(crate) fn take(
        proxy: &Supervised,
        at: Duration,
        took: Duration,
        load: &Load,
        streams: usize,
    ) -> Result<Self, String> {
        let status = status(proxy).ok_or("no status")?;
        let serving = status.in_state(SERVING).first().map(|row| Pid::from_raw(row.pid)).ok_or("nothing serves")?;
        let mut numbers = BTreeMap::new();
        for (who, pid) in
            [(["supervisor descriptors", "supervisor kB"], proxy.pid()), (["epoch descriptors", "epoch kB"], serving)]
        {
            numbers.insert(who[0], descriptors(pid).len() as f64);
            numbers.insert(who[1], pss(pid).ok_or("no account of memory")?);
        }
        numbers.insert("processes", status.epochs.len() as f64);
        numbers.insert("streams", streams as f64);
        numbers.insert("takeover ms", took.as_secs_f64() * 1e3);
        let [median, p99, worst] = load.quantiles([0.5, 0.99, 1.0]);
        numbers.insert("p50 us", median);
        numbers.insert("p99 us", p99);
        numbers.insert("worst us", worst);
        let stats =
            std::panic::catch_unwind(|| crate::support::scrape::stats(proxy.admin)).map_err(|_| "no statistics")?;
        let gauge = |name: &str| stats.get(name).copied().unwrap_or(0) as f64;
        numbers.insert("cx active", gauge("http.front.downstream_cx_active"));
        numbers.insert("statistics", stats.len() as f64);
        Ok(Self { at, numbers })
    }

    /// A minute's line.
    pub(crate) fn line(minute: u64, rounds: &[Self], answered: u64, failed: u64, cpu: f64) -> String {
        let mean = |name: &str| {
            let values = rounds.iter().filter_map(|round| round.numbers.get(name));
            values.clone().sum::<f64>() / values.count().max(1) as f64
        };
        let mut line = format!("minute {minute}: answered {answered} failed {failed} cpu {:.0}%", cpu * 100.0);
        for (name, digits) in [
            ("takeover ms", 0),
            ("p50 us", 0),
            ("p99 us", 0),
            ("supervisor descriptors", 1),
            ("supervisor kB", 0),
            ("epoch descriptors", 1),
            ("epoch kB", 0),
            ("processes", 1),
            ("streams", 1),
            ("cx active", 1),
        ] {
            let _ = write!(line, " | {name} {:.digits$}", mean(name));
        }
        line
    }
}

/// The proportional share of memory, in kilobytes.
fn pss(pid: Pid) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Processor time of all processes, those that have left included as they were last seen.
pub(crate) struct Cpu {
    seen: BTreeMap<i32, f64>,
}

impl Cpu {
    pub(crate) fn start(proxy: &Supervised) -> Self {
        let mut cpu = Self { seen: BTreeMap::new() };
        cpu.look(proxy);
        cpu
    }

    pub(crate) fn look(&mut self, proxy: &Supervised) {
        for pid in proxy.processes().into_iter().chain([Pid::this()]) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let columns: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
            let ticks = |at: usize| columns.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
            // A hundred ticks a second, as the kernel has it on every machine.
            self.seen.insert(pid.as_raw(), (ticks(11) + ticks(12)) / 100.0);
        }
    }

    /// Of one core, the load's own part included.
    pub(crate) fn share(&self, elapsed: Duration) -> f64 {
        self.seen.values().sum::<f64>() / elapsed.as_secs_f64().max(0.001)
    }
}
