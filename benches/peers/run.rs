//! The rounds: every work over every peer in turn, again and again, so that a noisy minute falls on all alike.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::Result;
use crate::args::{Args, Mode};
use crate::load::{Outcome, READY};
use crate::peer::{Ground, Identity, KINDS, Kind, Live, Peer};
use crate::process::{Output, Running, part, start};
use crate::report::{Machine, Table};
use crate::sys::raise_descriptor_limit;
use crate::work::{Figure, WORKS, Work};

/// Rounds of a memory work.
const MEMORY_ROUNDS: u32 = 3;
/// Before a timed window: pools fill, caches warm.
const WARM: Duration = Duration::from_millis(700);
/// A part must have said its word by then.
const WORD_LIMIT: Duration = Duration::from_secs(90);
/// With so many failures in one run a peer is not asked again.
const FAILURES: u32 = 3;

/// The timed works and the small memory work need as many.
const FEWEST: u32 = 500;

/// The whole run.
pub(crate) fn controller(args: &Args) -> Result<()> {
    let (peers, skipped) = choose_peers(&args.only)?;
    let works = choose_works(&args.work)?;
    if args.list {
        for work in &works {
            println!("work {}: {}", work.name, work.what);
        }
        return Ok(());
    }
    let descriptors = raise_descriptor_limit()?;
    // A proxy needs two for each connection, and some for itself.
    let fitting = u32::try_from(descriptors.saturating_sub(1_000) / 2).unwrap_or(u32::MAX);
    let many = args.connections.max(FEWEST).min(fitting);
    if many != args.connections {
        println!("{descriptors} descriptors: {many} connections instead of {}", args.connections);
    }
    let directory = tempfile::Builder::new().prefix("peers-").tempdir()?;
    let load_core = args.pin.then_some(0);
    let origin = start(&part(&["origin"])?, load_core, &Output::Lines)?;
    let origin_http2 = start(&part(&["origin", "--http2"])?, load_core, &Output::Lines)?;
    let address = |origin: &Running| -> Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, origin.line(WORD_LIMIT)?.parse()?)))
    };
    let outcome = address(&origin).and_then(|origin| {
        let origin_http2 = address(&origin_http2)?;
        let core = args.pin.then_some(1);
        let identity = Identity::new(directory.path())?;
        let ground = Ground { directory: directory.path().to_owned(), origin, origin_http2, identity, many, core };
        let machine = Machine::look(args, &peers)?;
        let mut session = Session { args, ground, load_core, table: Table::new(machine, many, skipped) };
        session.rounds(&peers, &works);
        Ok(session.table)
    });
    origin.stop();
    origin_http2.stop();
    let text = outcome?.render();
    println!("\n{text}");
    if args.write {
        crate::report::write(&args.readme, &text)?;
        println!("written to {}", args.readme.display());
    }
    Ok(())
}

struct Session<'a> {
    args: &'a Args,
    ground: Ground,
    load_core: Option<u32>,
    table: Table,
}

impl Session<'_> {
    fn rounds(&mut self, peers: &[Peer], works: &[Work]) {
        let mut failures = vec![0; peers.len()];
        for work in works {
            let rounds = if work.is_memory() { self.args.rounds().min(MEMORY_ROUNDS) } else { self.args.rounds() };
            for round in 0..rounds {
                for turn in 0..peers.len() {
                    // Who comes first changes with the round.
                    let which = (turn + round as usize) % peers.len();
                    let (Some(peer), Some(failed)) = (peers.get(which), failures.get_mut(which)) else { continue };
                    if *failed >= FAILURES || !peer.kind.speaks(work.shape) {
                        continue;
                    }
                    match self.measure(peer, work) {
                        Ok(figures) => self.table.note(work, round, peer.kind, &figures),
                        Err(error) => {
                            *failed += 1;
                            self.table.fail(work, peer.kind, &error.to_string());
                        }
                    }
                }
            }
        }
    }

    /// One work on one peer, in a process of its own.
    fn measure(&self, peer: &Peer, work: &Work) -> Result<Vec<(Figure, f64)>> {
        let mut live = peer.start(&self.ground, work.shape)?;
        let measured = match work.mode {
            None => live.running.settled_memory().map(|bytes| vec![(Figure::Memory, bytes / 1e6)]),
            Some(mode @ (Mode::Keep | Mode::Fresh)) => self.closed_loop(&live, work, mode),
            Some(mode @ (Mode::Idle | Mode::Busy)) => self.stand(&mut live, work, mode),
        };
        live.running.stop();
        let mut figures = measured.map_err(|error| format!("{error}{}", peer.last_words(&self.ground)))?;
        figures.retain(|(figure, _)| work.figures().contains(figure));
        let shown: Vec<String> =
            figures.iter().map(|(figure, value)| format!("{figure:?} {value:.3}").to_lowercase()).collect();
        println!("{:>8}  {:<20} {}", work.name, peer.kind.name(), shown.join("  "));
        Ok(figures)
    }

    fn closed_loop(&self, live: &Live, work: &Work, mode: Mode) -> Result<Vec<(Figure, f64)>> {
        let load = self.load(live, work, mode)?;
        let outcome = load.line(WORD_LIMIT).and_then(|line| finish(&line));
        load.stop();
        let outcome = outcome?;
        if outcome.requests == 0 {
            return Err("no request was answered".into());
        }
        let each = outcome.cpu_nanoseconds as f64 / outcome.requests as f64;
        Ok(vec![
            (Figure::Cpu, each / 1e3),
            (Figure::P50, outcome.p50_nanoseconds as f64 / 1e6),
            (Figure::P99, outcome.p99_nanoseconds as f64 / 1e6),
        ])
    }

    fn stand(&self, live: &mut Live, work: &Work, mode: Mode) -> Result<Vec<(Figure, f64)>> {
        let at_rest = live.running.settled_memory()?;
        let mut load = self.load(live, work, mode)?;
        let figures = self.standing(live, &mut load, work, mode, at_rest);
        load.stop();
        figures
    }

    fn standing(
        &self,
        live: &Live,
        load: &mut Running,
        work: &Work,
        mode: Mode,
        at_rest: f64,
    ) -> Result<Vec<(Figure, f64)>> {
        let word = load.line(WORD_LIMIT)?;
        if word != READY {
            return Err(format!("the load said {word}").into());
        }
        let bytes = live.running.settled_memory()?;
        load.go_on();
        finish(&load.line(WORD_LIMIT)?)?;
        let each = (bytes - at_rest) / f64::from(work.connections(self.ground.many));
        Ok(match mode {
            Mode::Idle => vec![(Figure::MemoryEach, each / 1e3)],
            _ => vec![(Figure::Memory, bytes / 1e6)],
        })
    }

    fn load(&self, live: &Live, work: &Work, mode: Mode) -> Result<Running> {
        let mode = match mode {
            Mode::Keep => "keep",
            Mode::Fresh => "fresh",
            Mode::Idle => "idle",
            Mode::Busy => "busy",
        };
        let pids: Vec<String> = live.running.pids().iter().map(ToString::to_string).collect();
        let arguments = [
            "load",
            "--mode",
            mode,
            "--target",
            &live.address.to_string(),
            "--origin",
            &self.ground.origin.to_string(),
            "--connections",
            &work.connections(self.ground.many).to_string(),
            "--streams",
            &work.streams.to_string(),
            "--front",
            &work.shape.front.name(),
            "--certificate",
            &self.ground.identity.certificate.to_string_lossy(),
            "--warm",
            &WARM.as_millis().to_string(),
            "--window",
            &self.args.window().as_millis().to_string(),
            "--pids",
            &pids.join(","),
        ];
        start(&part(&arguments)?, self.load_core, &Output::Lines)
    }
}

/// A measurement with a single error is none: a proxy that drops work is cheap.
fn finish(line: &str) -> Result<Outcome> {
    let outcome: Outcome = serde_json::from_str(line).map_err(|error| format!("the load said {line:?}: {error}"))?;
    if outcome.errors > 0 {
        let first = outcome.first_error.unwrap_or_default();
        return Err(format!("{} errors beside {} requests: {first}", outcome.errors, outcome.requests).into());
    }
    Ok(outcome)
}

/// The peers that are present, of those named (all but the supervised heirloom when none is), and why others are not.
fn choose_peers(only: &[String]) -> Result<(Vec<Peer>, Vec<String>)> {
    if let Some(unknown) = only.iter().find(|name| !KINDS.iter().any(|kind| kind.name() == name.as_str())) {
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.name()).collect();
        return Err(format!("no peer is called {unknown}; there are {}", known.join(", ")).into());
    }
    let (mut peers, mut skipped) = (Vec::new(), Vec::new());
    for kind in KINDS {
        let wanted = if only.is_empty() {
            kind != Kind::HeirloomSupervised
        } else {
            only.iter().any(|name| name == kind.name())
        };
        if !wanted {
            continue;
        }
        match kind.find() {
            Ok(peer) => {
                println!("peer {}: {}", kind.name(), peer.version);
                peers.push(peer);
            }
            Err(why) => {
                println!("peer {}: skipped, {why}", kind.name());
                skipped.push(format!("{}: {why}", kind.name()));
            }
        }
    }
    if peers.is_empty() { Err("no peer is present".into()) } else { Ok((peers, skipped)) }
}

fn choose_works(only: &[String]) -> Result<Vec<Work>> {
    if let Some(unknown) = only.iter().find(|name| !WORKS.iter().any(|work| work.name == name.as_str())) {
        let known: Vec<&str> = WORKS.iter().map(|work| work.name).collect();
        return Err(format!("no work is called {unknown}; there are {}", known.join(", ")).into());
    }
    Ok(WORKS.into_iter().filter(|work| only.is_empty() || only.iter().any(|name| name == work.name)).collect())
}
