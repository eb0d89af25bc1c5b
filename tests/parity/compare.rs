//! What differs, and what of it is known.

use std::collections::BTreeSet;

use regex::Regex;

use super::side::Saw;

/// Values that no two runs share.
const VARIABLE: [&str; 4] = ["date", "x-request-id", "x-envoy-upstream-service-time", "x-client-trace-id"];

/// A line for each thing that is not the same.
pub(crate) fn differences(envoy: &Saw, ours: &Saw) -> Vec<String> {
    let mut all = lists("client", &envoy.client, &ours.client);
    all.extend(lists("upstream", &envoy.upstream, &ours.upstream));
    // A script that neither has followed is a fault of the theme.
    let idle = |saw: &Saw| saw.upstream.iter().flatten().any(|line| line.ends_with(": nothing came"));
    if idle(envoy) && idle(ours) {
        all.push("a host was never asked".to_owned());
    }
    let names: BTreeSet<&String> = envoy.counters.keys().chain(ours.counters.keys()).collect();
    for name in names {
        let of = |saw: &Saw| saw.counters.get(name).copied().unwrap_or(0);
        let (theirs, own) = (of(envoy), of(ours));
        // How many digits a service time has is a matter of chance.
        let tolerance = if name.ends_with("downstream_cx_tx_bytes_total") { 4 * envoy.client.len() as i64 } else { 0 };
        if (theirs - own).abs() > tolerance {
            all.push(format!("counter {name}: envoy {theirs}, heirloom {own}"));
        }
    }
    all
}

fn lists(who: &str, envoy: &[Vec<String>], ours: &[Vec<String>]) -> Vec<String> {
    let mut all = Vec::new();
    for number in 0..envoy.len().max(ours.len()) {
        let of = |list: &[Vec<String>]| -> Vec<String> {
            list.get(number).into_iter().flatten().map(|line| same(line)).collect()
        };
        let (theirs, own) = (of(envoy), of(ours));
        let only = |one: &[String], other: &[String], mark: &str| -> Vec<String> {
            let lines = one.iter().filter(|line| !other.contains(line));
            lines.map(|line| format!("{who} {} {mark} {}", number + 1, shortened(line))).collect()
        };
        let (missing, more) = (only(&theirs, &own, "envoy:"), only(&own, &theirs, "heirloom:"));
        if missing.is_empty() && more.is_empty() && theirs != own {
            all.push(format!("{who} {} in another order or number", number + 1));
        }
        all.extend(missing);
        all.extend(more);
    }
    all
}

fn shortened(line: &str) -> String {
    let line = line.escape_debug().to_string();
    line.chars().take(300).collect()
}

fn same(line: &str) -> String {
    match line.split_once(": ") {
        // What is left after the first try is a matter of milliseconds.
        Some((name @ "x-envoy-expected-rq-timeout-ms", value)) => {
            format!("{name}: {}s", value.parse::<u64>().map_or(0, |left| left.div_ceil(1000)))
        }
        // The port that the proxy was given for the test.
        Some((name @ "x-forwarded-port", value)) if value.parse().is_ok_and(|port: u16| port > 10_000) => {
            format!("{name}: *")
        }
        Some((name, value)) if VARIABLE.contains(&&*name.to_ascii_lowercase()) && !value.starts_with("given") => {
            format!("{name}: *")
        }
        _ => line.to_owned(),
    }
}

/// The known differences of one theme.
pub(crate) struct Differences(Vec<Entry>);

struct Entry {
    line: usize,
    theme: Regex,
    exchange: Regex,
    difference: Regex,
    used: bool,
    chance: bool,
}

/// What an entry may be called.
const KINDS: [&str; 5] = ["better", "own", "not yet", "open", "chance"];

impl Differences {
    /// All of them: `theme | exchange | difference | kind | reason`, the first three as expressions for the whole text.
    pub(crate) fn all() -> Self {
        let text = std::fs::read_to_string(super::folder().join("differences.txt")).unwrap();
        let mut all = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
            let [theme, exchange, difference, kind, reason] = parts[..] else {
                panic!("differences.txt:{}: five parts", number + 1)
            };
            assert!(KINDS.contains(&kind) && !reason.is_empty(), "differences.txt:{}: kind and reason", number + 1);
            let whole = |text: &str| Regex::new(&format!("^(?:{text})$")).unwrap();
            let (theme, exchange, difference) = (whole(theme), whole(exchange), whole(difference));
            all.push(Entry { line: number + 1, theme, exchange, difference, used: false, chance: kind == "chance" });
        }
        Self(all)
    }

    /// Those of a theme.
    pub(crate) fn read(theme: &str) -> Self {
        let mut all = Self::all();
        all.0.retain(|entry| entry.theme.is_match(theme));
        all
    }

    /// Whether a difference is known.
    pub(crate) fn knows(&mut self, exchange: &str, line: &str) -> bool {
        let fits = |entry: &&mut Entry| entry.exchange.is_match(exchange) && entry.difference.is_match(line);
        let found: Vec<&mut Entry> = self.0.iter_mut().filter(fits).collect();
        let known = !found.is_empty();
        found.into_iter().for_each(|entry| entry.used = true);
        known
    }

    /// Entries that nothing needed; those for all themes are not judged by one.
    pub(crate) fn unneeded(&self) -> Vec<String> {
        let unused = self.0.iter().filter(|entry| !entry.used && !entry.chance && entry.theme.as_str() != "^(?:.*)$");
        unused.map(|entry| format!("differences.txt:{}: nothing differs so any more", entry.line)).collect()
    }
}
