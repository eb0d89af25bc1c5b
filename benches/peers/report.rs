//! Medians, ratios and the tables, in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use crate::Result;
use crate::args::Args;
use crate::peer::{KINDS, Kind, Peer};
use crate::work::{Figure, WORKS, Work};

/// In the README, around what `--write` replaces.
const BEGIN: &str = "<!-- peers: begin -->";
/// The end of it.
const END: &str = "<!-- peers: end -->";

/// When, where and how the figures were taken.
pub(crate) struct Machine {
    text: String,
    load_before: String,
}

/// The rounds of one figure of one peer.
#[derive(Default)]
struct Samples {
    by_round: BTreeMap<u32, f64>,
}

/// Everything measured so far.
pub(crate) struct Table {
    machine: Machine,
    many: u32,
    cells: Vec<(&'static str, Figure, Kind, Samples)>,
    failures: Vec<String>,
}

impl Machine {
    /// Looks at the machine as it is before the first round.
    pub(crate) fn look(args: &Args, peers: &[Peer]) -> Result<Self> {
        let date = httpdate::fmt_http_date(SystemTime::now());
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let model = model.trim_start_matches([' ', '\t', ':']);
        let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let memory = fs::read_to_string("/proc/meminfo")?;
        let memory: f64 =
            memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0.0);
        let versions: Vec<String> = peers
            .iter()
            .filter(|peer| peer.kind != Kind::Floor)
            .map(|peer| format!("{} {}", peer.kind.name(), peer.version))
            .collect();
        let text = format!(
            "{date}. {cores} cores ({model}), {:.0} GB, Linux {}. {}. One worker each, {} of {} s{}{}.",
            memory * 1_024.0 / 1e9,
            kernel.trim(),
            versions.join(", "),
            if args.rounds() == 1 { "1 round".to_owned() } else { format!("{} rounds", args.rounds()) },
            args.window().as_secs(),
            if args.pin { ", peer on core 1, load and origin on core 0" } else { ", nothing pinned" },
            if args.quick { ", a quick look" } else { "" },
        );
        Ok(Self { text, load_before: load_average() })
    }
}

impl Samples {
    fn median(&self) -> Option<f64> {
        median(self.by_round.values().copied().collect())
    }

    /// Half the distance between the extremes, in percent of the median.
    fn spread(&self) -> Option<f64> {
        let least = self.by_round.values().copied().reduce(f64::min)?;
        let most = self.by_round.values().copied().reduce(f64::max)?;
        let median = self.median()?;
        (self.by_round.len() > 1 && median > 0.0).then_some((most - least) / 2.0 / median * 100.0)
    }

    /// The median of the ratios of the same rounds: what disturbs a whole round disturbs both sides of it.
    fn ratio_to(&self, mark: &Self) -> Option<f64> {
        let ratios = self.by_round.iter().filter_map(|(round, value)| {
            let mark = mark.by_round.get(round).copied().filter(|mark| *mark > 0.0)?;
            Some(value / mark)
        });
        median(ratios.collect())
    }
}

impl Table {
    /// Nothing measured yet, but some peers are not there.
    pub(crate) fn new(machine: Machine, many: u32, skipped: Vec<String>) -> Self {
        Self { machine, many, cells: Vec::new(), failures: skipped }
    }

    /// Keeps the figures of one round.
    pub(crate) fn note(&mut self, work: &Work, round: u32, kind: Kind, figures: &[(Figure, f64)]) {
        for (figure, value) in figures {
            let found =
                self.cells.iter_mut().find(|(name, what, who, _)| (*name, *what, *who) == (work.name, *figure, kind));
            if let Some((.., samples)) = found {
                samples.by_round.insert(round, *value);
            } else {
                let samples = Samples { by_round: BTreeMap::from([(round, *value)]) };
                self.cells.push((work.name, *figure, kind, samples));
            }
        }
    }

    /// Keeps and says why there is no figure.
    pub(crate) fn fail(&mut self, work: &Work, kind: Kind, why: &str) {
        // One line: it goes into a list.
        let why: String = why.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = format!("{} {}: {why}", work.name, kind.name());
        println!("failed: {line}");
        self.failures.push(line);
    }

    /// The tables, and what stands around them.
    pub(crate) fn render(&self) -> String {
        let mut text = format!(
            "{}\nLoad average {} before, {} after.\n",
            self.machine.text,
            self.machine.load_before,
            load_average()
        );
        text.push_str(
            "Each cell: median (its ratio to the best of nginx, HAProxy and Envoy in the same rounds) ± half the spread of the rounds.\n",
        );
        for (title, figures) in [
            ("CPU of the proxy, µs per request", &[Figure::Cpu][..]),
            ("Latency, ms", &[Figure::P50, Figure::P99][..]),
            ("Memory (PSS)", &[Figure::Memory, Figure::MemoryEach][..]),
        ] {
            self.one_table(title, figures, &mut text);
        }
        if !self.failures.is_empty() {
            text.push_str("\nNot measured:\n\n");
            for line in &self.failures {
                let _infallible = writeln!(text, "- {line}");
            }
        }
        text
    }

    fn one_table(&self, title: &str, figures: &[Figure], text: &mut String) {
        let columns: Vec<(&Work, Figure)> = WORKS
            .iter()
            .flat_map(|work| work.figures().iter().map(move |figure| (work, *figure)))
            .filter(|(work, figure)| {
                figures.contains(figure)
                    && self.cells.iter().any(|(name, what, ..)| (*name, *what) == (work.name, *figure))
            })
            .collect();
        if columns.is_empty() {
            return;
        }
        let heads: Vec<String> = columns.iter().map(|(work, figure)| self.head(work, *figure)).collect();
        let _infallible =
            write!(text, "\n| {title} | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(columns.len()));
        for kind in KINDS {
            if !self.cells.iter().any(|(.., who, _)| *who == kind) {
                continue;
            }
            let cells: Vec<String> = columns.iter().map(|(work, figure)| self.cell(work, *figure, kind)).collect();
            let _infallible = writeln!(text, "| {} | {} |", kind.name(), cells.join(" | "));
        }
    }

    fn head(&self, work: &Work, figure: Figure) -> String {
        match figure {
            Figure::Cpu => work.name.to_owned(),
            Figure::P50 => format!("{} p50", work.name),
            Figure::P99 => format!("{} p99", work.name),
            Figure::Memory if work.mode.is_none() => "at rest, MB".to_owned(),
            Figure::Memory => format!("{} busy, MB", work.connections(self.many)),
            Figure::MemoryEach => format!("{} idle, kB each", work.connections(self.many)),
        }
    }

    fn samples(&self, work: &Work, figure: Figure, kind: Kind) -> Option<&Samples> {
        self.cells
            .iter()
            .find(|(name, what, who, _)| (*name, *what, *who) == (work.name, figure, kind))
            .map(|(.., samples)| samples)
    }

    /// The peer of others with the lowest median.
    fn mark(&self, work: &Work, figure: Figure) -> Option<&Samples> {
        let marks = KINDS.into_iter().filter(|kind| kind.sets_the_mark());
        let samples = marks.filter_map(|kind| self.samples(work, figure, kind));
        samples.min_by(|left, right| left.median().unwrap_or(f64::MAX).total_cmp(&right.median().unwrap_or(f64::MAX)))
    }

    fn cell(&self, work: &Work, figure: Figure, kind: Kind) -> String {
        let Some(samples) = self.samples(work, figure, kind) else { return "–".to_owned() };
        let Some(median) = samples.median() else { return "–".to_owned() };
        let digits = match figure {
            Figure::P50 | Figure::P99 if median < 1.0 => 3,
            Figure::MemoryEach | Figure::P50 | Figure::P99 => 2,
            Figure::Cpu | Figure::Memory => 1,
        };
        let mut cell = format!("{median:.digits$}");
        if let Some(ratio) = self.mark(work, figure).and_then(|mark| samples.ratio_to(mark)) {
            let _infallible = write!(cell, " ({ratio:.2}×)");
        }
        if let Some(spread) = samples.spread() {
            let _infallible = write!(cell, " ±{spread:.0} %");
        }
        cell
    }
}

/// Puts the tables between the marks of the README.
pub(crate) fn write(readme: &Path, tables: &str) -> Result<()> {
    let text = fs::read_to_string(readme).map_err(|error| format!("{}: {error}", readme.display()))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("{} has no {BEGIN} … {END}", readme.display()))?;
    fs::write(readme, format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))?;
    Ok(())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied()?;
    if values.len() % 2 == 1 {
        Some(upper)
    } else {
        Some(f64::midpoint(upper, values.get(middle.checked_sub(1)?).copied()?))
    }
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
