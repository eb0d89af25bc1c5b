//! The soak: takeover after takeover under mixed load, alternating between two binaries, and whether anything grows.
//!
//! ```text
//! cargo bench --bench soak -- --minutes 60 OLD NEW        # two heirloom binaries, for instance of two versions
//! cargo bench --bench soak -- --minutes 5                 # the one that cargo has built, with itself
//! ```
//! `HEIRLOOM_SUPERVISOR_BIN` names the supervisor's binary, else cargo builds it. One line a minute; at the end the slope of everything that was sampled, and the verdict.
//! Exit status 0: nothing failed, nothing broke, nothing grew. About a third of a core in release builds.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a command line program whose output is its purpose; the parts it shares with the tests panic to report"
)]

mod sample;
mod support;
mod verdict;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::sample::{Cpu, Round};
use crate::support::bootstrap::Config;
use crate::support::load::{Habit, Load};
use crate::support::streams::{Host, Kind, Streams};
use crate::support::supervised::{Setup, Supervised, listening, within};
use crate::support::upstream::Upstream;
use crate::verdict::Verdict;

/// Takeovers for as long as it is told, and whether anything grows.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --bench soak --")]
struct Args {
    /// How long.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Between two takeovers, in seconds.
    #[arg(long, default_value_t = 5.0)]
    every: f64,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    /// The binaries that take turns; none is the one that cargo has built.
    binaries: Vec<PathBuf>,
}

const REQUESTS: [(Habit, u64); 4] =
    [(Habit::Sparse, 60), (Habit::KeepAlive, 4), (Habit::PerRequest, 2), (Habit::SlowUpload, 3)];
const STREAMS: [(Kind, usize); 5] =
    [(Kind::Tunnel, 8), (Kind::WebSocket, 8), (Kind::Connect, 2), (Kind::Download, 4), (Kind::Upload, 2)];
/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(120);
/// How long anything may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// Failures that are told in words.
const TOLD: usize = 20;

fn main() -> ExitCode {
    let args = Args::parse();
    // `cargo test --benches` starts every bench without this flag: that is no time to measure.
    if !args.bench && args.binaries.is_empty() {
        println!("the soak runs with: cargo bench --bench soak -- --minutes 60 OLD NEW");
        return ExitCode::SUCCESS;
    }
    let binaries = match args.binaries.len() {
        0 => vec![support::bins::heirloom().to_owned()],
        // Epochs are started in another directory.
        _ => match args.binaries.iter().map(|path| path.canonicalize().map_err(|error| (path, error))).collect() {
            Ok(binaries) => binaries,
            Err((path, error)) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        },
    };
    let (upstream, host) = (Upstream::start(), Host::start());
    let (socket, tunnel) = listening();
    let config = Config { tunnel: Some((tunnel, host.raw)), streams: Some(host.http), ..Config::to(upstream.address) };
    let setup =
        Setup::new(config).socket(socket).scripted().flag("--drain-time-s", 3).flag("--parent-shutdown-time-s", 4);
    let setup = setup.flag("--probation-time-s", 0.2).flag("--prepare-time-s", 60).flag("--commit-time-s", 20);
    let proxy =
        setup.flag("--ready-time-s", 20).flag("--terminate-time-s", 5).flag("--unresponsive-time-s", 60).start();
    println!(
        "soak: {} min, a takeover every {} s, binaries {binaries:?}, in {}",
        args.minutes,
        args.every,
        proxy.dir().display()
    );
    let verdict = Soak { args, binaries, proxy, failures: Vec::new() }.run(&host, tunnel);
    println!("{verdict}");
    if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Soak {
    args: Args,
    binaries: Vec<PathBuf>,
    proxy: Supervised,
    failures: Vec<String>,
}

impl Soak {
    fn run(mut self, host: &Host, tunnel: SocketAddr) -> Verdict {
        let load = Load::paced(self.proxy.front, &REQUESTS, PACE);
        let streams = Streams::open(host, self.proxy.front, tunnel, &STREAMS);
        if !streams.progress(PATIENCE) {
            self.fail("the streams do not even begin".into());
        }
        let begun = Instant::now();
        let (length, every) =
            (Duration::from_secs_f64(self.args.minutes * 60.0), Duration::from_secs_f64(self.args.every));
        let mut cpu = Cpu::start(&self.proxy);
        let (mut rounds, mut minute): (Vec<Round>, u64) = (Vec::new(), 0);
        for takeover in 0_u32.. {
            let next = begun + every * takeover;
            if next - begun >= length || self.failures.len() > 10 * TOLD {
                break;
            }
            within(next.saturating_duration_since(Instant::now()), || false);
            let binary = self.binaries[takeover as usize % self.binaries.len()].clone();
            let took = self.takeover(&binary);
            cpu.look(&self.proxy);
            // The last old one has left before the next takeover begins: what is there then should always be the same.
            let settle = (next + every.mul_f64(0.9)).saturating_duration_since(Instant::now());
            within(settle, || sample::is_settled(&self.proxy));
            within((next + every.mul_f64(0.95)).saturating_duration_since(Instant::now()), || false);
            cpu.look(&self.proxy);
            match Round::take(&self.proxy, begun.elapsed(), took, &load, streams.living()) {
                Ok(round) => rounds.push(round),
                Err(error) => self.fail(format!("nothing can be sampled: {error}")),
            }
            if begun.elapsed().as_secs() / 60 > minute {
                minute = begun.elapsed().as_secs() / 60;
                let latest = rounds.len().saturating_sub((60.0 / self.args.every) as usize);
                println!(
                    "{}",
                    Round::line(minute, &rounds[latest..], load.answered(), load.failed(), cpu.share(begun.elapsed()))
                );
            }
        }
        if !streams.progress(PATIENCE) {
            self.fail("streams hang".into());
        }
        let fate = streams.close(PATIENCE);
        let report = load.stop();
        for (kind, port, how) in fate.broken.iter().take(TOLD) {
            self.fail(format!("a {kind:?} from port {port} broke: {how}"));
        }
        for wrong in fate.wrong.iter().take(TOLD) {
            self.fail(format!("wrong bytes: {wrong}"));
        }
        let total = report.total();
        if total.errors() > 0 {
            self.fail(format!("{} requests failed: {:?}", total.errors(), total.failures));
        }
        println!("{report}  streams: {fate}");
        Verdict::of(&rounds, self.failures)
    }

    fn takeover(&mut self, binary: &std::path::Path) -> Duration {
        let config = self.proxy.dir().join("config.yaml");
        self.proxy.set_script(&format!("exec {} -c {} --concurrency 2", binary.display(), config.display()));
        match self.proxy.operator_begin(&["reload"]).wait_within(PATIENCE * 4) {
            Some(operated) if operated.status.success() => operated.took,
            Some(operated) => {
                self.fail(format!("a takeover failed: {}", operated.said().trim()));
                operated.took
            }
            None => {
                self.fail("a takeover does not end".into());
                PATIENCE * 4
            }
        }
    }

    fn fail(&mut self, what: String) {
        if self.failures.len() < TOLD {
            println!("FAILED: {what}");
        }
        self.failures.push(what);
    }
}
