//! Whether anything grows.

use std::fmt;

use crate::sample::Round;

/// What may not grow over the whole run: by name, and by how much it may at least, which is what chance alone does.
const FLAT: [(&str, f64); 7] = [
    ("supervisor descriptors", 1.0),
    ("supervisor kB", 400.0),
    ("epoch descriptors", 4.0),
    ("epoch kB", 1500.0),
    ("processes", 0.5),
    ("statistics", 8.0),
    ("cx active", 4.0),
];
/// And what may grow by this part of itself.
const PART: f64 = 0.05;
/// The beginning, in which caches fill, is no part of the line: this part of the rounds.
const WARM: f64 = 0.1;

/// One number's line through the run.
struct Line {
    name: &'static str,
    mean: f64,
    /// From the beginning to the end.
    growth: f64,
    allowed: f64,
}

/// The end of it.
pub(crate) struct Verdict {
    rounds: usize,
    lines: Vec<Line>,
    failures: Vec<String>,
}

impl Verdict {
    pub(crate) fn of(rounds: &[Round], failures: Vec<String>) -> Self {
        let warm = rounds.len() - (rounds.len() as f64 * WARM) as usize;
        let rounds = &rounds[rounds.len() - warm..];
        let line = |(name, least): &(&'static str, f64)| {
            let points: Vec<(f64, f64)> =
                (rounds.iter()).filter_map(|round| Some((round.at.as_secs_f64(), *round.numbers.get(name)?))).collect();
            let (mean, slope) = fit(&points)?;
            let length = points.last()?.0 - points.first()?.0;
            Some(Line { name, mean, growth: slope * length, allowed: least.max(mean * PART) })
        };
        Self { rounds: rounds.len(), lines: FLAT.iter().filter_map(line).collect(), failures }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.failures.is_empty() && self.rounds > 2 && self.lines.iter().all(Line::is_flat)
    }
}

impl Line {
    fn is_flat(&self) -> bool {
        self.growth <= self.allowed
    }
}

/// Mean and slope of the line with the least squares.
fn fit(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    if points.len() < 3 {
        return None;
    }
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let over: f64 = points.iter().map(|(at, value)| (at - x) * (value - y)).sum();
    let under: f64 = points.iter().map(|(at, _)| (at - x).powi(2)).sum();
    Some((y, if under > 0.0 { over / under } else { 0.0 }))
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} takeovers after the warm-up", self.rounds)?;
        for line in &self.lines {
            let Line { name, mean, growth, allowed } = line;
            let word = if line.is_flat() { "flat" } else { "GROWS" };
            writeln!(
                f,
                "  {name:<24}mean {mean:>10.1}, from beginning to end {growth:>+10.2} (allowed {allowed:.1}): {word}"
            )?;
        }
        let failures = self.failures.len();
        write!(f, "verdict: {}, {failures} failures", if self.is_good() { "good, nothing grows" } else { "NOT GOOD" })
    }
}
