//! `/stats` and `/stats/prometheus`.
//!
//! Counters and gauges stand together, sorted by name; histograms follow. A histogram shows what the last complete
//! flush interval saw and all since the first epoch; the latter includes what was recorded since the flush, where Envoy
//! waits for the next one.

use std::fmt::Write;

use super::Admin;
use super::query::Query;
use super::reply::Reply;
use crate::stats::histogram::{BOUNDS, QUANTILES, cumulative, quantiles};
use crate::stats::{Bin, Kind, Stat, Value, prometheus as exposition};

pub(super) const PARAMETERS: &[(&str, &str)] = &[
    ("usedonly", "Only include stats that have been written by system since restart"),
    ("filter", "Regular expression for filtering stats"),
    ("invert_filter", "Invert the filter regex"),
    ("format", "Format to use; One of (text, json, prometheus)"),
    ("type", "Stat types to include.; One of (All, Counters, Histograms, Gauges, TextReadouts)"),
    ("histogram_buckets", "Histogram bucket display mode; One of (cumulative, disjoint, summary)"),
];

pub(super) const PROMETHEUS_PARAMETERS: &[(&str, &str)] = &[
    ("usedonly", "Only include stats that have been written by system since restart"),
    ("filter", "Regular expression for filtering stats"),
    ("invert_filter", "Invert the filter regex"),
];

/// How a histogram is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Buckets {
    Summary,
    Cumulative,
    Disjoint,
}

impl Buckets {
    fn parse(query: &Query) -> Result<Self, Reply> {
        match query.get("histogram_buckets") {
            None | Some("summary") => Ok(Self::Summary),
            Some("cumulative") => Ok(Self::Cumulative),
            Some("disjoint") => Ok(Self::Disjoint),
            Some(_) => Err(Reply::bad_request("usage: /stats?histogram_buckets=(cumulative|disjoint|summary)\n")),
        }
    }

    fn counts(self, bins: &[Bin]) -> [u64; BOUNDS.len()] {
        let mut counts = cumulative(bins);
        if self == Self::Disjoint {
            for index in (1..counts.len()).rev() {
                counts[index] -= counts[index - 1];
            }
        }
        counts
    }
}

pub(super) fn answer(admin: &Admin, query: &Query) -> Reply {
    let result = match query.get("format") {
        None | Some("text") => select(admin, query).and_then(|stats| text(admin, query, &stats)),
        Some("json") => select(admin, query).and_then(|stats| json(admin, query, &stats)),
        Some("prometheus") => return prometheus(admin, query),
        Some(_) => Err(Reply::bad_request("usage: /stats?format=(json|prometheus|text)\n\n")),
    };
    result.unwrap_or_else(|error| error)
}

pub(super) fn prometheus(admin: &Admin, query: &Query) -> Reply {
    if query.has("histogram_buckets") {
        return Reply::bad_request("histogram_buckets is not supported here: buckets are cumulative\n");
    }
    let stats = match select(admin, query) {
        Ok(stats) => stats,
        Err(error) => return error,
    };
    match exposition::render(&stats, &admin.tags) {
        Ok(text) => Reply::text(text),
        Err(error) => Reply::error(http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The statistics a query asks for.
fn select(admin: &Admin, query: &Query) -> Result<Vec<Stat>, Reply> {
    let of_type: fn(Kind) -> bool = match query.get("type") {
        None | Some("All") => |_| true,
        Some("Counters") => |kind| kind == Kind::Counter,
        Some("Gauges") => |kind| matches!(kind, Kind::Gauge | Kind::GaugeLatest),
        Some("Histograms") => |kind| kind == Kind::Histogram,
        Some("TextReadouts") => |_| false,
        Some(_) => return Err(Reply::bad_request("invalid &type= param")),
    };
    let nothing_hidden = match query.get("hidden") {
        None | Some("exclude" | "include") => true,
        Some("only") => false,
        Some(_) => return Err(Reply::bad_request("usage: /stats?hidden=(include|only|exclude)\n\n")),
    };
    let named = query.filter()?;
    let mut stats = admin.reporter.borrow().snapshot(|name, kind| nothing_hidden && of_type(kind) && named(name));
    if query.has("usedonly") {
        stats.retain(|stat| stat.used);
    }
    Ok(stats)
}

fn histograms(stats: &[Stat]) -> impl Iterator<Item = (&str, &[Bin])> {
    stats.iter().filter_map(|stat| match &stat.value {
        Value::Histogram { bins, .. } => Some((stat.name.as_str(), bins.as_slice())),
        Value::Number(_) => None,
    })
}

fn numbers(stats: &[Stat]) -> impl Iterator<Item = (&str, u64)> {
    stats.iter().filter_map(|stat| match stat.value {
        Value::Number(value) => Some((stat.name.as_str(), value)),
        Value::Histogram { .. } => None,
    })
}

fn text(admin: &Admin, query: &Query, stats: &[Stat]) -> Result<Reply, Reply> {
    let buckets = Buckets::parse(query)?;
    let reporter = admin.reporter.borrow();
    let mut out = String::new();
    for (name, value) in numbers(stats) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "{name}: {value}");
    }
    for (name, bins) in histograms(stats) {
        let interval = reporter.interval(name);
        let _ = write!(out, "{name}:");
        if bins.is_empty() {
            out += " No recorded values";
        } else if buckets == Buckets::Summary {
            let now = quantiles(bins).unwrap_or([f64::NAN; QUANTILES.len()]);
            let last = quantiles(interval).unwrap_or([f64::NAN; QUANTILES.len()]);
            for (quantile, (last, now)) in QUANTILES.iter().zip(last.into_iter().zip(now)) {
                let _ = write!(out, " P{}({},{})", percent(*quantile), number(last), number(now));
            }
        } else {
            let counts = buckets.counts(interval).into_iter().zip(buckets.counts(bins));
            for (bound, (last, now)) in BOUNDS.iter().zip(counts) {
                let _ = write!(out, " B{}({last},{now})", general(*bound));
            }
        }
        out.push('\n');
    }
    Ok(Reply::text(out))
}

fn json(admin: &Admin, query: &Query, stats: &[Stat]) -> Result<Reply, Reply> {
    let buckets = Buckets::parse(query)?;
    let reporter = admin.reporter.borrow();
    let mut entries: Vec<String> = numbers(stats)
        .map(|(name, value)| format!(r#"{{"name":{},"value":{value}}}"#, serde_json::Value::from(name)))
        .collect();
    let shown: Vec<String> =
        histograms(stats).map(|(name, bins)| histogram_json(buckets, name, reporter.interval(name), bins)).collect();
    if !shown.is_empty() {
        let shown = shown.join(",");
        entries.push(if buckets == Buckets::Summary {
            let quantiles = QUANTILES.map(percent).join(",");
            format!(r#"{{"histograms":{{"supported_quantiles":[{quantiles}],"computed_quantiles":[{shown}]}}}}"#)
        } else {
            format!(r#"{{"histograms":[{shown}]}}"#)
        });
    }
    Ok(Reply::json_text(format!(r#"{{"stats":[{}]}}"#, entries.join(","))))
}

fn histogram_json(buckets: Buckets, name: &str, interval: &[Bin], bins: &[Bin]) -> String {
    let name = serde_json::Value::from(name);
    if buckets == Buckets::Summary {
        let pair = |index: usize| {
            let value = |bins: &[Bin]| quantiles(bins).map_or("null".to_owned(), |values| number(values[index]));
            format!(r#"{{"cumulative":{},"interval":{}}}"#, value(bins), value(interval))
        };
        let values: Vec<String> = (0..QUANTILES.len()).map(pair).collect();
        return format!(r#"{{"name":{name},"values":[{}]}}"#, values.join(","));
    }
    let counts = buckets.counts(interval).into_iter().zip(buckets.counts(bins));
    let shown: Vec<String> = BOUNDS
        .iter()
        .zip(counts)
        .map(|(bound, (last, now))| format!(r#"{{"upper_bound":{bound},"interval":{last},"cumulative":{now}}}"#))
        .collect();
    format!(r#"{{"name":{name},"buckets":[{}]}}"#, shown.join(","))
}

/// `99.5` for 0.995.
fn percent(quantile: f64) -> String {
    ((quantile * 1000.0).round() / 10.0).to_string()
}

fn number(value: f64) -> String {
    if value.is_nan() { "nan".to_owned() } else { value.to_string() }
}

/// As C's `%g`, which is how Envoy writes a bound.
fn general(bound: f64) -> String {
    if bound < 1e6 { bound.to_string() } else { format!("{}e+06", bound / 1e6) }
}
